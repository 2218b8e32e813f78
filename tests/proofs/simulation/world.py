"""One simulated world: services that write, read and flush, the faults that its seed has for them, and its end."""

import asyncio
import contextvars
import random
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

from asyncwb.errors import AsyncwbError, DeadLettered
from asyncwb.events import Event, FlusherCrashed, TaskCrashed
from asyncwb.protocol import scripts
from asyncwb.protocol.keys import PartitionKeys
from asyncwb.protocol.wire import pack_epoch
from asyncwb.settings import Durability
from tests.proofs.simulation.buffer import SimulatedBuffer
from tests.proofs.simulation.changes import Changes, Credulous
from tests.proofs.simulation.clients import Client
from tests.proofs.simulation.commands import Command
from tests.proofs.simulation.documents import Document
from tests.proofs.simulation.loop import OWNER, Process, SimulatedLoop
from tests.proofs.simulation.lua import ScriptHost
from tests.proofs.simulation.misfortunes import Misfortunes
from tests.proofs.simulation.network import Network
from tests.proofs.simulation.oracle import Oracle
from tests.proofs.simulation.result import Result
from tests.proofs.simulation.server import ModelServer
from tests.proofs.simulation.storage import SimulatedBackend, Storage, StorageFaults
from tests.proofs.simulation.updates_oracle import UpdatesOracle
from tests.proofs.simulation.updating_client import UpdatingClient, change_of

NAMESPACE = "simulated"
STEPS = 1000
"""About so many callbacks run while there are faults; then everything heals."""

_MOST_STEPS = 20_000
_PATIENCE_SECONDS = 5.0
"""Every lease and every pause of a world is over by then, one after the other."""
_LATE = "late"
_LATEST_SECONDS = 2.5
"""No request is under way for longer, see `Network` and `SimulatedBackend`."""


@cache
def _host() -> ScriptHost:
    """Compiles each script once for all worlds; only now, for Pythons without lupa import this, too."""
    return ScriptHost()


