"""Backends that are wrong about values, about records that they refuse, and in what they answer."""

from collections.abc import Sequence
from typing import Any

from asyncwb import BackendUnavailable, Limits, Record, RecordRejected, SaveError
from asyncwb.testing import MemoryBackend
from asyncwb.testing.contract import version

from .sound import InMemory


class ForgetsCodec(MemoryBackend):
    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        found = await super().load(keys)
        return {key: Record(key, each.version, each.payload, deleted=each.deleted) for key, each in found.items()}


class TestForgetsCodec(InMemory):
    made = ForgetsCodec


class FailsForMissingKeys(MemoryBackend):
    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        return {key: self.records[key] for key in keys}


class TestFailsForMissingKeys(InMemory):
    made = FailsForMissingKeys


class RejectsWholeBatches(MemoryBackend):
    async def save(self, records: Sequence[Record]) -> int:
        if any(b"poison" in record.payload for record in records):
            raise SaveError({record.key: RecordRejected("poison in the batch") for record in records})
        return await super().save(records)


class TestRejectsWholeBatches(InMemory):
    made = RejectsWholeBatches

    def poison(self) -> Sequence[Record]:
        return [Record("9", version(1), b'"poison"')]


class NamesItsOwnKeys(MemoryBackend):
    """Reports a failed record under a name of its own instead of asyncwb's key."""

    async def save(self, records: Sequence[Record]) -> int:
        poison = [record for record in records if b"poison" in record.payload]
        stale = await super().save([record for record in records if record not in poison])
        if poison:
            raise SaveError({f"row {each.key}": RecordRejected("poison") for each in poison}, stale=stale)
        return stale


class TestNamesItsOwnKeys(InMemory):
    made = NamesItsOwnKeys

    def poison(self) -> Sequence[Record]:
        return [Record("9", version(1), b'"poison"')]


class AnswersNothing(MemoryBackend):
    async def save(self, records: Sequence[Record]) -> Any:
        await super().save(records)


class TestAnswersNothing(InMemory):
    made = AnswersNothing


class AnswersWhetherAnyWasStale(MemoryBackend):
    async def save(self, records: Sequence[Record]) -> int:
        return bool(await super().save(records))


class TestAnswersWhetherAnyWasStale(InMemory):
    made = AnswersWhetherAnyWasStale


class LoadsWhatNobodyAskedFor(MemoryBackend):
    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        return dict(self.records)


class TestLoadsWhatNobodyAskedFor(InMemory):
    made = LoadsWhatNobodyAskedFor


class ForgetsEscaping(MemoryBackend):
    """Its limit doesn't allow for the quotes and backslashes that are doubled in its statements."""

    def __init__(self) -> None:
        super().__init__(Limits(max_value_bytes=2**20))

    async def save(self, records: Sequence[Record]) -> int:
        for each in records:
            if len(self.written(each)) > 2**20 + 4096:
                raise BackendUnavailable("the packet is too large")
        return await super().save(records)

    def written(self, record: Record) -> bytes:
        return record.payload.replace(b"\\", b"\\\\").replace(b"'", b"''")


class TestForgetsEscaping(InMemory):
    made = ForgetsEscaping


class WritesBytesAsText(ForgetsEscaping):
    def written(self, record: Record) -> bytes:
        return repr(record.payload).encode() if record.codec == "bytes" else record.payload


class TestWritesBytesAsText(InMemory):
    made = WritesBytesAsText
