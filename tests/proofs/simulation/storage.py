"""The durable storage of a simulated world, and the backend: how a process reaches it, over a faulty network."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, Final

import msgspec

from asyncwb.backend import Limits
from asyncwb.errors import BackendUnavailable, PlaceTaken, RecordRejected, SaveError
from asyncwb.plugins.places import takes_place
from asyncwb.plugins.succession import Began, with_server
from asyncwb.records import Record


class Storage:
    """What is on the disk: it outlives every process.

    What was applied is seen at once, and durable a moment later, before whoever saves it is answered.

    Args:
        on_apply: is told of each record before it is stored, with the one that was stored before.
        conditional, based: False breaks the contract, so that tests can see it being found.

    Attributes:
        records: what is seen.
        durable: key -> the version of it that a crash leaves.
    """

    def __init__(
        self, on_apply: Callable[[Record, Record | None], None], *, conditional: bool = True, based: bool = True
    ) -> None:
        self.records: dict[str, Record] = {}
        self.durable: dict[str, int] = {}
        self.down = False
        self.planted: dict[str, Record] = {}
        self.owner: str | None = None
        self._epoch = 0
        self._servers: dict[int, list[Began]] = defaultdict(list)
        self._on_apply = on_apply
        self._conditional = conditional
        self._based = based

    def opened(self, namespace: str, former: str | None) -> None:
        """Notes the first namespace. Raises PlaceTaken."""
        if takes_place(self.owner, namespace, former=former, place="the storage"):
            self.owner = namespace

    def version(self, key: str) -> int:
        """What it holds of a key, durably; 0 for nothing."""
        return self.durable.get(key, 0)

    def plant(self, record: Record) -> None:
        """Somebody copies a row of another history into it."""
        self.records[record.key] = self.planted[record.key] = record
        self.durable.pop(record.key, None)

    def sync(self) -> None:
        """Makes durable all that is seen."""
        for key, record in self.records.items():
            if record is not self.planted.get(key):
                self.durable[key] = record.version

    def apply(self, record: Record) -> bool:
        """Stores a record if it is newer, or if what it is based on is stored; whether it was."""
        held = self.records.get(record.key)
        if record.based_on is not None:
            if self._based and record.based_on != (held.version if held is not None else 0):
                return False
        elif self._conditional and held is not None and held.version >= record.version:
            return False
        record = msgspec.structs.replace(record, based_on=None)
        self._on_apply(record, held)
        self.records[record.key] = record
        return True

    def new_epoch(self, at_least: int) -> int:
        if at_least:
            self._epoch = max(self._epoch + 1, at_least)
        return self._epoch

    def note_server(self, partition: int, epoch: int, server: str) -> list[Began]:
        """Which servers began the epochs of a partition."""
        self._servers[partition] = with_server(self._servers[partition], epoch, server)
        return self._servers[partition]

    def highest(self) -> int | None:
        """The highest version that it holds."""
        return max((each.version for each in self.records.values()), default=None)


_STRAY: Final[tuple[Callable[[], BaseException], ...]] = (
    asyncio.CancelledError,
    GeneratorExit,
    lambda: BaseExceptionGroup("", [asyncio.CancelledError()]),
)


class StorageFaults:
    """How often what goes wrong between a process and the storage, from 0 to 1; and how often it did.

    Attributes:
        fail: the call fails, and nothing was done.
        fail_after: it was done, and its answer is lost.
        partial: some records of a save are stored, and the call fails.
        refuse: a record is refused on its own, for now.
        reject: a record is refused for good.
        slow: a call takes longer than its caller waits, and is done all the same.
        hang: a load likewise.
        hold: a key that isn't saved, so that Redis has it once it is written.
        stray: it raises CancelledError, or something else that isn't an Exception, though nobody has cancelled it.
        nonsense: it answers what no backend may answer; a save has done nothing then, or only a part.
        each_seconds: how long a save takes for each of its records.
        deadly: keys whose save ends the process.
    """

    def __init__(self, rng: random.Random) -> None:
        scale = rng.choice((0.0, 0.0, 0.3, 1.0))
        self.fail = 0.15 * scale * rng.random()
        self.fail_after = 0.2 * scale * rng.random()
        self.partial = 0.2 * scale * rng.random()
        self.refuse = 0.1 * scale * rng.random()
        self.reject = 0.04 * scale * rng.random()
        self.slow = 0.1 * scale * rng.random()
        self.hang = 0.0
        self.hold = ""
        self.latency = rng.choice((0.001, 0.02, 0.1))
        odd = rng.choice((0.0, 0.0, 0.0, 1.0))
        self.stray = 0.1 * odd * rng.random()
        self.nonsense = 0.1 * odd * rng.random()
        self.each_seconds = rng.choice((0.0, 0.0, 0.0, 0.03, 0.15))
        self.deadly: frozenset[str] = frozenset()

    def end(self) -> None:
        self.hold = ""
        self.fail = self.fail_after = self.partial = self.refuse = self.reject = self.slow = self.hang = 0.0
        self.stray = self.nonsense = self.each_seconds = 0.0
        self.deadly = frozenset()


class SimulatedBackend:
    """`asyncwb.Backend` of one process. What it sends arrives also if the process is dead or frozen by then."""

    supports_based_on = True

    def __init__(
        self,
        storage: Storage,
        faults: StorageFaults,
        rng: random.Random,
        world: Context,
        counts: Counter[str],
        die: Callable[[], None],
    ) -> None:
        self._storage = storage
        self._die = die
        self._faults = faults
        self._rng = rng
        self._world = world
        self._counts = counts
        self._loop = asyncio.get_running_loop()
        self.limits = Limits(
            max_batch=rng.choice((3, 1000)),
            preferred_batch=rng.choice((1, 2, 1000)),
            concurrent_saves=rng.choice((1, 3)),
        )

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        await self._call(lambda: self._storage.opened(namespace, former))

    async def close(self) -> None:
        await asyncio.sleep(0)

    async def new_epoch(self, at_least: int) -> int:
        return int(await self._call(lambda: self._storage.new_epoch(at_least)))

    async def note_server(self, partition: int, epoch: int, server: str) -> list[Began]:
        began: list[Began] = await self._call(lambda: self._storage.note_server(partition, epoch, server))
        return began

    async def highest_version(self) -> int | None:
        found: int | None = await self._call(self._storage.highest)
        return found

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        wanted = list(keys)
        found: dict[str, Record] = await self._call(
            lambda: {key: self._storage.records[key] for key in wanted if key in self._storage.records},
            hang=self._faults.hang,
        )
        if self._is_odd(self._faults.nonsense, "nonsense answered"):
            nonsense: Any = self._rng.choice([None, [], {"nobody": Record("nobody", 1)}, dict.fromkeys(wanted, b"1")])
            found = nonsense
        return found

    async def load_durable(self, keys: Sequence[str]) -> dict[str, Record]:
        found = await self.load(keys)
        await self._call(lambda: None, sync=True)
        return found

    async def save(self, records: Sequence[Record]) -> int:
        batch, faults, chance = list(records), self._faults, self._rng.random
        failed: dict[str, Exception] = {}
        for record in batch:
            if chance() < faults.reject:
                failed[record.key] = RecordRejected("rejected for good")
            elif chance() < faults.refuse or record.key == faults.hold:
                failed[record.key] = RuntimeError("refused for now")
        if failed:
            self._counts["record refused"] += len(failed)
            batch = [record for record in batch if record.key not in failed]
        part = len(batch)
        if batch and chance() < faults.partial:
            part = self._rng.randrange(len(batch))
        if batch and self._is_odd(faults.nonsense, "nonsense answered"):
            nonsense: Any = await self._answer_nonsense(batch[: self._rng.randrange(len(batch))], len(records))
            stale: int = nonsense
            return stale
        if any(record.key in faults.deadly for record in batch):
            self._die()
            await self._loop.create_future()
        if faults.each_seconds:
            await asyncio.sleep(faults.each_seconds * len(batch))
        stale = await self._call(lambda: sum(not self._storage.apply(record) for record in batch[:part]), sync=True)
        if part < len(batch):
            self._counts["save done in part"] += 1
            raise BackendUnavailable("failed in the middle of a batch")
        if failed:
            raise SaveError(failed, stale=stale)
        return int(stale)

    async def _answer_nonsense(self, saved: list[Record], asked: int) -> Any:
        """Saves a part, and says something that asyncwb must not take for the whole."""
        await self._call(lambda: [self._storage.apply(record) for record in saved], sync=True)
        answer = self._rng.choice([None, True, -1, asked + 1, SaveError({"nobody": OSError()}), SaveError({})])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _is_odd(self, chance: float, what: str) -> bool:
        odd = bool(chance) and self._rng.random() < chance
        if odd:
            self._counts[what] += 1
        return odd

    async def _call(self, work: Callable[[], Any], *, hang: float = 0.0, sync: bool = False) -> Any:
        """Has the storage do something, some time later, and if asked to `sync` make it durable some time after."""
        faults, chance = self._faults, self._rng.random
        if self._is_odd(faults.stray, "stray CancelledError of the backend"):
            error = self._rng.choice(_STRAY)()
            raise error
        done: asyncio.Future[Any] = self._loop.create_future()
        lose_before, lose_after = chance() < faults.fail, chance() < faults.fail_after
        slow = chance() < max(faults.slow, hang)
        delay = faults.latency * chance() + (self._rng.uniform(0.4, 2.0) if slow else 0.0)

        def arrive() -> None:
            answer: Any = None
            if self._storage.down or lose_before:
                self._counts["call to the backend failed"] += 1
                error: Exception | None = ConnectionError("the backend is away")
            else:
                self._counts["slow call to the backend"] += slow
                try:
                    answer, error = work(), None
                except PlaceTaken as taken:
                    answer, error = None, taken
                if lose_after:
                    self._counts["answer of the backend lost"] += 1
                    error = ConnectionError("the answer was lost")
            until_told = faults.latency * chance()
            if sync:
                self._loop.call_later(until_told * chance(), self._storage.sync, context=self._world)
            self._loop.call_later(until_told, deliver, answer, error, context=self._world)

        def deliver(answer: Any, error: Exception | None) -> None:
            if done.done():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(answer)

        self._loop.call_later(delay, arrive, context=self._world)
        return await done
