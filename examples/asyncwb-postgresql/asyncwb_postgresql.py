"""A PostgreSQL backend for asyncwb: one table, and one conditional upsert for a whole batch."""

import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from asyncwb import (
    AsyncwbError,
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
from asyncwb.plugins import ConnectionPool, PurgeTimer, record_bytes, split_by_bytes, take_options

STATEMENT_BYTES = 2**28
"""Well below the 2**30 bytes that PostgreSQL takes in a message."""
REFUSED = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError, ValueError)
"""What one record's contents can lead to; every other error says something about the server."""

NEW = "$1::text[], $2::bigint[], $3::text[], $4::text[], $5::bytea[], $6::bool[]"
SAVE = f"""
    INSERT INTO "{{table}}" AS held (key, version, codec, value, data, deleted_at)
        SELECT key, version, codec, value::json, data, CASE WHEN deleted THEN now() END
        FROM unnest({NEW}) AS new (key, version, codec, value, data, deleted)
    ON CONFLICT (key) DO UPDATE SET version = excluded.version, codec = excluded.codec,
        value = excluded.value, data = excluded.data, deleted_at = excluded.deleted_at
    WHERE held.version < excluded.version
"""
SAVE_ON_NOTHING = SAVE.replace("held.version < excluded.version", "held.version = 0")
# It locks the rows in the order of the batch, as SAVE does: otherwise two batches may wait for each other. PostgreSQL
# looks at the condition once more if it had to wait for a row.
SAVE_ON_VERSION = f"""
    UPDATE "{{table}}" AS held SET version = new.version, codec = new.codec, value = new.value::json, data = new.data,
        deleted_at = CASE WHEN new.deleted THEN now() END
    FROM (
        SELECT new.* FROM unnest({NEW}, $7::bigint[]) WITH ORDINALITY
            AS new (key, version, codec, value, data, deleted, based_on, place)
        JOIN "{{table}}" AS held ON held.key = new.key AND held.version = new.based_on
        ORDER BY place FOR UPDATE OF held
    ) AS new
    WHERE held.key = new.key
"""
Pool = ConnectionPool[Any]


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
    supports_based_on = True

    def __init__(self, dsn: str, *, table: str | None = None, tombstone_seconds: float = 86_400) -> None:
        if table is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,50}", table):
            raise ConfigurationError(f"table {table!r}: use a letter or _, then letters, digits and _, 51 at most")
        self._dsn = dsn
        self._named = table
        self._table = table or ""
        self._namespace = ""
        self._tombstone_seconds = tombstone_seconds
        self._purge_timer = PurgeTimer()
        self._pool: Pool | None = None

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        self._table = self._named or default_name(namespace)
        self._purge = f'DELETE FROM "{self._table}" WHERE deleted_at < now() - make_interval(secs => $1)'
        self._read_epoch = f'SELECT namespace, epoch FROM "{self._table}_epoch"'
        self._namespace = namespace
        self._pool = ConnectionPool(
            self._connect,
            close=lambda connection: connection.close(),
            terminate=lambda connection: connection.terminate(),
            healthy_after=(*REFUSED, AsyncwbError),
        )
        try:
            async with self._mapped():
                await self._pool.run(lambda connection: self._create(connection, former))
        except BaseException:
            await self.close()
            raise

    async def _connect(self) -> Any:
        return await asyncpg.connect(
            self._dsn,
            timeout=4,
            # Whatever the server's own setting: a save that has returned is on disk.
            server_settings={"synchronous_commit": "on"},
            # Never a standby, whose rows may be older than a finished save.
            target_session_attrs="read-write",
        )

    async def _create(self, connection: Any, former: str | None) -> None:
        """Makes the tables, and notes the owner."""
        if await connection.fetchval("SHOW fsync") == "off":  # of the whole server; no session can turn it on
            raise ConfigurationError("PostgreSQL runs with fsync=off, so no save is durable: turn it on")
        async with connection.transaction():
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
        if pool is not None:
            await pool.close()

    async def new_epoch(self, at_least: int) -> int:
        async with self._mapped() as pool:
            return await pool.run(lambda connection: self._next_epoch(connection, at_least))

    async def _next_epoch(self, connection: Any, at_least: int) -> int:
        row = await connection.fetchrow(self._read_epoch)
        self._takes(row, None)
        if not at_least:
            return int(row["epoch"]) if row else 0
        epoch = await connection.fetchval(
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
        async with self._mapped() as pool:
            return await pool.run(lambda connection: self._note(connection, str(partition), epoch, server))

    async def _note(self, connection: Any, partition: str, epoch: int, server: str) -> list[tuple[int, str]]:
        async with connection.transaction():
            held = await connection.fetchval(f'SELECT servers FROM "{self._table}_epoch" FOR UPDATE')
            noted = json.loads(held or "{}")
            began = dict(noted.get(partition, ()))
            if epoch and epoch not in began:
                noted[partition] = sorted({**began, epoch: server}.items())[-16:]
                await connection.execute(f'UPDATE "{self._table}_epoch" SET servers = $1', json.dumps(noted))
        return [(each, name) for each, name in noted.get(partition, ())]

    def _takes(self, row: Any, former: str | None) -> bool:
        owner = row["namespace"] if row else None
        return takes_place(owner, self._namespace, former=former, place=f"table {self._table!r}")

    async def highest_version(self) -> Any:
        async with self._mapped() as pool:
            return await pool.run(lambda connection: connection.fetchval(f'SELECT max(version) FROM "{self._table}"'))

    async def save(self, records: Sequence[Record]) -> int:
        # In the order of keys: two batches that lock the same rows in different orders would wait for each other.
        newest = sorted(newest_per_key(records), key=lambda record: record.key)
        batches = {SAVE: [each for each in newest if each.based_on is None]}
        if len(batches[SAVE]) < len(newest):
            batches[SAVE_ON_NOTHING] = [each for each in newest if each.based_on == 0]
            batches[SAVE_ON_VERSION] = [each for each in newest if each.based_on]
        failed: dict[str, Exception] = {}
        applied = 0
        async with self._mapped() as pool:
            for template, batch in batches.items():
                save = template.format(table=self._table)
                for part in split_by_bytes(batch, STATEMENT_BYTES, size_of=record_bytes):
                    applied += await self._save_or_halve(pool, save, part, failed)
            if self._purge_timer.is_due():
                await pool.run(lambda connection: connection.execute(self._purge, self._tombstone_seconds))
        stale = len(records) - applied - len(failed)
        if failed:
            raise SaveError(failed, stale=stale)
        return stale

    async def _save_or_halve(
        self, pool: Pool, save: str, records: Sequence[Record], failed: dict[str, Exception]
    ) -> int:
        """How many were stored. A batch that is refused is halved until the bad ones are alone."""
        try:
            columns = [*zip(*map(row, records), strict=True)]
            if records[0].based_on:
                columns.append(tuple(each.based_on for each in records))
            status = await pool.run(lambda connection: connection.execute(save, *columns))
            return int(status.rpartition(" ")[2])
        except REFUSED as error:
            if len(records) == 1:
                failed[records[0].key] = RecordRejected(f"PostgreSQL can't store it: {error}")
                return 0
        middle = len(records) // 2
        first = await self._save_or_halve(pool, save, records[:middle], failed)
        return first + await self._save_or_halve(pool, save, records[middle:], failed)

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        query = f'SELECT key, version, codec, value, data, deleted_at FROM "{self._table}" WHERE key = ANY($1::text[])'
        async with self._mapped() as pool:
            rows = await pool.run(lambda connection: connection.fetch(query, list(map(escaped, keys))))
        return {each.key: each for each in map(record, rows)}

    @asynccontextmanager
    async def _mapped(self) -> AsyncIterator[Pool]:
        if self._pool is None:
            raise BackendUnavailable("the PostgreSQL backend isn't open")
        try:
            yield self._pool
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


@dataclass(frozen=True)
class Options:
    """The backend's own options in a URL; all others are PostgreSQL's."""

    table: str | None = None
    tombstone_seconds: int = 86_400


def from_url(url: str, *, codec: Codec[Any]) -> PostgreSQLBackend:  # noqa: ARG001 - any codec will do
    """`postgresql://user@host/database?table=users&tombstone_seconds=N`, and PostgreSQL's own options."""
    options, dsn = take_options(url, Options)
    return PostgreSQLBackend(dsn, table=options.table, tombstone_seconds=options.tombstone_seconds)
