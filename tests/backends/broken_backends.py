"""Backends that are wrong, each in its own way, and the two sound ones that they are made of.

Not collected by itself: `test_contract.py` runs the contract on all of them and looks at what it finds.
"""

import asyncio
import base64
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from asyncwb import (
    Backend,
    BackendUnavailable,
    Limits,
    Record,
    RecordRejected,
    SaveError,
    takes_place,
)
from asyncwb.succession import with_server
from asyncwb.testing import MemoryBackend
from asyncwb.testing.contract import BackendContract, lifetimes, processes, version

# Most of the broken ones make the contract wait in vain.
lifetimes._SETTLE_SECONDS = processes._PROGRESS_SECONDS = 0.5  # type: ignore[misc]
processes._PATIENCE_SECONDS = 0.03  # type: ignore[misc]


class InMemory(BackendContract):
    cannot = {
        "persistence": "what is in memory ends with its process",
        "sharing": "what is in memory belongs to one object",
    }
    made: ClassVar[Any] = MemoryBackend

    @pytest.fixture
    def url(self) -> str:
        return "memory://"

    def make_backend(self, url: str) -> Backend:
        made: Backend = self.made()
        return made


class TestSoundInMemory(InMemory):
    pass


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


class FoldsCase(MemoryBackend):
    async def save(self, records: Sequence[Record]) -> int:
        return await super().save(
            [
                Record(each.key.casefold(), each.version, each.payload, codec=each.codec, deleted=each.deleted)
                for each in records
            ]
        )


class TestFoldsCase(InMemory):
    made = FoldsCase


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


class TakesTheLastOfABatch(MemoryBackend):
    async def save(self, records: Sequence[Record]) -> int:
        return await super().save(list({record.key: record for record in records}.values()))


class TestTakesTheLastOfABatch(InMemory):
    made = TakesTheLastOfABatch


class LooksThenWrites(MemoryBackend):
    """Looks, and writes after another task had its turn."""

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
    """Version first, value later."""

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


class TakesAnyNamespace(MemoryBackend):
    async def open(self, *, namespace: str, former: str | None = None) -> None:
        self.owner = None
        await super().open(namespace=namespace, former=former)


class TestTakesAnyNamespace(InMemory):
    made = TakesAnyNamespace


class HandsOverToAnybody(MemoryBackend):
    async def open(self, *, namespace: str, former: str | None = None) -> None:
        await super().open(namespace=namespace, former=former and self.owner)


class TestHandsOverToAnybody(InMemory):
    made = HandsOverToAnybody


class OverlooksItsTombstones(MemoryBackend):
    async def highest_version(self) -> int | None:
        return max((each.version for each in self.records.values() if not each.deleted), default=None)


class TestOverlooksItsTombstones(InMemory):
    made = OverlooksItsTombstones


class ForgetsServers(MemoryBackend):
    async def open(self, *, namespace: str, former: str | None = None) -> None:
        self._servers.clear()
        await super().open(namespace=namespace, former=former)


class TestForgetsServers(InMemory):
    made = ForgetsServers


class HasNoLook(MemoryBackend):
    highest_version = None  # type: ignore[assignment]


class TestHasNoLook(InMemory):
    made = HasNoLook


class RejectsWholeBatches(MemoryBackend):
    async def save(self, records: Sequence[Record]) -> int:
        if any(b"poison" in record.payload for record in records):
            raise SaveError({record.key: RecordRejected("poison in the batch") for record in records})
        return await super().save(records)


class TestRejectsWholeBatches(InMemory):
    made = RejectsWholeBatches

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


class NamesItsOwnKeys(MemoryBackend):
    """What it calls a record isn't what asyncwb calls it."""

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


class LeavesATask(MemoryBackend):
    async def open(self, *, namespace: str, former: str | None = None) -> None:
        await super().open(namespace=namespace, former=former)
        self._task = asyncio.create_task(asyncio.sleep(1000))


class TestLeavesATask(InMemory):
    made = LeavesATask


class LeavesAThread(MemoryBackend):
    async def open(self, *, namespace: str, former: str | None = None) -> None:
        await super().open(namespace=namespace, former=former)
        threading.Thread(target=threading.Event().wait, daemon=True).start()


class TestLeavesAThread(InMemory):
    made = LeavesAThread


class LeavesAFile(MemoryBackend):
    async def open(self, *, namespace: str, former: str | None = None) -> None:
        await super().open(namespace=namespace, former=former)
        os.open("/dev/null", os.O_RDONLY)


class TestLeavesAFile(InMemory):
    made = LeavesAFile


