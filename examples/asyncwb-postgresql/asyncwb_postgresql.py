"""A PostgreSQL backend for asyncwb: one table, and one conditional upsert for a whole batch."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode

import asyncpg

from asyncwb import (
    BackendReplaced,
    BackendUnavailable,
    Codec,
    ConfigurationError,
    Limits,
    Record,
    RecordRejected,
    SaveError,
    default_name,
    newest_per_key,
    takes_place,
)

CLOSE_SECONDS = 5.0
PURGE_EVERY_SECONDS = 60.0
REFUSED = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError, ValueError)
"""What one record's contents can lead to; every other error says something about the server."""


class PostgreSQLBackend:
    """Saves records into one table: `key`, `version`, `codec`, `value` (JSON) or `data` (any other codec), and
    `deleted_at`, which marks a tombstone. Owner and epochs are in a table beside it.

    Keys are text. PostgreSQL's text has no NUL, so in a key NUL is written \\0, and a backslash is doubled.

    Args:
        dsn: as asyncpg takes it.
        table: made if it isn't there, by default with the name of the namespace that opens it (see `default_name`). It
            belongs to the first namespace that opens it.
        tombstone_seconds: how long a deleted key is remembered, so that a save that comes late can't bring it back.
    """

    limits = Limits(max_batch=10_000, max_value_bytes=2**27, concurrent_saves=4)
    durability = "synchronous_commit"

    def __init__(self, dsn: str, *, table: str | None = None, tombstone_seconds: float = 86_400) -> None:
        if table is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,50}", table):
            raise ConfigurationError(f"table {table!r}: use a letter or _, then letters, digits and _, 51 at most")
        self._dsn = dsn
        self._named = table
        self._table = table or ""
        self._namespace = ""
        self._tombstone_seconds = tombstone_seconds
        self._next_purge = 0.0
        self._pool: Any = None

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        self._table = self._named or default_name(namespace)
        self._read_epoch = f'SELECT namespace, epoch FROM "{self._table}_epoch"'
        self._namespace = namespace
        try:
            async with self._mapped():
                self._pool = await asyncpg.create_pool(
                    self._dsn,
                    min_size=1,
                    max_size=8,
                    timeout=5,
                    # Whatever the server's own setting: a save that has returned is on disk.
                    server_settings={"synchronous_commit": "on"},
                    # Never a standby, whose rows may be older than a finished save.
                    target_session_attrs="read-write",
                )
                await self._create(former)
        except BaseException:
            await self.close()
            raise

    async def _create(self, former: str | None) -> None:
        """Makes the tables, and notes the owner."""
        async with self._pool.acquire() as connection, connection.transaction():
            # Two processes that create a table at the same time collide in spite of IF NOT EXISTS.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('asyncwb'), hashtext($1))", self._table)
            try:
                await connection.execute(f"""
                    CREATE TABLE IF NOT EXISTS "{self._table}" (key text PRIMARY KEY, version bigint NOT NULL,
                        codec text NOT NULL, value json, data bytea, deleted_at timestamptz);
                    CREATE INDEX IF NOT EXISTS "{self._table}_version" ON "{self._table}" (version);
                    CREATE INDEX IF NOT EXISTS "{self._table}_deleted" ON "{self._table}" (deleted_at)
                        WHERE deleted_at IS NOT NULL;
                    CREATE TABLE IF NOT EXISTS "{self._table}_epoch" (name text PRIMARY KEY, epoch bigint NOT NULL);
                    ALTER TABLE "{self._table}_epoch" ADD COLUMN IF NOT EXISTS namespace text;
                    ALTER TABLE "{self._table}_epoch" ADD COLUMN IF NOT EXISTS servers text;
                    INSERT INTO "{self._table}_epoch" (name, epoch) VALUES ('epoch', 0) ON CONFLICT DO NOTHING;
                    SELECT key, version, codec, value, data, deleted_at FROM "{self._table}" LIMIT 0
                    """)
            except asyncpg.UndefinedColumnError as error:
                raise ConfigurationError(f"table {self._table!r} isn't ours: {error}; name another") from error
            # The lock above is held until the end, so nobody comes between.
            row = await connection.fetchrow(self._read_epoch)
            if self._takes(row, former):
                await connection.execute(
                    f'UPDATE "{self._table}_epoch" SET namespace = $1, epoch = epoch + $2',
                    self._namespace,
                    int(former is not None),
                )

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            await asyncio.wait_for(pool.close(), CLOSE_SECONDS)
        except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            pool.terminate()

    async def new_epoch(self, at_least: int) -> int:
        async with self._mapped():
            row = await self._opened().fetchrow(self._read_epoch)
            self._takes(row, None)
            if not at_least:
                return int(row["epoch"]) if row else 0
            epoch = await self._opened().fetchval(
                f"""INSERT INTO "{self._table}_epoch" AS held (name, epoch, namespace)
                    VALUES ('epoch', greatest(1, $1::bigint), $2)
                    ON CONFLICT (name) DO UPDATE SET epoch = greatest(held.epoch + 1, $1::bigint)
                        WHERE held.namespace = $2 RETURNING epoch""",
                at_least,
                self._namespace,
            )
            if epoch is None:
                raise BackendUnavailable(f"table {self._table!r} has just been handed over")
            return int(epoch)

    async def note_server(self, partition: int, epoch: int, server: str) -> list[tuple[int, str]]:
        async with self._mapped(), self._opened().acquire() as connection, connection.transaction():
            held = await connection.fetchval(f'SELECT servers FROM "{self._table}_epoch" FOR UPDATE')
            noted = json.loads(held or "{}")
            began = dict(noted.get(str(partition), ()))
            if epoch and epoch not in began:
                noted[str(partition)] = sorted({**began, epoch: server}.items())[-16:]
                await connection.execute(f'UPDATE "{self._table}_epoch" SET servers = $1', json.dumps(noted))
        return [(each, name) for each, name in noted.get(str(partition), ())]

    def _takes(self, row: Any, former: str | None) -> bool:
        owner = row["namespace"] if row else None
        return takes_place(owner, self._namespace, former=former, place=f"table {self._table!r}")

    async def highest_version(self) -> Any:
        async with self._mapped():
            return await self._opened().fetchval(f'SELECT max(version) FROM "{self._table}"')

    async def save(self, records: Sequence[Record]) -> int:
        # In the order of keys: two batches that lock the same rows in different orders would wait for each other.
        newest = sorted(newest_per_key(records), key=lambda record: record.key)
        failed: dict[str, Exception] = {}
        async with self._mapped():
            applied = await self._save_or_halve(newest, failed)
            await self._purge_sometimes()
        stale = len(records) - applied - len(failed)
        if failed:
            raise SaveError(failed, stale=stale)
        return stale

    async def _save_or_halve(self, records: Sequence[Record], failed: dict[str, Exception]) -> int:
        """How many were newer than what was stored. A batch that is refused is halved until the bad ones are alone."""
        if not records:
            return 0
        try:
            status = await self._opened().execute(
                f"""INSERT INTO "{self._table}" AS held (key, version, codec, value, data, deleted_at)
                    SELECT key, version, codec, value::json, data, CASE WHEN deleted THEN now() END
                    FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bytea[], $6::bool[])
                        AS new (key, version, codec, value, data, deleted)
                    ON CONFLICT (key) DO UPDATE SET version = excluded.version, codec = excluded.codec,
                        value = excluded.value, data = excluded.data, deleted_at = excluded.deleted_at
                    WHERE held.version < excluded.version""",
                *zip(*map(row, records), strict=True),
            )
            return int(status.rpartition(" ")[2])
        except REFUSED as error:
            if len(records) == 1:
                failed[records[0].key] = RecordRejected(f"PostgreSQL can't store it: {error}")
                return 0
        middle = len(records) // 2
        first = await self._save_or_halve(records[:middle], failed)
        return first + await self._save_or_halve(records[middle:], failed)

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        async with self._mapped():
            rows = await self._opened().fetch(
                f'SELECT key, version, codec, value, data, deleted_at FROM "{self._table}" WHERE key = ANY($1::text[])',
                [escaped(key) for key in keys],
            )
        return {each.key: each for each in map(record, rows)}

    async def _purge_sometimes(self) -> None:
        if time.monotonic() >= self._next_purge:
            self._next_purge = time.monotonic() + PURGE_EVERY_SECONDS
            await self._opened().execute(
                f"""DELETE FROM "{self._table}" WHERE deleted_at < now() - make_interval(secs => $1)""",
                self._tombstone_seconds,
            )

    def _opened(self) -> Any:
        if self._pool is None:
            raise BackendUnavailable("the PostgreSQL backend isn't open")
        return self._pool

    @asynccontextmanager
    async def _mapped(self) -> AsyncIterator[None]:
        try:
            yield
        except asyncpg.UndefinedTableError as error:
            raise BackendReplaced(f"PostgreSQL: {error}: it was dropped, and is made again") from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise BackendUnavailable(f"PostgreSQL: {type(error).__name__}: {error}") from error


