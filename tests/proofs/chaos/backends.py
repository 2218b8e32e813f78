"""The backends of chaos worlds: what is saved is told to a history, and some are full, or broken on purpose."""

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from asyncwb import Backend, Codec, Limits, Record
from asyncwb.flushing import settling
from asyncwb.plugins.registry import backend_from_url
from asyncwb.protocol.pending import PendingRecord, settled
from asyncwb.updates import apply
from asyncwb_backends import filesystem
from asyncwb_backends.filesystem import readers
from asyncwb_backends.sqlite import SQLiteBackend
from asyncwb_backends.sqlite.backend import DAY_SECONDS
from asyncwb_backends.sqlite.clock import TableClock
from tests.proofs.chaos.history import Recorder
from tests.proofs.chaos.tallies import value_id

_LISTING_SECONDS: Final = 0.003


class Telling:
    """Tells of each save, and takes its time before and after it, so that kills and freezes hit every part of it."""

    def __init__(self, inner: Backend, recorder: Recorder, *, pause_seconds: float, rng: random.Random) -> None:
        self._inner = inner
        self._recorder = recorder
        self._pause_seconds = pause_seconds
        self._rng = rng
        self.open, self.close, self.load, self.new_epoch = inner.open, inner.close, inner.load, inner.new_epoch
        self.highest_version = getattr(inner, "highest_version", None)
        self.note_server = getattr(inner, "note_server", None)
        self.load_durable = getattr(inner, "load_durable", inner.load)
        self.supports_based_on = getattr(inner, "supports_based_on", False)

    @property
    def limits(self) -> Limits:
        return self._inner.limits

    async def save(self, records: Sequence[Record]) -> int:
        call = self._recorder.begin("save", [(each.key, each.version, value_id(each)) for each in records])
        try:
            await self._pause()
            stale = await self._inner.save(records)
            await self._pause()
        except BaseException as error:
            self._recorder.end(call, "failed", repr(error.__cause__ or error))
            raise
        self._recorder.end(call, "ok")
        return stale

    async def _pause(self) -> None:
        if self._pause_seconds:
            await asyncio.sleep(self._pause_seconds * self._rng.random())


class FullSQLite(SQLiteBackend):
    """A SQLite file that can't grow while there is a file `full` beside it: SQLite's own limit of pages."""

    async def save(self, records: Sequence[Record]) -> int:
        writer = self._database._writer
        assert writer is not None
        pages = 1 if (self.path.parent / "full").exists() else 2**31  # never below what the file has
        await writer.execute_fetchall(f"PRAGMA max_page_count={pages}")
        return await super().save(records)


class DeadlySQLite(SQLiteBackend):
    """Some records end the process that saves them, as a driver in C may, while there is a file `deadly` beside it."""

    async def save(self, records: Sequence[Record]) -> int:
        if any(record.key.endswith("7") for record in records) and (self.path.parent / "deadly").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().save(records)


class AheadSQLite(SQLiteBackend):
    """The clock of its process is two days ahead, and tombstones live for one."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._clock = TableClock(DAY_SECONDS, wall=lambda: time.time() + 2 * DAY_SECONDS)


class CredulousSQLite(AheadSQLite):
    """Broken: it believes that clock."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._clock._most_step = 10 * DAY_SECONDS


class EarlySQLite(SQLiteBackend):
    """Broken: it returns before it has saved."""

    async def save(self, records: Sequence[Record]) -> int:
        self._later = asyncio.create_task(self._save_later(records))
        return 0

    async def _save_later(self, records: Sequence[Record]) -> None:
        await asyncio.sleep(0.3)
        await super().save(records)


class UnconditionalSQLite(SQLiteBackend):
    """Broken: it saves whatever comes, also what is older than what it has."""

    async def save(self, records: Sequence[Record]) -> int:
        # In a thread: who has the file's lock may need this event loop to go on.
        await asyncio.to_thread(self._forget, records)
        return await super().save(records)

    def _forget(self, records: Sequence[Record]) -> None:
        with contextlib.closing(sqlite3.connect(self.path, timeout=10)) as connection, connection:
            connection.executemany("DELETE FROM chaos WHERE key = ?", [(each.key,) for each in records])


def _settled_again(pending: PendingRecord, stored: Record | None) -> Record:
    """Broken: it doesn't look which of the updates the backend's value has already."""
    if pending.base is not None or stored is None or stored.deleted or stored.version >= pending.version:
        return settled(pending, stored)
    value = apply(pending.codec, stored.payload, [entry.payload for entry in pending.entries])
    return Record(pending.key, pending.version, value or b"", codec=pending.codec, based_on=stored.version)


_listdir = os.listdir


def _list_in_two_parts(path: Any = ".") -> list[Any]:
    """A listing that shows as little as file systems may: what was there from its beginning to its end."""
    before = _listdir(path)
    time.sleep(_LISTING_SECONDS * random.random())
    after = set(_listdir(path))
    return [name for name in before if name in after]


_SQLITE = {
    "sqlite": SQLiteBackend,
    "full": FullSQLite,
    "deadly": DeadlySQLite,
    "ahead": AheadSQLite,
    "credulous": CredulousSQLite,
    "early": EarlySQLite,
    "unconditional": UnconditionalSQLite,
    "again": SQLiteBackend,
}


def make_backend(url: str) -> Backend:
    """From the URL of a plugin, or `KIND:PATH` with a kind of SQLite from this file; `blind://PATH` is of files."""
    kind, _, path = url.partition(":")
    if kind == "again":
        vars(settling)["settled"] = _settled_again
    if kind in _SQLITE:
        sqlite: Backend = _SQLITE[kind](Path(path))
        return sqlite
    if kind in ("file", "blind"):
        os.listdir = _list_in_two_parts
    if kind == "blind":
        # Broken: it doesn't look who is reading before it removes what is superseded.
        readers.present = lambda folder: frozenset()
        url = url.replace("blind", "file")
    # The registry reads what is installed, which takes half a second; not in every process of a world of many kills.
    return filesystem.from_url(url, codec=Codec()) if url.startswith("file:") else backend_from_url(url, codec=Codec())