class OneFile:
    """Sound: everything in one JSON file, replaced as a whole under a lock."""

    limits = Limits(max_batch=100)

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / "all.json"
        self.lock = Path(folder) / "lock"

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        self.lock.touch()
        self.namespace = namespace
        with self.locked():
            held = self.read()
            if takes_place(held["owner"], namespace, former=former, place=str(self.path)):
                held["owner"] = namespace
                held["epoch"] += former is not None
            self.write(held)

    async def close(self) -> None:
        pass

    async def new_epoch(self, at_least: int) -> int:
        with self.locked():
            held = self.read()
            takes_place(held["owner"], self.namespace, former=None, place=str(self.path))
            if at_least:
                held["epoch"] = max(held["epoch"] + 1, at_least)
                self.write(held)
            epoch: int = held["epoch"]
            return epoch

    async def save(self, records: Sequence[Record]) -> int:
        stale = 0
        with self.locked():
            held = self.read()
            for each in records:
                if held["records"].get(each.key, [-1])[0] >= each.version:
                    stale += 1
                    continue
                payload = base64.b64encode(each.payload).decode()
                held["records"][each.key] = [each.version, payload, each.codec, each.deleted]
            self.write(held)
        return stale

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        held = self.read()["records"]
        return {
            key: Record(key, held[key][0], base64.b64decode(held[key][1]), codec=held[key][2], deleted=held[key][3])
            for key in keys
            if key in held
        }

    async def note_server(self, partition: int, epoch: int, server: str) -> list[tuple[int, str]]:
        with self.locked():
            held = self.read()
            noted = held.setdefault("servers", {}).setdefault(str(partition), [])
            noted[:] = with_server(map(tuple, noted), epoch, server)
            self.write(held)
        return [tuple(each) for each in noted]

    async def highest_version(self) -> int | None:
        return max((each[0] for each in self.read()["records"].values()), default=None)

    @contextmanager
    def locked(self) -> Iterator[None]:
        with self.lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def read(self) -> Any:
        try:
            return json.loads(self.path.read_text())
        except FileNotFoundError:
            return {"epoch": 0, "owner": None, "records": {}}

    def write(self, held: Any) -> None:
        draft = self.path.with_name(f"draft-{os.getpid()}-{id(held)}")
        draft.write_text(json.dumps(held))
        draft.rename(self.path)


class OnDisk(BackendContract):
    cannot: ClassVar[Mapping[str, str]] = {"progress": "a frozen process keeps its lock"}
    made: ClassVar[Any] = OneFile

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path)

    def make_backend(self, url: str) -> Backend:
        made: Backend = self.made(url)
        return made


class TestSoundOnDisk(OnDisk):
    pass


class WithoutALock(OneFile):
    @contextmanager
    def locked(self) -> Iterator[None]:
        yield


class TestWithoutALock(OnDisk):
    made = WithoutALock


class TestKeepsItsLock(OnDisk):
    cannot = {}


class WritesInPlace(OneFile):
    def write(self, held: Any) -> None:
        text = json.dumps(held)
        with self.path.open("w") as file:
            for start in range(0, len(text), 200):
                file.write(text[start : start + 200])
                file.flush()


class TestWritesInPlace(OnDisk):
    made = WritesInPlace


class WritesOnClose(OneFile):
    held: Any = None

    def read(self) -> Any:
        if self.held is None:
            self.held = super().read()
        return self.held

    def write(self, held: Any) -> None:
        self.held = held

    async def close(self) -> None:
        if self.held is not None:
            super().write(self.held)
            self.held = None


class TestWritesOnClose(OnDisk):
    made = WritesOnClose


class TellsNobodyOfItsNewOwner(OneFile):
    async def new_epoch(self, at_least: int) -> int:
        with self.locked():
            self.namespace = self.read()["owner"]
        return await super().new_epoch(at_least)


class TestTellsNobodyOfItsNewOwner(OnDisk):
    made = TellsNobodyOfItsNewOwner


class RemembersItsOwnerInMemory(OneFile):
    owner: str | None = None

    def read(self) -> Any:
        return {**super().read(), "owner": self.owner}

    def write(self, held: Any) -> None:
        self.owner = held["owner"]
        super().write(held)


class TestRemembersItsOwnerInMemory(OnDisk):
    made = RemembersItsOwnerInMemory


class TakesTwoAtOnce(OneFile):
    """Looks, lets others look, too, and notes its own."""

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        self.lock.touch()
        takes_place(self.read()["owner"], namespace, former=former, place="one file")
        await asyncio.sleep(0.01)
        with self.locked():
            self.write({**self.read(), "owner": namespace})
        await super().open(namespace=namespace, former=former)


class TestTakesTwoAtOnce(OnDisk):
    made = TakesTwoAtOnce


class ForgetsItsEpoch(OneFile):
    epoch = 0

    async def new_epoch(self, at_least: int) -> int:
        if at_least:
            self.epoch = max(self.epoch + 1, at_least)
        return self.epoch


class TestForgetsItsEpoch(OnDisk):
    made = ForgetsItsEpoch


class ReadsOnceAndForAll(OneFile):
    """A cache of its own that others' saves don't reach."""

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


class PurgesByItsOwnClock(OneFile):
    """Tombstones are dated and purged by the clock of whoever saves."""

    async def save(self, records: Sequence[Record]) -> int:
        stale = await super().save(records)
        with self.locked():
            held = self.read()
            for each in records:
                if each.deleted:
                    held.setdefault("deleted", {}).setdefault(each.key, time.time())
            for key, date in list(held.get("deleted", {}).items()):
                if date < time.time() - 86_400:
                    del held["deleted"][key], held["records"][key]
            self.write(held)
        return stale


class TestPurgesByItsOwnClock(OnDisk):
    made = PurgesByItsOwnClock


class ListsOnce(OneFile):
    """A file for each version; the older ones are removed, and a listing is taken for a snapshot."""

    def versions(self, key: str) -> dict[int, str]:
        names = [name for name in os.listdir(self.path.parent) if name.startswith(f"{key.encode().hex()}.")]
        return {int(name.split(".")[1]): name for name in names}

    async def save(self, records: Sequence[Record]) -> int:
        stale = await super().save(records)
        for each in records:
            known = self.versions(each.key)
            if each.version > max(known, default=0):
                (self.path.parent / f"{each.key.encode().hex()}.{each.version}").touch()
                for name in known.values():
                    (self.path.parent / name).unlink(missing_ok=True)
        return stale

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        listed = [key for key in keys if self.versions(key)]
        return await super().load(listed)


class TestListsOnce(OnDisk):
    made = ListsOnce
