"""Backends that are wrong about versions, tombstones and what is stale."""

from collections.abc import Sequence

from asyncwb import Record
from asyncwb.testing import MemoryBackend

from .sound import InMemory


class IgnoresVersions(MemoryBackend):
    async def save(self, records: Sequence[Record]) -> int:
        self.records.update({record.key: record for record in records})
        return 0


class TestIgnoresVersions(InMemory):
    made = IgnoresVersions


class TakesEqualVersions(MemoryBackend):
    async def save(self, records: Sequence[Record]) -> int:
        stale = 0
        for record in records:
            if record.key in self.records and self.records[record.key].version > record.version:
                stale += 1
            else:
                self.records[record.key] = record
        return stale


class TestTakesEqualVersions(InMemory):
    made = TakesEqualVersions


class ForgetsTombstones(MemoryBackend):
    async def save(self, records: Sequence[Record]) -> int:
        stale = await super().save(records)
        for record in records:
            if record.deleted and self.records[record.key] is record:
                del self.records[record.key]
        return stale


class TestForgetsTombstones(InMemory):
    made = ForgetsTombstones


class CountsNothing(MemoryBackend):
    async def save(self, records: Sequence[Record]) -> int:
        await super().save(records)
        return 0


class TestCountsNothing(InMemory):
    made = CountsNothing


class SavesHalfABatch(MemoryBackend):
    async def save(self, records: Sequence[Record]) -> int:
        return await super().save(records[: (len(records) + 1) // 2])


class TestSavesHalfABatch(InMemory):
    made = SavesHalfABatch


class ComparesSequenceOnly(MemoryBackend):
    async def save(self, records: Sequence[Record]) -> int:
        stale = 0
        for record in records:
            held = self.records.get(record.key)
            if held is not None and held.version & 0xFFFFFFFF >= record.version & 0xFFFFFFFF:
                stale += 1
            else:
                self.records[record.key] = record
        return stale


class TestComparesSequenceOnly(InMemory):
    made = ComparesSequenceOnly


class KeepsVersionsAsFloats(MemoryBackend):
    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        found = await super().load(keys)
        for key, record in found.items():
            rounded = int(float(record.version))
            found[key] = Record(key, rounded, record.payload, codec=record.codec, deleted=record.deleted)
        return found


class TestKeepsVersionsAsFloats(InMemory):
    made = KeepsVersionsAsFloats


class TakesTheLastOfABatch(MemoryBackend):
    async def save(self, records: Sequence[Record]) -> int:
        return await super().save(list({record.key: record for record in records}.values()))


class TestTakesTheLastOfABatch(InMemory):
    made = TakesTheLastOfABatch