class SimulatedWorld:
    """All that happens for one seed.

    Args:
        seed: of everything.
        changes: what is broken on purpose.
        narrate: is told what happens.

    Attributes:
        possible: what may happen in it.
        calm: nothing goes wrong, but that loads hang in the backend.
        orderly: all that a process has left behind was removed, or has to expire.
        clock_ahead_ms: of the server.
        updating: whether it has updates and writes on conditions; then it has no write-through.
        client: who calls.
        updating_share: of worlds that aren't calm, how many are updating.
        long_bytes: from which length on records with updates are folded; one of these.
    """

    updating_share = 0.4
    long_bytes: tuple[int, ...] = (200, 500, 4096)

    def __init__(self, seed: int, changes: Changes | None = None, *, narrate: Any = None) -> None:
        changes = changes or Changes()
        self.seed = seed
        self.rng = rng = random.Random(seed)
        self.loop = SimulatedLoop(random.Random(rng.random()))  # type: ignore[abstract] # what asyncio and anyio ask for is there
        self.counts: Counter[str] = Counter()
        self.oracle = Oracle()
        self.possible = Misfortunes(self)
        self._narrate = narrate
        self._judged = changes.judged
        self._digest = 0
        self.loop.trace = self._trace
        self.context = contextvars.copy_context()
        self.context.run(OWNER.set, self.loop.world)
        self.storage = self.oracle.storage = Storage(
            self._on_apply, conditional=changes.conditional, based=changes.based
        )
        self.storage_faults = StorageFaults(rng)
        self.network = Network(self.loop, rng, self.context, self.counts, self._on_step)
        self.network.changed = dict(changes.scripts)
        self.clock_ahead_ms = 0
        # In coarse steps what happens one after the other happens at the same time: deadlines meet.
        self._clock_step_ms = rng.choice((1, 1, 20, 100))
        self.oracle.clock = self.loop.time
        self.server = ModelServer(self._server_ms, self.identity(), _host(), on_write=self._on_write)
        self.durability: Durability = rng.choice(("memory", "memory", "fsync", "replicated"))
        self.server.info = {"aof_enabled": "1", "appendfsync": "everysec", "connected_slaves": "1"}
        self.network.server = self.server
        self.settings = self._settings()
        self.oracle.most_dirty = self.settings.get("max_dirty")
        count = self.settings["partitions"]
        self.oracle.partitions = [PartitionKeys(NAMESPACE, n, count) for n in range(count)]
        self.keys = [f"k{number}" for number in range(rng.choice((1, 2, 2, 4, 8)))]
        if rng.random() < 0.15:
            self.storage_faults.deadly = frozenset({rng.choice(self.keys)})
        self.healed = False
        self.orderly = True
        # Of its own, so that other worlds stay as they are.
        special = random.Random(f"special {seed}")
        self.calm = special.random() < 0.15
        if self.calm:
            self.network.faults.end()
            self.storage_faults.end()
            self.storage_faults.hang, self.storage_faults.hold = 0.5, self.keys[0]
        elif special.random() < 0.2:
            self.storage_faults.reject = 0.7
            self.settings["on_full"], self.settings["max_dirty"] = special.choice(("wait", "wait", "raise")), 1
            self.oracle.most_dirty = 1
        special = random.Random(f"updates {seed}")
        self.updating = not self.calm and special.random() < self.updating_share
        self.client: type[Client] = UpdatingClient if self.updating else Client
        if self.updating:
            self._begin_updates(special)
        self.values = iter(range(1, 10**9))
        self.services: dict[Process, asyncio.Task[None]] = {}

    def _begin_updates(self, rng: random.Random) -> None:
        """A namespace has either updates or write-through."""
        if self.settings["on_full"] == "write-through":
            self.settings["on_full"] = rng.choice(("wait", "raise"))
        before, self.oracle = self.oracle, UpdatesOracle()
        for name in ("storage", "clock", "most_dirty", "partitions"):
            setattr(self.oracle, name, getattr(before, name))
        # Records are soon so long that they are folded.
        put = self.network.changed.get(scripts.PUT.name, scripts.PUT.source)
        self.network.changed[scripts.PUT.name] = put.replace("LONG = 4096", f"LONG = {rng.choice(self.long_bytes)}")

    def run(self) -> Result:
        """Runs it to its end, or until something doesn't hold."""
        for _ in range(self.rng.randint(1, 3)):
            self.start_service(flushes=True if not self.services else self.rng.random() < 0.7)
        self.loop.spawn(self.loop.world, self._faults())
        special = random.Random(f"namespace {self.seed}")  # of its own, so that other worlds stay as they are
        if special.random() < 0.15:
            for _ in range(special.randint(1, 3)):
                self.network.later(special.uniform(0.0, 3.0), self.possible.lose_namespace)
        self._run_until(lambda: self.loop.steps >= STEPS or self._all_ended())
        self._heal()
        if not self._run_until(self._all_ended):
            names = [process.name for process, task in self.services.items() if not task.done()]
            self.oracle.fail(f"hang: {names} don't end after everything has healed")
        if not (self.oracle.problems or self.loop.errors):
            self._end()
        for error in self.loop.errors:
            self.oracle.fail(f"raised into the loop: {error}")
        result = Result(self.seed, self.loop.steps, self.oracle, self.counts, self._digest)
        self.network.server = None
        self.loop.finish()
        return result

    def _end(self) -> None:
        """What is left is drained by one more service; then everything has to be in its place."""
        last = self.loop.spawn(self.loop.new_process("last"), self._last())
        if not self._run_until(last.done):
            self.oracle.fail("hang: the last service can't drain what is left")
        elif last.done() and (error := last.exception()) is not None:
            self.oracle.fail(f"the last service failed: {error!r}")
        elif last.done():
            self.oracle.at_the_end(self.server, self.network.overdue if self.orderly else None)
            self.counts["world without litter"] += self.orderly

    def _run_until(self, done: Callable[[], bool]) -> bool:
        return self.loop.run_until(
            lambda: done() or bool(self.oracle.problems or self.loop.errors), most_steps=_MOST_STEPS
        )

    # Services

    def _settings(self) -> dict[str, Any]:
        rng = self.rng
        options: dict[str, Any] = {
            "namespace": NAMESPACE,
            "partitions": rng.choice((1, 1, 2)),
            "commit": rng.choice(("script", "watch")),
            "durability": self.durability,
            "lease_seconds": rng.choice((0.1, 0.3, 1.0)),
            "max_delay_seconds": rng.choice((0.0, 0.0, 0.05)),
            "on_full": rng.choice(("raise", "wait", "write-through")),
            "full_timeout_seconds": 0.5,
            "max_attempts": rng.choice((2, None)),
            "save_timeout_seconds": 0.4,
            "connect_timeout_seconds": 1.0,
            "drain_timeout_seconds": 5.0,
            "redis_timeout_seconds": 0.25,
            "redis_retry_seconds": rng.choice((0.3, 3.0)),
            "retry_initial_seconds": 0.01,
            "retry_max_seconds": 0.5,
            "probe_seconds": 0.1,
            "backoff_initial_seconds": 0.02,
            "backoff_max_seconds": 0.2,
        }
        if rng.random() < 0.3:
            options["max_dirty"] = rng.randint(1, 4)
        return options

    def buffer(self, **options: Any) -> SimulatedBuffer[Any]:
        """The buffer of a process."""
        rng = random.Random(self.rng.random())
        backend = SimulatedBackend(self.storage, self.storage_faults, rng, self.context, self.counts, self.possible.die)
        settings = {**self.settings, **options}
        type_: Any = Document if self.updating else int
        buffer = SimulatedBuffer[Any](
            self.network, rng, backend=backend, type=type_, observer=self._observe, **settings
        )
        if not self._judged:
            buffer._backend._judge = Credulous("broken")
        return buffer

    def start_service(self, *, flushes: bool) -> None:
        process = self.loop.new_process(f"P{len(self.loop.processes)}")
        self.services[process] = self.loop.spawn(process, self._service(flushers=self.rng.randint(1, 3) * flushes))

    async def _service(self, flushers: int) -> None:
        rng = random.Random(self.rng.random())
        buffer = self.buffer(flushers=flushers, durability=rng.choice((self.durability, "memory")))
        while True:
            try:
                await buffer.open()
                break
            except AsyncwbError:
                if self.healed:
                    raise
                await asyncio.sleep(rng.random() * 0.1)
        clients = [self.client(self, buffer, rng) for _ in range(rng.randint(1, 4))]
        tasks = [asyncio.create_task(client.run()) for client in clients]
        self._cancel_some(tasks, rng)
        if rng.random() < 0.3:  # it closes amid the calls of its clients
            self.note("closed amid calls")
            await asyncio.wait(tasks, timeout=rng.random())
            await buffer.aclose(drain=rng.random() < 0.5)
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                self.oracle.fail(f"a client has ended with {outcome!r}")
        acknowledged = sorted(write for client in clients for write in client.acknowledged)
        looked_up = {version for client in clients for version in client.looked_up}
        self.oracle.in_order([(key, version) for _, key, version in acknowledged if version not in looked_up])
        self.orderly = self.orderly and self.healed
        await buffer.aclose(drain=rng.random() < 0.5)

    def _cancel_some(self, tasks: list[asyncio.Task[None]], rng: random.Random) -> None:
        def cancel(task: asyncio.Task[None]) -> None:
            if not task.done():
                self.counts["caller cancelled"] += 1
                task.cancel()

        for task in tasks:
            if rng.random() < 0.3:
                asyncio.get_running_loop().call_later(rng.random(), cancel, task)

    async def _last(self) -> None:
        # What is still under way arrives first, also puts that nobody waits for any more.
        await asyncio.sleep(_LATEST_SECONDS)
        async with self.buffer(flushers=0, durability="memory", max_dirty=None) as buffer:
            await self._write_late(buffer)
            if self.rng.random() < 0.5:
                self.possible.clock()
            if self.rng.random() < 0.5:
                await self._write_late(buffer)
        # Its leases outlast its saves, also by a coarse clock: an ack that is too late leaves records where they are.
        buffer = self.buffer(flushers=2, durability="memory", max_dirty=None, lease_seconds=1.0)
        async with buffer:
            # Nothing is hastened: what was scheduled, leased or delayed by whichever clock is due within its time.
            await asyncio.sleep(_PATIENCE_SECONDS)
            self.oracle.nothing_waits(self.server)
            while True:
                await buffer.retry_dead([*self.keys, _LATE])
                before, begin = self.oracle.unsaved(), self.oracle.clock()
                try:
                    await buffer.drain()
                except DeadLettered:
                    continue
                if not (await buffer.stats()).dead:
                    break
            self.oracle.drained(before, {keys.meta: begin for keys in self.oracle.partitions}, {})
            for key in self.keys:
                begin = self.oracle.tick()
                self.oracle.read(key, await buffer.get(key), begin)
            if strays := await buffer.audit():
                self.oracle.fail(f"I1: audit has found {strays} strays")

    async def _write_late(self, buffer: SimulatedBuffer[Any]) -> None:
        """A key of its own, so that it hides nothing that became of the others."""
        number = next(self.values)
        if isinstance(self.oracle, UpdatesOracle):
            self.oracle.kinds[number] = "update"
            version = await buffer.update(_LATE, change_of(number))
        else:
            version = await buffer.set(_LATE, number)
        self.oracle.acknowledged(_LATE, number, version)

    def _all_ended(self) -> bool:
        return all(task.done() or process.dead for process, task in self.services.items())

    # Faults

    def misfortunes(self) -> list[Callable[[], None]]:
        """What may happen in this world."""
        return self.possible.some()

    async def _faults(self) -> None:
        """One misfortune after the other, as long as the world isn't healed."""
        rng, chosen = self.rng, self.misfortunes()
        if self.calm or not chosen:
            return
        pace = rng.choice((0.05, 0.3, 1.0))
        while not self.healed:
            await asyncio.sleep(rng.expovariate(1 / pace))
            if not self.healed:
                rng.choice(chosen)()

    def _heal(self) -> None:
        self.healed = True
        self._narrating("everything heals")
        self.network.faults.end()
        self.storage_faults.end()
        self.network.lagging = False
        self.network.server = self.server
        self.server.full = self.storage.down = False
        self.possible.answering()
        self.possible.configured()
        for process in self.services:
            process.frozen = False

    # What is watched

    def holds(self, key: str) -> bool:
        """Whether Redis has a record of a key, of its present epoch, and nothing but the backend makes anyone wait."""
        keys = self.oracle.partition(key)
        record: bytes | None = self.server.data.get(keys.record(key.encode()))
        if record is None or not self.calm or key != self.storage_faults.hold:
            return False
        return record[:4] == pack_epoch(int(self.server.data[keys.meta][b"epoch"]))

    def _on_write(self, command: Command) -> None:
        self.oracle.on_write(self.server, command)

    def _on_step(self, name: str) -> None:
        self._narrating(name)
        self.oracle.on_step(self.server, name)

    def _on_apply(self, record: Any, held: Any) -> None:
        self._narrating(f"backend stores {record.key} {record.version:x}")
        self.oracle.on_apply(record, held)

    def _observe(self, event: Event) -> None:
        if isinstance(event, FlusherCrashed | TaskCrashed):
            self.oracle.fail(f"background work has crashed: {event!r}")

    def _trace(self, process: Process) -> None:
        self._digest = hash((self._digest, self.loop.processes.index(process), round(self.loop.time() * 1e6)))

    def note(self, text: str, kind: str = "") -> None:
        self.counts[kind or text] += 1
        self._narrating(text)

    def _narrating(self, text: str) -> None:
        if self._narrate is not None:
            self._narrate(f"{self.loop.steps:6} {self.loop.time() - 1000:9.4f} {text}")

    def identity(self) -> str:
        return f"{self.rng.getrandbits(160):040x}"

    def _server_ms(self) -> int:
        now = 1_700_000_000_000 + round(self.loop.time() * 1000) + self.clock_ahead_ms
        return now - now % self._clock_step_ms


def run_seed(seed: int, changes: Changes | None = None, *, narrate: Any = None) -> Result:
    """Runs the world of a seed."""
    return SimulatedWorld(seed, changes, narrate=narrate).run()