def escaped(key: str) -> str:
    return key.replace("\\", "\\\\").replace("\0", "\\0")


def row(record: Record) -> tuple[Any, ...]:
    value = record.payload.decode() if record.codec == "json" and not record.deleted else None
    data = record.payload if record.codec != "json" and not record.deleted else None
    return escaped(record.key), record.version, record.codec, value, data, record.deleted


def record(row: Any) -> Record:
    key = re.sub(r"\\(.)", lambda found: "\0" if found[1] == "0" else found[1], row["key"])
    payload = row["data"] if row["value"] is None else row["value"].encode()
    return Record(key, row["version"], payload or b"", codec=row["codec"], deleted=row["deleted_at"] is not None)


def from_url(url: str, *, codec: Codec[Any]) -> PostgreSQLBackend:  # noqa: ARG001 - any codec will do
    """`postgresql://user@host/database?table=users&tombstone_seconds=N`, and PostgreSQL's own options."""
    start, _, query = url.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    table, seconds = options.pop("table", None), options.pop("tombstone_seconds", "86400")
    if not seconds.isdecimal():
        raise ConfigurationError("PostgreSQL URL: tombstone_seconds has to be a whole number of seconds")
    return PostgreSQLBackend(f"{start}?{urlencode(options)}", table=table, tombstone_seconds=float(seconds))
