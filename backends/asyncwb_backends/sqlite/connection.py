"""A SQLite file with one connection for writing and one for reading; turns SQLite's errors into asyncwb's.

A file that is deleted or replaced while it is open continues to exist without a name, and what is written to it is lost
when the connection ends. So whatever was written or read counts only if the path still names the file that was opened.
The same goes for its log (`-wal`), which holds the latest commits, and for the log's shared memory (`-shm`).
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
"""The errors that SQLite raises because of a single record; all others concern the file."""

Prepare = Callable[[aiosqlite.Connection], Awaitable[None]]
Identity = tuple[tuple[int, int], ...]


class Database:
    """One SQLite file, which other processes may share; SQLite has one writer at a time."""

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
        """Connects, and lets `prepare` make its tables; passes on what that raises, except sqlite3.Error.

        Raises:
            BackendUnavailable: the file can't be opened or prepared.
            BackendReplaced: it was replaced in the meantime.
        """
        self._write_lock = asyncio.Lock()
        self._unfinished = False
        deadline = time.monotonic() + _OPEN_SECONDS
        while True:
            try:
                # Writers use IMMEDIATE: a transaction that starts by reading can't wait for the write lock later.
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
                # Two processes that switch a new file to WAL at the same time collide, whatever the busy timeout is.
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
        """Yields the writer; the caller commits its transaction, and what isn't committed is rolled back.

        Raises BackendUnavailable, also if the commit went to a file that has lost its name, or one of `REFUSED`.
        """
        writer = self._connected(self._writer)
        async with self._write_lock, self._mapped():
            if self._unfinished:
                # The last transaction was cancelled or failed. Its statements may still be running in the connection's
                # thread, but the thread executes calls in order, so the rollback comes after them.
                await writer.rollback()
            self._unfinished = True
            yield writer
            self._unfinished = False
            self._check_identity()

    @contextlib.asynccontextmanager
    async def apart(self) -> AsyncIterator[aiosqlite.Connection]:
        """Yields a separate connection, also before `open`, that changes nothing unless the caller commits.

        If there is no file, it is connected to an empty database in memory. Raises BackendUnavailable, or one of
        `REFUSED`.
        """
        async with self._mapped():
            writer = await self._connect(isolation_level=None, pragmas=(), uri=self._uri_to_look())
            try:
                yield writer
            finally:
                with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                    await writer.close()

    def _uri_to_look(self) -> str:
        """Returns a URI that opens the file without creating it; if only the file is missing, an in-memory database."""
        if os.path.exists(self._absolute) or not os.path.isdir(os.path.dirname(self._absolute)):  # noqa: PTH110, PTH112, PTH120
            return f"{Path(self._absolute).as_uri()}?mode=rw"
        return "file::memory:"

    async def fetch(self, query: str, parameters: Sequence[Any] = ()) -> Iterable[Any]:
        """Returns the rows of one query, which all come from one snapshot."""
        reader = self._connected(self._reader)
        async with self._mapped():
            rows = await reader.execute_fetchall(query, parameters)
        self._check_identity()
        return rows

    async def fetch_within(self, query: str, *, seconds: float) -> Sequence[Any] | None:
        """Returns the rows of one query; None if it takes longer than `seconds`, in which case it is interrupted."""
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
        """Checks that the names still belong to the files that are open.

        Raises:
            BackendReplaced: one of them was deleted, moved or replaced.
            BackendUnavailable: this can't be found out, or the log can't be moved.
        """
        # This may run in the event loop: the three names are in the kernel's cache, so it takes a few microseconds.
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
        """Moves the log away if the file beside it isn't its own: SQLite would apply the log to that, or delete it.

        The log holds the latest commits, so it has to be kept for the file that it belongs to. Returns what to add to
        the error's message. Raises OSError.
        """
        if _identity_of(self._absolute) == self._identity[0]:
            return ""
        # No other file can have the log's inode while the log is open here.
        moved = ""
        for name, identity in zip(self._files[1:], self._identity[1:], strict=True):
            if _identity_of(name) != identity:
                continue
            if name.endswith("-shm"):
                os.unlink(name)  # noqa: PTH108 - SQLite recreates it from the log
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

        # If connecting fails or is cancelled, aiosqlite ends its thread without waiting for it, and the thread then
        # reports to an event loop that may be closed by then. So `connect` always succeeds (with a database in memory
        # if need be), and the connection is always closed properly.
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
    return [path for path in paths if os.path.exists(path)]  # noqa: PTH110 - all paths here are strings


def _logs(path: str) -> Sequence[str]:
    """Returns the paths of the log and its shared memory, which SQLite keeps beside the file that a link points to."""
    real = os.path.realpath(path)
    return f"{real}-wal", f"{real}-shm"


def _daemonic(make: Callable[[], aiosqlite.Connection]) -> aiosqlite.Connection:
    """Makes a connection whose thread doesn't keep the interpreter from exiting.

    Otherwise a service that fails before it closes its buffer would never exit. Nothing is lost: what isn't committed
    doesn't count as saved. A thread is daemonic if the thread that creates it is.
    """
    made: list[aiosqlite.Connection] = []
    maker = threading.Thread(target=lambda: made.append(make()), daemon=True)
    maker.start()
    maker.join()
    return made[0]
