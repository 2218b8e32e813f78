"""A world: a server, a backend, writers and flushers in processes of their own, faults, and a verdict at the end."""

import asyncio
import contextlib
import os
import random
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Final

import redis

from asyncwb import AsyncwbError, Backend, Buffer, DeadLettered, OutcomeUnknown, WriteLost
from tests.harness.replication import ask
from tests.harness.servers import Server, ServerProcess
from tests.proofs.chaos import tallies
from tests.proofs.chaos.backends import Telling, make_backend
from tests.proofs.chaos.checker import Held, Violation, Wrong, check
from tests.proofs.chaos.crew import Crew, Worker
from tests.proofs.chaos.evidence import Evidence, Faults, Span
from tests.proofs.chaos.history import History, Recorder, read_history
from tests.proofs.chaos.sums import check_conditions, check_sums
from tests.proofs.chaos.worker import Job
from tests.proofs.runner.report import Report

LEASE_SECONDS: Final = 0.4
_WATCH_SECONDS: Final = 0.25
_DRAIN_SECONDS: Final = 60.0
_MOST_PROBLEMS: Final = 10


class ChaosWorld(ABC):
    """One episode.

    Args:
        number: its seed.
        scale: how much is done, 1.0 for a unit of the proof.

    Attributes:
        kind: its name.
        updates: whether there are updates and writes on conditions; else there is on_full="write-through". No
            namespace can have both.
        backend_url: for `make_backend`; set by `prepare`.
    """

    kind: ClassVar[str]
    keys: ClassVar[int] = 400
    writers: ClassVar[int] = 2
    flushers: ClassVar[int] = 3
    server_config: ClassVar[dict[str, str]] = {}
    writer: ClassVar[dict[str, Any]] = {}
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, number: int, scale: float = 1.0) -> None:
        self.number = number
        self.scale = scale
        self.rng = random.Random(number)
        # Two of three, and so that each kind of world comes with both in its turn.
        self.updates = (number + number // 12) % 3 != 1
        self.faults = Faults()
        self.report = Report()
        self.backend_url = ""
        self.backward: list[Violation] = []
        self.sums: dict[str, Any] = {}
        self.folder: Path
        self.crew: Crew
        self.server: Server
        self.reader: Backend

    # What a kind of world does

    @abstractmethod
    async def harm(self) -> None:
        """Does its faults, and heals what would keep the world from draining."""

    @abstractmethod
    def count(self, evidence: Evidence, counts: "Counter[str]") -> None:
        """Counts the faults that took effect."""

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        """Starts the server and names the backend."""
        self.server = await self.start_server(stack)
        self.backend_url = f"sqlite:{self.folder}/a.db"

    @property
    def url(self) -> str:
        """Where clients find Redis."""
        return self.server.url

    @property
    def flusher_url(self) -> str:
        """Where flushers find it."""
        return self.url

    def verdict(self, history: History, final: dict[str, Held]) -> list[Violation]:
        """What the checkers find."""
        registers = history.of_registers()
        found = check(registers.operations, registers.saves, final, numbered=not self.updates)
        return [*found, *check_conditions(history.operations), *check_sums(history.operations, self.sums)]

    @property
    def all_keys(self) -> list[str]:
        """The keys that are written here."""
        return [*self.registers, *tallies.KEYS] if self.updates else self.registers

    @property
    def registers(self) -> list[str]:
        """Those that are written as whole values."""
        return [f"{tallies.REGISTER}{number}" for number in range(self.keys)]

    # The course of a world

    async def run(self) -> Report:
        with _folder() as self.folder:
            async with contextlib.AsyncExitStack() as stack:
                (self.folder / "history").mkdir()
                self.crew = await stack.enter_async_context(Crew.started())
                self.crew.guard(0, self.folder)
                await self.prepare(stack)
                self.reader = make_backend(self.backend_url)
                stack.push_async_callback(self.reader.close)
                await self.reader.open(namespace="chaos")
                await self._populate()
                watching = asyncio.create_task(self._watch())
                try:
                    await self.harm()
                    await self.crew.hold()
                    await self.crew.held()
                    self.crew.check()
                    final = await self._drained()
                finally:
                    watching.cancel()
                    await asyncio.wait([watching])
                if not watching.cancelled():
                    watching.result()
            self._judge(read_history(self.folder / "history"), final)
        return self.report

    async def start_server(self, stack: contextlib.AsyncExitStack) -> Server:
        """One that ends with this world."""
        server = await asyncio.to_thread(lambda: Server("valkey", environment=None, **self.server_config))
        stack.callback(server.stop)
        self.guard(server)
        return server

    def guard(self, server: ServerProcess) -> None:
        """Has it end with this process; to be told at every start."""
        self.crew.guard(server.pid, server._folder)

    def times(self, count: int) -> range:
        """So often, by the scale of this world."""
        return range(max(1, round(count * self.scale)))

    async def start_writer(self) -> Worker:
        return await self._start("writer", updates=self.updates, **self.writer)

    async def start_flusher(self) -> Worker:
        # One in four has a clock that is wrong, where the backend has none of its own.
        backend = self.backend_url
        if self.rng.random() < 0.25:
            backend = backend.replace("sqlite:", "ahead:")
        # One in four commits as the article does, record by record.
        if self.rng.random() < 0.25:
            return await self._start("flusher", backend=backend, commit="watch", batch_size=20, pause_seconds=0.001)
        return await self._start("flusher", backend=backend, batch_size=60, pause_seconds=0.02)

    async def kill_worker(self, role: str, *, settle: bool = True) -> None:
        """Kills one at random and starts another in its place."""
        victim = self.rng.choice(self.crew.some(role))
        begun = time.monotonic_ns()
        ended = await self.crew.kill(victim)
        self.faults.kills.append(Span(begun, ended, victim.number))
        if role == "writer":
            if settle:
                await self._settle(victim)
            await self.start_writer()
        else:
            await self.start_flusher()

    def buffer(self, redis: str = "", **options: Any) -> Buffer[Any]:
        """One for this process."""
        recorder = Recorder(self.folder / "history", 0)
        backend = Telling(make_backend(self.backend_url), recorder, pause_seconds=0.0, rng=self.rng)
        return Buffer[Any](redis or self.url, backend=backend, **{**self._options(), **options})

    async def _populate(self) -> None:
        flushers = [self.start_flusher() for _ in range(self.flushers)]
        await asyncio.gather(*flushers, *(self.start_writer() for _ in range(self.writers)))

    async def _start(self, role: Any, **changes: Any) -> Worker:
        ready = changes.pop("ready", True)
        backend = changes.pop("backend", self.backend_url)
        own = {name: changes.pop(name) for name in ("commit", "batch_size") if name in changes}
        options = self._options(flushers=2 if role == "flusher" else 0, **own)
        job = Job(
            worker=0, role=role, redis=self.flusher_url if role == "flusher" else self.url,
            backend=backend, history=f"{self.folder}/history",
            keys=self.keys, options=options, **changes,
        )  # fmt: skip
        return await self.crew.start(job, ready=ready)

    def _options(self, **more: Any) -> dict[str, Any]:
        own = {} if self.updates else {"on_full": "write-through"}
        return {
            "namespace": "chaos", **own, "lease_seconds": LEASE_SECONDS, "connect_timeout_seconds": 20.0,
            "max_attempts": None, "retry_max_seconds": 0.5, "probe_seconds": 0.1, **self.options, **more,
        }  # fmt: skip

    async def _settle(self, victim: Worker) -> None:
        """When the server has closed a dead writer's connections, it has done all that it ever will for it."""
        name = f"name=worker{victim.number} "
        with contextlib.suppress(redis.RedisError, OSError):
            while name in str(await asyncio.to_thread(ask, self.server, "CLIENT", "LIST")):
                await asyncio.sleep(0.005)
            self.faults.settled[victim.number] = time.monotonic_ns()

    async def _watch(self) -> None:
        """The versions in the backend never decrease."""
        load = getattr(self.reader, "load_durable", self.reader.load)
        seen: dict[str, int] = {}
        while True:
            with contextlib.suppress(AsyncwbError, OSError):
                held = await load(self.all_keys)
                for key, version in seen.items():
                    now = held[key].version if key in held else 0
                    if now < version:
                        self.backward.append(Violation("stale", key, f"the backend went from {version} to {now}"))
                seen = {key: record.version for key, record in held.items()}
            await asyncio.sleep(_WATCH_SECONDS)

    async def _drained(self) -> dict[str, Held]:
        """What the backend holds when everything is saved."""
        async with self.buffer(flushers=2) as heir:
            try:
                await heir.drain(timeout=_DRAIN_SECONDS)
            except (WriteLost, OutcomeUnknown, DeadLettered) as error:
                self.report.problems.append(f"the last drain raised {error!r}")
            stats = await heir.stats()
        if stats.dead or stats.dirty or stats.leased:
            self.report.problems.append(f"drained, but {stats}")
        left = [name for name in await asyncio.to_thread(ask, self.server, "KEYS", "*") if b":rec:" in name]
        if left:
            self.report.problems.append(f"drained, but {len(left)} records are left in Redis: {left[:3]}")
        loaded = await self.reader.load(self.all_keys)
        self.sums = {
            key: None if record.deleted else record.value
            for key, record in loaded.items()
            if not tallies.is_register(key)
        }
        return {
            key: Held(tallies.value_id(record), record.version)
            for key, record in loaded.items()
            if tallies.is_register(key)
        }

    def _judge(self, history: History, final: dict[str, Held]) -> None:
        report = self.report
        evidence = Evidence(history, self.faults)
        evidence.bound_unknown()
        self.count(evidence, report.counts)
        report.problems += self.crew.bugs
        report.counts["operations checked for linearizability"] += len(history.operations)
        written = [each for each in history.operations if each.writes and each.outcome != "failed"]
        report.counts["updates applied once"] += sum(each.kind == "update" for each in written)
        report.counts["writes on a condition that was met"] += sum(each.expected is not None for each in written)
        violations = self.verdict(history, final) + self.backward
        by_kind = Counter[Wrong](each.wrong for each in violations)
        report.lost += by_kind["lost"]
        report.stale += by_kind["stale"] + by_kind["order"] + by_kind["future"]
        report.resurrected += by_kind["resurrected"]
        again = f"uv run python -m tests.proofs.chaos {self.kind} --seed {self.number} --seconds {20 * self.scale:.0f}"
        report.problems += [f"{each} ({again})" for each in violations[:_MOST_PROBLEMS]]
        if len(violations) > _MOST_PROBLEMS:
            report.problems.append(f"and {len(violations) - _MOST_PROBLEMS} more: {dict(by_kind)} ({again})")


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    # Processes are killed here, and never the machine: nothing depends on a disk, and its speed is not at issue.
    memory = Path("/dev/shm")
    roomy = "TMPDIR" not in os.environ and memory.is_dir() and shutil.disk_usage(memory).free > 2**30
    folder = Path(tempfile.mkdtemp(prefix="wb-chaos-", dir=memory if roomy else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
