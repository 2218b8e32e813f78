"""A SQLite file as two connections, one that writes and one that reads; its errors become asyncwb's here."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import aiosqlite
import anyio

from asyncwb import BackendUnavailable
from asyncwb_backends.sqlite.reasons import explain

_BUSY_SECONDS: Final = 10.0
_OPEN_SECONDS: Final = 10.0
_CLOSE_SECONDS: Final = 5.0

REFUSED: Final = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, OverflowError, UnicodeError)
"""What SQLite raises for one record's sake; everything else says something about the file."""

Prepare = Callable[[aiosqlite.Connection], Awaitable[None]]


class Database:
    """One file, shared with other processes; SQLite has one writer at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: aiosqlite.Connection | None = None
        self._reader: aiosqlite.Connection | None = None
        self._write_lock = asyncio.Lock()
        self._unfinished = False

    async def open(self, prepare: Prepare) -> None:
        """Connects, and lets `prepare` make its tables. Raises `BackendUnavailable`."""
        self._write_lock = asyncio.Lock()
        self._unfinished = False
        deadline = time.monotonic() + _OPEN_SECONDS
        while True:
            try:
                # Writers begin with IMMEDIATE: a transaction that starts by reading can't wait for its turn later.
                self._writer = await self._connect(isolation_level="IMMEDIATE")
                await prepare(self._writer)
                self._reader = await self._connect(isolation_level=None)
            except sqlite3.Error as error:
                await self.close()
                # Two processes that switch a new file to WAL at the same time collide whatever the busy timeout.
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise self._unavailable(error) from error
                await asyncio.sleep(0.02)
            except BaseException:
                await self.close()
                raise
            else:
                return

    async def close(self) -> None:
        """Closes both connections within seconds; an unclosed one would hang the interpreter's exit."""
        connections = [connection for connection in (self._writer, self._reader) if connection is not None]
        self._writer = self._reader = None
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            for connection in connections:
                with contextlib.suppress(sqlite3.Error, ValueError):
                    await connection.close()

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        """The writer, whose transaction the caller commits; what isn't committed is rolled back.

        Raises BackendUnavailable, or one of `REFUSED`.
        """
        writer = self._connected(self._writer)
        async with self._write_lock, self._mapped():
            if self._unfinished:
                # The last one was cancelled or failed. Its statements may still be running in the connection's
                # thread, but that works in order, so this comes after them.
                await writer.rollback()
            self._unfinished = True
            yield writer
            self._unfinished = False

    async def fetch(self, query: str, parameters: Sequence[Any] = ()) -> Iterable[Any]:
        """The rows of one query, which is one snapshot."""
        reader = self._connected(self._reader)
        async with self._mapped():
            return await reader.execute_fetchall(query, parameters)

    @contextlib.asynccontextmanager
    async def _mapped(self) -> AsyncIterator[None]:
        try:
            yield
        except REFUSED:
            raise
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _connected(self, connection: aiosqlite.Connection | None) -> aiosqlite.Connection:
        if connection is None:
            raise BackendUnavailable(f"SQLite file {self.path} isn't open")
        return connection

    async def _connect(self, *, isolation_level: Any) -> aiosqlite.Connection:
        failure: list[sqlite3.Error] = []

        def connect() -> sqlite3.Connection:
            try:
                return sqlite3.connect(
                    self.path, timeout=_BUSY_SECONDS, isolation_level=isolation_level, cached_statements=16
                )
            except sqlite3.Error as error:
                failure.append(error)
                return sqlite3.connect(":memory:")

        # Where connecting fails or is cancelled, aiosqlite ends its thread without waiting for it, and that reports to
        # an event loop that may be closed by then. So it always succeeds, and is always closed properly.
        connection = aiosqlite.Connection(connect, 64)
        opening = asyncio.ensure_future(connection)
        try:
            await asyncio.shield(opening)
            if failure:
                raise failure[0]
            # FULL: a commit under NORMAL can roll back on power loss, after Redis has dropped the record.
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-65536", "wal_autocheckpoint=10000"):
                await connection.execute_fetchall(f"PRAGMA {pragma}")
        except BaseException:
            with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                await asyncio.wait([opening])
                await connection.close()
            raise
        return connection

    def _unavailable(self, error: sqlite3.Error) -> BackendUnavailable:
        return BackendUnavailable(f"SQLite file {self.path}: {explain(self.path, error)}")
