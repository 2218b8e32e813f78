"""A backend around a backend, with faults on demand; it counts what really happened."""

import asyncio
from collections.abc import Sequence

from asyncwb.backend import Backend, Limits
from asyncwb.errors import SaveError
from asyncwb.records import Record


class FaultyBackend:
    """Wraps another backend.

    Args:
        inner: the backend.
        keep_saves: whether to keep what was saved in `saves`; it adds up.

    Attributes:
        saves: the records of every call of `save`, in order, also of those that failed.
        faults: how many calls have failed on demand.
        fail_with: while set, every `save`, `load` and `new_epoch` raises it.
        fail_saves: that many next saves raise `fail_saves_with`.
        poison: key -> why its record is refused, the rest of its batch being saved.
        before_save, after_save: gates; a save waits there until they are set (they are, at first).
        save_started: set whenever a save has begun.
    """

    def __init__(self, inner: Backend, *, keep_saves: bool = True) -> None:
        self._inner = inner
        self._keep_saves = keep_saves
        self.saves: list[list[Record]] = []
        self.faults = 0
        self.fail_with: Exception | None = None
        self.fail_saves = 0
        self.fail_saves_with: Exception = ConnectionError("a fault on demand")
        self.poison: dict[str, Exception] = {}
        self.before_save = asyncio.Event()
        self.after_save = asyncio.Event()
        self.before_save.set()
        self.after_save.set()
        self.save_started = asyncio.Event()

    @property
    def limits(self) -> Limits:
        return self._inner.limits

    async def open(self) -> None:
        await self._inner.open()

    async def close(self) -> None:
        await self._inner.close()

    async def new_epoch(self, at_least: int) -> int:
        self._fail()
        return await self._inner.new_epoch(at_least)

    async def save(self, records: Sequence[Record]) -> int:
        if self._keep_saves:
            self.saves.append(list(records))
        self.save_started.set()
        await self.before_save.wait()
        self._fail()
        if self.fail_saves > 0:
            self.fail_saves -= 1
            self.faults += 1
            raise self.fail_saves_with
        refused = {record.key: self.poison[record.key] for record in records if record.key in self.poison}
        stale = await self._inner.save([record for record in records if record.key not in refused])
        await self.after_save.wait()
        if refused:
            self.faults += 1
            raise SaveError(refused, stale=stale)
        return stale

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        self._fail()
        return await self._inner.load(keys)

    def _fail(self) -> None:
        if self.fail_with is not None:
            self.faults += 1
            raise self.fail_with
