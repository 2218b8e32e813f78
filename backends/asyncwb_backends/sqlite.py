"""The SQLite backend: one table of keys and values, durable and conditional on versions."""

import asyncio
import contextlib
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import aiosqlite
import anyio

from asyncwb import (
    BackendUnavailable,
    Codec,
    ConfigurationError,
    Limits,
    Record,
    RecordRejected,
    SaveError,
)

_TABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_BUSY_SECONDS: Final = 10.0
_OPEN_SECONDS: Final = 10.0
_CLOSE_SECONDS: Final = 5.0
_DAY_SECONDS: Final = 86_400
_PURGE_EVERY_SECONDS: Final = 60.0
_PURGE_ROWS: Final = 1000
_VARIABLES: Final = 500
_COLUMNS: Final = "key TEXT NOT NULL, value, codec TEXT NOT NULL, version INTEGER NOT NULL, deleted_at INTEGER"

Row = tuple[str, "str | bytes | None", str, int, "int | None"]


class SQLiteBackend:
    """Saves records into one table of a SQLite file.

    Table `asyncwb` (or another): `key`, `value` (JSON as text, so that SQLite's JSON operators work; anything else as
    a blob; NULL for a tombstone), `codec`, `version`, and `deleted_at` (Unix time of a tombstone, else NULL).
    Several processes may share the file.

    Args:
        path: of the database; its folder has to exist.
        table: `[A-Za-z_][A-Za-z0-9_]{0,62}`, for one namespace alone.
        tombstone_seconds: how long a deleted key is remembered, so that a save that comes late can't bring it back.
    """

    # SQLite has one writer at a time, and its default limit for a string or blob is 10^9 bytes.
    limits = Limits(max_batch=10_000, max_value_bytes=1_000_000_000, concurrent_saves=1)

    def __init__(self, path: str | Path, *, table: str = "asyncwb", tombstone_seconds: float = _DAY_SECONDS) -> None:
        if not _TABLE.fullmatch(table):
            raise ConfigurationError(f"table {table!r}: use a letter or _, then letters, digits and _, 63 at most")
        self.path = Path(path)
        self.table = table
        self._tombstone_seconds = tombstone_seconds
        self._writer: aiosqlite.Connection | None = None
        self._reader: aiosqlite.Connection | None = None
        self._write_lock = asyncio.Lock()
        self._unfinished = False
        self._next_purge = 0.0
        name, meta = f'"{table}"', f'"{table}_meta"'
        self._create = (
            f"CREATE TABLE IF NOT EXISTS {name} ({_COLUMNS})",
            # A rowid table with an index is 3 to 5 times faster on random keys than WITHOUT ROWID.
            f'CREATE UNIQUE INDEX IF NOT EXISTS "{table}_key" ON {name} (key)',
            f'CREATE INDEX IF NOT EXISTS "{table}_deleted" ON {name} (deleted_at) WHERE deleted_at IS NOT NULL',
            f"CREATE TABLE IF NOT EXISTS {meta} (name TEXT PRIMARY KEY, value INTEGER NOT NULL)",
        )
        self._columns = f"SELECT key, value, codec, version, deleted_at FROM {name} LIMIT 0"  # noqa: S608
        self._save = (
            f"INSERT INTO {name} (key, value, codec, version, deleted_at) VALUES (?, ?, ?, ?, ?) "  # noqa: S608
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value, codec = excluded.codec, "
            f"version = excluded.version, deleted_at = excluded.deleted_at WHERE excluded.version > {name}.version"
        )
        self._load = f"SELECT key, value, codec, version, deleted_at FROM {name} WHERE key IN "  # noqa: S608
        self._purge = (
            f"DELETE FROM {name} WHERE rowid IN "  # noqa: S608
            f"(SELECT rowid FROM {name} WHERE deleted_at < ? LIMIT {_PURGE_ROWS})"
        )
        self._read_epoch = f"SELECT value FROM {meta} WHERE name = 'epoch'"  # noqa: S608
        self._next_epoch = (
            f"INSERT INTO {meta} (name, value) VALUES ('epoch', max(1, :at_least)) "  # noqa: S608
            "ON CONFLICT (name) DO UPDATE SET value = max(value + 1, :at_least) RETURNING value"
        )

    async def open(self) -> None:
        """Raises `BackendUnavailable` if the file can't be opened, `ConfigurationError` if the table is another's."""
        self._write_lock = asyncio.Lock()
        self._unfinished = False
        deadline = time.monotonic() + _OPEN_SECONDS
        while True:
            try:
                # Writers begin with IMMEDIATE: a transaction that starts by reading can't wait for its turn later.
                self._writer = await self._connect(isolation_level="IMMEDIATE")
                await self._prepare(self._writer)
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

    async def new_epoch(self, at_least: int) -> int:
        if not at_least:
            async with self._mapped(), self._connected(self._reader).execute(self._read_epoch) as cursor:
                row = await cursor.fetchone()
            return int(row[0]) if row else 0
        async with self._transaction() as writer:
            rows = list(await writer.execute_fetchall(self._next_epoch, {"at_least": at_least}))
            await writer.commit()
        return int(rows[0][0])

    async def save(self, records: Sequence[Record]) -> int:
        try:
            rows = [_row(record) for record in records]
        except (UnicodeError, ValueError):
            return await self._save_apart(records)
        try:
            async with self._transaction() as writer:
                cursor = await writer.executemany(self._save, rows)
                await writer.commit()
                await self._purge_sometimes(writer)
        except _REFUSED:
            return await self._save_apart(records)
        return len(rows) - cursor.rowcount

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        reader = self._connected(self._reader)
        found: dict[str, Record] = {}
        for start in range(0, len(keys), _VARIABLES):
            page = keys[start : start + _VARIABLES]
            query = f"{self._load}({','.join('?' * len(page))})"
            async with self._mapped():
                rows = await reader.execute_fetchall(query, page)
            found.update((row[0], _record(row)) for row in rows)
        return found

    async def _save_apart(self, records: Sequence[Record]) -> int:
        """After a batch was refused: each record for itself, in one transaction, so that only the bad ones fail."""
        failed: dict[str, Exception] = {}
        applied = 0
        async with self._transaction() as writer:
            for record in records:
                try:
                    applied += (await writer.execute(self._save, _row(record))).rowcount
                except (*_REFUSED, UnicodeError, ValueError) as error:
                    failed[record.key] = RecordRejected(f"SQLite can't store it: {error}")
            await writer.commit()
        stale = len(records) - len(failed) - applied
        if failed:
            raise SaveError(failed, stale=stale)
        return stale

    async def _purge_sometimes(self, writer: aiosqlite.Connection) -> None:
        now = time.time()
        if now < self._next_purge:
            return
        cursor = await writer.execute(self._purge, (int(now - self._tombstone_seconds),))
        await writer.commit()
        # A full page says that there is more: the next save takes the next page.
        self._next_purge = now + (0 if cursor.rowcount == _PURGE_ROWS else _PURGE_EVERY_SECONDS)

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        writer = self._connected(self._writer)
        async with self._write_lock, self._mapped():
            if self._unfinished:
                # The last one was cancelled or failed. Its statements may still be running in the connection's
                # thread, but that works in order, so this comes after them.
                await writer.rollback()
            self._unfinished = True
            yield writer
            self._unfinished = False

    @contextlib.asynccontextmanager
    async def _mapped(self) -> AsyncIterator[None]:
        try:
            yield
        except _REFUSED:
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

    async def _prepare(self, writer: aiosqlite.Connection) -> None:
        for statement in self._create:
            try:
                await writer.execute(statement)
            except sqlite3.OperationalError as error:
                if "no such column" in str(error) or "has no column" in str(error):
                    raise self._foreign_table() from error
                raise
        try:
            await writer.execute(self._columns)
        except sqlite3.OperationalError as error:
            raise self._foreign_table() from error
        await writer.commit()

    def _foreign_table(self) -> ConfigurationError:
        return ConfigurationError(
            f"table {self.table!r} in {self.path} has other columns than asyncwb's: name another with ?table=…"
        )

    def _unavailable(self, error: sqlite3.Error) -> BackendUnavailable:
        hint = "" if self.path.parent.is_dir() else f"; folder {self.path.parent} doesn't exist, make it first"
        return BackendUnavailable(f"SQLite file {self.path}: {error}{hint}")


