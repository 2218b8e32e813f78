"""A SQLite file as two connections, one that writes and one that reads; its errors become asyncwb's here.

A file that is deleted or replaced while it is open lives on without a name: what is written there is gone with the
connection. So whatever was written or read counts only if afterwards the path still names the file that was opened.
Likewise its log (`-wal`), which holds what was committed last, and what the log is shared by (`-shm`).
"""

import asyncio
import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import aiosqlite
import anyio

from asyncwb import BackendReplaced, BackendUnavailable
from asyncwb_backends.sqlite.reasons import explain

_BUSY_SECONDS: Final = 10.0
_OPEN_SECONDS: Final = 10.0
_CLOSE_SECONDS: Final = 5.0
# FULL: a commit under NORMAL can roll back on power loss, after Redis has dropped the record.
_PRAGMAS: Final = ("journal_mode=WAL", "synchronous=FULL", "cache_size=-65536", "wal_autocheckpoint=10000")

REFUSED: Final = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, OverflowError, UnicodeError)
"""What SQLite raises for one record's sake; everything else says something about the file."""

Prepare = Callable[[aiosqlite.Connection], Awaitable[None]]
Identity = tuple[tuple[int, int], ...]


class Database:
    """One file, shared with other processes; SQLite has one writer at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: aiosqlite.Connection | None = None
        self._reader: aiosqlite.Connection | None = None
        self._write_lock = asyncio.Lock()
        self._unfinished = False
        self._absolute = str(path.absolute())
        self._files: Sequence[str] = ()
        self._identity: Identity = ()

    async def open(self, prepare: Prepare) -> None:
        """Connects, and lets `prepare` make its tables. Raises `BackendUnavailable`."""
        self._write_lock = asyncio.Lock()
        self._unfinished = False
        deadline = time.monotonic() + _OPEN_SECONDS
        while True:
            try:
                # Writers begin with IMMEDIATE: a transaction that starts by reading can't wait for its turn later.
                self._files = _existing(self._absolute)
                before = self._identify()
                self._writer = await self._connect(isolation_level="IMMEDIATE")
                await prepare(self._writer)
                self._files = _existing(self._absolute, *_logs(self._absolute))
                self._identity = self._identify()
                if before != self._identity[: len(before)]:
                    raise BackendReplaced(f"SQLite file {self.path} was replaced while it was being opened")
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
        """Closes both connections within seconds."""
        connections = [connection for connection in (self._writer, self._reader) if connection is not None]
        self._writer = self._reader = None
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            for connection in connections:
                with contextlib.suppress(sqlite3.Error, ValueError):
                    await connection.close()

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        """The writer, whose transaction the caller commits; what isn't committed is rolled back.

        Raises BackendUnavailable, also if it was committed to a file that lost its name, or one of `REFUSED`.
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
            self._check_identity()

    @contextlib.asynccontextmanager
    async def apart(self) -> AsyncIterator[aiosqlite.Connection]:
        """A connection of its own, also before `open`, that leaves nothing behind unless the caller commits.

        Where there is no file it is one to an empty database in memory. Raises BackendUnavailable, or one of `REFUSED`.
        """
        async with self._mapped():
            writer = await self._connect(isolation_level=None, pragmas=(), uri=self._uri_to_look())
            try:
                yield writer
            finally:
                with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                    await writer.close()

    def _uri_to_look(self) -> str:
        """Of the file, which isn't made; of a database in memory where it isn't there, but could be made."""
        if os.path.exists(self._absolute) or not os.path.isdir(os.path.dirname(self._absolute)):  # noqa: PTH110, PTH112, PTH120
            return f"{Path(self._absolute).as_uri()}?mode=rw"
        return "file::memory:"

    async def fetch(self, query: str, parameters: Sequence[Any] = ()) -> Iterable[Any]:
        """The rows of one query, which is one snapshot."""
        reader = self._connected(self._reader)
        async with self._mapped():
            rows = await reader.execute_fetchall(query, parameters)
        self._check_identity()
        return rows

    async def fetch_within(self, query: str, *, seconds: float) -> Sequence[Any] | None:
        """The rows of one query; None if it takes longer, and it is stopped then."""
        reader = self._connected(self._reader)
        asked = asyncio.ensure_future(reader.execute_fetchall(query))
        try:
            done, _ = await asyncio.wait([asked], timeout=seconds)
        finally:
            if not asked.done():
                await reader.interrupt()
        if not done:
            with contextlib.suppress(sqlite3.OperationalError):
                await asked
            return None
        async with self._mapped():
            return list(await asked)

    @contextlib.asynccontextmanager
    async def _mapped(self) -> AsyncIterator[None]:
        try:
            yield
        except REFUSED:
            raise
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _check_identity(self) -> None:
        """Raises BackendReplaced."""
        # In the event loop: the three names are in the kernel's cache, which takes a few microseconds.
        try:
            identity = self._identify()
        except FileNotFoundError as error:
            what = f"SQLite file {error.filename} was deleted or moved while it was open"
        except OSError as error:
            raise BackendUnavailable(f"SQLite file {error.filename}: {error.strerror}") from error
        else:
            if identity == self._identity:
                return
            what = f"SQLite file {self.path} or its log was replaced while it was open"
        try:
            what += self._set_log_aside()
        except OSError as error:
            raise BackendUnavailable(f"{what}, and its log can't be moved: {error}") from error
        raise BackendReplaced(what)

    def _set_log_aside(self) -> str:
        """Moves the log away from beside a file that isn't its own: SQLite would apply it to that, or delete it.

        It holds what was committed last, so it has to be kept for the file that it belongs to. Returns what to add to
        a message.
        """
        if _identity_of(self._absolute) == self._identity[0]:
            return ""
        # While it is open here nothing else can have its inode.
        moved = ""
        for name, identity in zip(self._files[1:], self._identity[1:], strict=True):
            if _identity_of(name) != identity:
                continue
            if name.endswith("-shm"):
                os.unlink(name)  # noqa: PTH108 - SQLite makes it from the log
            else:
                aside = f"{name.removesuffix('-wal')}.former-{self._identity[0][1]}-wal"
                os.rename(name, aside)  # noqa: PTH104
                moved = f"; its log, with what was committed last, is kept as {aside}"
        return moved

    def _identify(self) -> Identity:
        return tuple((found.st_dev, found.st_ino) for found in map(os.stat, self._files))

    def _connected(self, connection: aiosqlite.Connection | None) -> aiosqlite.Connection:
        if connection is None:
            raise BackendUnavailable(f"SQLite file {self.path} isn't open")
        return connection

    async def _connect(
        self, *, isolation_level: Any, pragmas: Sequence[str] = _PRAGMAS, uri: str | None = None
    ) -> aiosqlite.Connection:
        failure: list[sqlite3.Error] = []

        def connect() -> sqlite3.Connection:
            try:
                return sqlite3.connect(
                    uri or self._absolute,
                    uri=uri is not None,
                    timeout=_BUSY_SECONDS,
                    isolation_level=isolation_level,
                    cached_statements=16,
                )
            except sqlite3.Error as error:
                failure.append(error)
                return sqlite3.connect(":memory:")

        # Where connecting fails or is cancelled, aiosqlite ends its thread without waiting for it, and that reports to
        # an event loop that may be closed by then. So it always succeeds, and is always closed properly.
        connection = _daemonic(lambda: aiosqlite.Connection(connect, 64))
        opening = asyncio.ensure_future(connection)
        try:
            await asyncio.shield(opening)
            if failure:
                raise failure[0]
            for pragma in pragmas:
                await connection.execute_fetchall(f"PRAGMA {pragma}")
        except BaseException:
            with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                await asyncio.wait([opening])
                await connection.close()
            raise
        return connection

    def _unavailable(self, error: sqlite3.Error) -> BackendUnavailable:
        return BackendUnavailable(f"SQLite file {self.path}: {explain(self.path, error)}")


def _identity_of(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _existing(*paths: str) -> Sequence[str]:
    return [path for path in paths if os.path.exists(path)]  # noqa: PTH110 - as all of them are


def _logs(path: str) -> Sequence[str]:
    """SQLite keeps them beside the file that a link leads to."""
    real = os.path.realpath(path)
    return f"{real}-wal", f"{real}-shm"


def _daemonic(make: Callable[[], aiosqlite.Connection]) -> aiosqlite.Connection:
    """A connection whose thread the interpreter doesn't wait for when it ends.

    A service that fails before it closes its buffer would never end otherwise. Nothing is lost that way: what isn't
    committed isn't saved. A thread is daemonic if the one that makes it is.
    """
    made: list[aiosqlite.Connection] = []
    maker = threading.Thread(target=lambda: made.append(make()), daemon=True)
    maker.start()
    maker.join()
    return made[0]
