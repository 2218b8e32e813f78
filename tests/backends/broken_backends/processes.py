"""Backends that are wrong when several processes use them, and one is killed or frozen."""

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from asyncwb import Record

from .sound import OnDisk, OneFile


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
    """Writes a file for each version and removes older ones, but treats a listing of the folder as a snapshot."""

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


class WritesBehind(OneFile):
    """Answers a save before it has written; a load returns what will be written."""

    held: Any = None
    writing: asyncio.Task[None] | None = None

    def read(self) -> Any:
        return super().read() if self.held is None else self.held

    def write(self, held: Any) -> None:
        self.held = held
        if self.writing is None:
            self.writing = asyncio.create_task(self.write_soon())

    async def write_soon(self) -> None:
        await asyncio.sleep(0)
        super().write(self.held)
        self.held = self.writing = None

    async def close(self) -> None:
        if self.writing is not None:
            await self.writing


class TestWritesBehind(OnDisk):
    made = WritesBehind


class WritesBehindInAThread(OneFile):
    def write(self, held: Any) -> None:
        threading.Timer(0.02, super().write, (held,)).start()


class TestWritesBehindInAThread(OnDisk):
    made = WritesBehindInAThread
