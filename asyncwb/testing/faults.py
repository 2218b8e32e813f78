"""A backend that wraps another, injects faults on demand, and counts the faults that really happened."""

import asyncio
from collections.abc import Sequence

from asyncwb.backend import Backend, Limits
from asyncwb.errors import SaveError
from asyncwb.records import Record


class FaultyBackend:
    """Wraps another backend; every attribute may be changed at any time.

    Args:
        inner: the wrapped backend.
        keep_saves: whether to record saves in `saves`, which grows without limit.

    Attributes:
        inner: the wrapped backend.
        saves: the records of every call of `save`, in order, including calls that failed.
        faults: how many calls have failed on demand.
        fail_with: while set, every call except `open` and `close` raises it, and does nothing.
        fail_saves: the next so many saves raise `fail_saves_with`, and do nothing.
        fail_saves_after: the next so many saves do their work and then raise `fail_saves_with`, as if the reply were
            lost.
        fail_saves_with: the error that they raise.
        poison: key -> why its record is refused, while the rest of its batch is saved.
        batch_poison: key -> what every save that includes its record raises, without saving anything.
        delay_seconds: how long every call except `open` and `close` waits before it begins.
        before_save, after_save, before_load: gates; clear one, and every save (or load) hangs there until it is set.
        save_started: set whenever a save has begun.
    """

    def __init__(self, inner: Backend, *, keep_saves: bool = True) -> None:
        self.inner = inner
        self._keep_saves = keep_saves
        self.saves: list[list[Record]] = []
        self.faults = 0
        self.fail_with: Exception | None = None
        self.fail_saves = 0
        self.fail_saves_after = 0
        self.fail_saves_with: Exception = ConnectionError("a fault on demand")
        self.poison: dict[str, Exception] = {}
        self.batch_poison: dict[str, Exception] = {}
        self.delay_seconds = 0.0
        self.before_save = asyncio.Event()
        self.after_save = asyncio.Event()
        self.before_load = asyncio.Event()
        for gate in (self.before_save, self.after_save, self.before_load):
            gate.set()
        self.save_started = asyncio.Event()

    @property
    def shareable(self) -> bool:
        return bool(getattr(self.inner, "shareable", False))

    @property
    def supports_based_on(self) -> bool:
        return bool(getattr(self.inner, "supports_based_on", False))

    @property
    def limits(self) -> Limits:
        return self.inner.limits

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        await self.inner.open(namespace=namespace, former=former)

    async def close(self) -> None:
        await self.inner.close()

    async def new_epoch(self, at_least: int) -> int:
        await self._begin()
        return await self.inner.new_epoch(at_least)

    async def highest_version(self) -> int | None:
        """Returns what the inner backend does; None if it has no such method."""
        await self._begin()
        highest = getattr(self.inner, "highest_version", None)
        return None if highest is None else await highest()

    async def note_server(self, partition: int, epoch: int, server: str) -> list[tuple[int, str]]:
        """Returns what the inner backend does; an empty list if it keeps no servers."""
        await self._begin()
        note = getattr(self.inner, "note_server", None)
        return [] if note is None else await note(partition, epoch, server)

    async def save(self, records: Sequence[Record]) -> int:
        if self._keep_saves:
            self.saves.append(list(records))
        self.save_started.set()
        await self.before_save.wait()
        await self._begin()
        if self.fail_saves > 0:
            self.fail_saves -= 1
            raise self._fault(self.fail_saves_with)
        for record in records:
            if record.key in self.batch_poison:
                raise self._fault(self.batch_poison[record.key])
        refused = {record.key: self.poison[record.key] for record in records if record.key in self.poison}
        stale = await self.inner.save([record for record in records if record.key not in refused])
        await self.after_save.wait()
        if self.fail_saves_after > 0:
            self.fail_saves_after -= 1
            raise self._fault(self.fail_saves_with)
        if refused:
            raise self._fault(SaveError(refused, stale=stale))
        return stale

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        await self.before_load.wait()
        await self._begin()
        return await self.inner.load(keys)

    async def load_durable(self, keys: Sequence[str]) -> dict[str, Record]:
        """Calls the inner backend's `load_durable`, or its `load` if it has none."""
        await self.before_load.wait()
        await self._begin()
        found: dict[str, Record] = await getattr(self.inner, "load_durable", self.inner.load)(keys)
        return found

    async def _begin(self) -> None:
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        if self.fail_with is not None:
            raise self._fault(self.fail_with)

    def _fault(self, error: Exception) -> Exception:
        self.faults += 1
        return error
