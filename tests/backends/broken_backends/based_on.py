"""Backends that are wrong about records that are based on a version; and a sound one."""

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from asyncwb import Backend, Record, SaveError
from asyncwb.testing import MemoryBackend

from .sound import InMemory


class Compares(MemoryBackend):
    """A sound backend, which asks its method `applies` about records that have a base."""

    async def save(self, records: Sequence[Record]) -> int:
        return sum([await self.save_one(record) for record in records])

    async def save_one(self, record: Record) -> int:
        if record.based_on is None:
            return await super().save([record])
        if not self.applies(record, record.based_on, self.records.get(record.key)):
            return 1
        self.records[record.key] = msgspec.structs.replace(record, based_on=None)
        return 0

    def applies(self, record: Record, based_on: int, held: Record | None) -> bool:
        return based_on == (held.version if held else 0)


class InMemoryWithBases(InMemory):
    made: ClassVar[Any] = Compares

    async def add_unversioned(self, backend: Backend, url: str, key: str) -> None:
        assert isinstance(backend, MemoryBackend)
        backend.records[key] = Record(key, 0, b"1")


class TestSoundWithBases(InMemoryWithBases):
    pass


class IgnoresTheBase(Compares):
    """It takes each record that is newer than what is stored."""

    def applies(self, record: Record, based_on: int, held: Record | None) -> bool:
        return held is None or held.version < record.version


class TestIgnoresTheBase(InMemoryWithBases):
    made = IgnoresTheBase


class TakesOlderBases(Compares):
    def applies(self, record: Record, based_on: int, held: Record | None) -> bool:
        return (held.version if held else 0) <= based_on


class TestTakesOlderBases(InMemoryWithBases):
    made = TakesOlderBases


class RaisesForAnotherVersion(Compares):
    async def save_one(self, record: Record) -> int:
        stale = await super().save_one(record)
        if stale and record.based_on is not None:
            raise SaveError({record.key: ValueError("another version is stored")})
        return stale


class TestRaisesForAnotherVersion(InMemoryWithBases):
    made = RaisesForAnotherVersion


class NeedsARow(Compares):
    """It updates the row of that version, so that it never inserts one."""

    def applies(self, record: Record, based_on: int, held: Record | None) -> bool:
        return held is not None and based_on == held.version


class TestNeedsARow(InMemoryWithBases):
    made = NeedsARow


class InsertsWhereNothingIs(Compares):
    """Its upsert compares versions only where there is a row."""

    def applies(self, record: Record, based_on: int, held: Record | None) -> bool:
        return held is None or based_on == held.version


class TestInsertsWhereNothingIs(InMemoryWithBases):
    made = InsertsWhereNothingIs


class TakesTombstonesForNothing(Compares):
    def applies(self, record: Record, based_on: int, held: Record | None) -> bool:
        return based_on == (held.version if held and not held.deleted else 0)


class TestTakesTombstonesForNothing(InMemoryWithBases):
    made = TakesTombstonesForNothing


class TakesOnlyAbsenceForNothing(Compares):
    """It inserts what is based on nothing, and finds a row that was there before asyncwb in the way."""

    def applies(self, record: Record, based_on: int, held: Record | None) -> bool:
        return held is None if based_on == 0 else held is not None and held.version == based_on


class TestTakesOnlyAbsenceForNothing(InMemoryWithBases):
    made = TakesOnlyAbsenceForNothing


class TakesNoVersionForAnyVersion(Compares):
    """A comparison with NULL, the wrong way round."""

    def applies(self, record: Record, based_on: int, held: Record | None) -> bool:
        return super().applies(record, based_on, held) or (held is not None and held.version == 0)


class TestTakesNoVersionForAnyVersion(InMemoryWithBases):
    made = TakesNoVersionForAnyVersion


class DeletesInAnyCase(Compares):
    def applies(self, record: Record, based_on: int, held: Record | None) -> bool:
        return super().applies(record, based_on, held) or (held is not None and record.deleted)


class TestDeletesInAnyCase(InMemoryWithBases):
    made = DeletesInAnyCase


class TakesItsOwnVersion(Compares):
    """It applies a record again that it has stored already, and says so."""

    def applies(self, record: Record, based_on: int, held: Record | None) -> bool:
        return (held.version if held else 0) in (based_on, record.version)


class TestTakesItsOwnVersion(InMemoryWithBases):
    made = TakesItsOwnVersion


class ComparesBasesAsFloats(Compares):
    def applies(self, record: Record, based_on: int, held: Record | None) -> bool:
        return float(based_on) == float(held.version if held else 0)


class TestComparesBasesAsFloats(InMemoryWithBases):
    made = ComparesBasesAsFloats


class CountsOnlyPlainOnes(Compares):
    async def save(self, records: Sequence[Record]) -> int:
        stale = [await self.save_one(record) for record in records]
        alone = len(records) == 1
        return sum(each for each, record in zip(stale, records, strict=True) if alone or record.based_on is None)


class TestCountsOnlyPlainOnes(InMemoryWithBases):
    made = CountsOnlyPlainOnes


class StoresTheBase(Compares):
    async def save_one(self, record: Record) -> int:
        stale = await super().save_one(record)
        if not stale:
            self.records[record.key] = record
        return stale


class TestStoresTheBase(InMemoryWithBases):
    made = StoresTheBase


class DeclaresNothing(Compares):
    supports_based_on = False


class TestDeclaresNothing(InMemoryWithBases):
    made = DeclaresNothing


class TestDeclaresBoth(InMemoryWithBases):
    cannot = {**InMemory.cannot, "based_on": "it is too old for that"}


class LooksBeforeItsTurn(Compares):
    """It compares versions, and writes only after another task has had its turn."""

    async def save_one(self, record: Record) -> int:
        held = self.records.get(record.key)
        await asyncio.sleep(0)
        if record.based_on is not None and self.applies(record, record.based_on, held):
            self.records[record.key] = msgspec.structs.replace(record, based_on=None)
            return 0
        return await super().save_one(record)


class TestLooksBeforeItsTurn(InMemoryWithBases):
    made = LooksBeforeItsTurn


class ForgetsWhenCancelled(Compares):
    """It notes that a record is being written, and takes it for written when it comes again."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: set[int] = set()

    async def save_one(self, record: Record) -> int:
        if record.version in self.begun:
            return 1
        self.begun.add(record.version)
        await asyncio.sleep(0)
        return await super().save_one(record)


class TestForgetsWhenCancelled(InMemoryWithBases):
    made = ForgetsWhenCancelled