_REFUSED: Final = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, OverflowError, UnicodeError)
"""What SQLite raises for one record's sake; everything else says something about the file."""


def _row(record: Record) -> Row:
    if record.deleted:
        return record.key, None, record.codec, record.version, int(time.time())
    value = record.payload.decode() if record.codec == "json" else record.payload
    return record.key, value, record.codec, record.version, None


def _record(row: Iterable[Any]) -> Record:
    key, value, codec, version, deleted_at = row
    if deleted_at is not None:
        return Record(key, version, codec=codec, deleted=True)
    return Record(key, version, value.encode() if isinstance(value, str) else value, codec=codec)


def from_url(url: str, *, codec: Codec[Any]) -> SQLiteBackend:  # noqa: ARG001 - any codec will do
    """`sqlite:///relative.db` or `sqlite:////absolute.db`, with `?table=NAME` and `?tombstone_seconds=N`.

    Raises:
        ConfigurationError: the URL or an option can't work.
    """
    parts = urlsplit(url)
    if parts.netloc or not parts.path.startswith("/"):
        raise ConfigurationError("SQLite URL: write sqlite:///relative.db or sqlite:////absolute.db (mind the slashes)")
    path = unquote(parts.path[1:])
    if not path or path == ":memory:":
        raise ConfigurationError("SQLite URL: name a file, as in sqlite:///app.db; memory isn't durable")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    table = options.pop("table", "asyncwb")
    seconds = options.pop("tombstone_seconds", str(_DAY_SECONDS))
    if options:
        raise ConfigurationError(f"SQLite URL: unknown option {min(options)!r}; there are table and tombstone_seconds")
    if not re.fullmatch(r"\d{1,12}(\.\d+)?", seconds):
        raise ConfigurationError("SQLite URL: tombstone_seconds has to be a number of seconds")
    return SQLiteBackend(path, table=table, tombstone_seconds=float(seconds))
