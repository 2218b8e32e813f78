"""Backends that are wrong when several tasks or objects use them, or when a call is cancelled."""

import asyncio
from collections.abc import Sequence
from typing import Any

from asyncwb import BackendUnavailable, Record
from asyncwb.testing import MemoryBackend

from .sound import InMemory, OnDisk, OneFile


class LooksThenWrites(MemoryBackend):
    """Reads the stored version, and writes only after another task has had its turn."""

    async def save(self, records: Sequence[Record]) -> int:
        newer = [
            each for each in records if each.key not in self.records or self.records[each.key].version < each.version
        ]
        await asyncio.sleep(0.001)
        self.records.update({record.key: record for record in newer})
        return len(records) - len(newer)


class TestLooksThenWrites(InMemory):
    made = LooksThenWrites


class LosesOnCancel(MemoryBackend):
    """A lock that a cancelled save keeps for good."""

    def __init__(self) -> None:
        super().__init__()
        self._free = asyncio.Event()
        self._free.set()

    async def save(self, records: Sequence[Record]) -> int:
        try:
            async with asyncio.timeout(1):
                await self._free.wait()
        except TimeoutError as error:
            raise BackendUnavailable("locked") from error
        self._free.clear()
        await asyncio.sleep(0)
        stale = await super().save(records)
        self._free.set()
        return stale


class TestLosesOnCancel(InMemory):
    made = LosesOnCancel


class TornByCancel(MemoryBackend):
    """Writes the version first and the value later, so that a cancellation in between tears them apart."""

    async def save(self, records: Sequence[Record]) -> int:
        stale = 0
        for each in records:
            if each.key in self.records and self.records[each.key].version >= each.version:
                stale += 1
                continue
            old = self.records.get(each.key)
            self.records[each.key] = Record(each.key, each.version, old.payload if old else b'{"n":0,"text":""}')
            await asyncio.sleep(0)
            self.records[each.key] = each
        return stale


class TestTornByCancel(InMemory):
    made = TornByCancel


class RepeatsEpochs(MemoryBackend):
    async def new_epoch(self, at_least: int) -> int:
        epoch = await super().new_epoch(0)
        await asyncio.sleep(0)
        if at_least:
            self._epoch = epoch = max(epoch + 1, at_least)
        return epoch


class TestRepeatsEpochs(InMemory):
    made = RepeatsEpochs


class ReadsOnceAndForAll(OneFile):
    """Keeps a cache of its own, which never learns of the saves of others."""

    cache: Any = None

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        self.cache = self.cache or {}
        missing = [key for key in keys if key not in self.cache]
        self.cache.update(await super().load(missing))
        return {key: self.cache[key] for key in keys if key in self.cache}

    async def save(self, records: Sequence[Record]) -> int:
        self.cache = None
        return await super().save(records)


class TestReadsOnceAndForAll(OnDisk):
    made = ReadsOnceAndForAll


class ShowsWhatIsNotCommitted(MemoryBackend):
    """Shares one connection: a load during a save sees writes that are rolled back if the save is cancelled."""

    async def save(self, records: Sequence[Record]) -> int:
        before = dict(self.records)
        try:
            stale = await super().save(records)
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.records = before
            raise
        return stale


class TestShowsWhatIsNotCommitted(InMemory):
    made = ShowsWhatIsNotCommitted
