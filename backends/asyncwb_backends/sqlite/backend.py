"""The SQLite backend: saves each batch in one transaction, conditional on versions, into either kind of table."""

import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import aiosqlite

from asyncwb import (
    BackendError,
    BackendUnavailable,
    Limits,
    Record,
    RecordRejected,
    SaveError,
    default_name,
    newest_per_key,
)
from asyncwb.plugins import PurgeTimer
from asyncwb_backends.sqlite.clock import TableClock
from asyncwb_backends.sqlite.connection import REFUSED, Database
from asyncwb_backends.sqlite.keyvalue import KeyValueTable
from asyncwb_backends.sqlite.ledger import Ledger
from asyncwb_backends.sqlite.table import PURGE_ROWS, Step, Table

DAY_SECONDS: Final = 86_400
_KEYS_A_QUERY: Final = 400
_LOOK_SECONDS: Final = 2.0
"""How long the search for the highest version may take. There is no index on versions, because it made saves 17 %
slower, and a million rows are read in about 0.1 s. If a table takes longer, versions that are too high are only noticed
when a save is stale."""


class SQLiteBackend:
    """Saves records into one table of a SQLite file, durable when a save returns. Several processes may share the file.

    Args:
        path: the database file; its folder has to exist.
        table: the name of a table of asyncwb's own, created if it is missing, with columns `key`, `value` (JSON as
            text, so that SQLite's JSON operators work; anything else as a blob; NULL for a tombstone), `codec`,
            `version`, and `deleted_at` (Unix time of a tombstone, else NULL). Or a `MappedTable`. By default the
            table's name is made from the namespace that opens it (see `default_name`). The table belongs to the first
            namespace that opens it.
        tombstone_seconds: how long a deleted key is remembered, so that a late save can't bring it back. It is measured
            by the table's own time (see `asyncwb_backends.sqlite.clock`), in which hours without a running process
            count only in part.

    Raises:
        ConfigurationError: no table can have that name.
    """

    # SQLite's default limit for a string or blob is 10^9 bytes. Two concurrent saves help although SQLite has one
    # writer at a time: while one writes, the rows of the next are prepared. (From 92,000 to 104,000 records/s.)
    limits = Limits(max_batch=10_000, max_value_bytes=1_000_000_000, concurrent_saves=2)
    durability = "synchronous=FULL"
    supports_based_on = True

    def __init__(
        self, path: str | Path, *, table: str | Table | None = None, tombstone_seconds: float = DAY_SECONDS
    ) -> None:
        self.path = Path(path)
        self._database = Database(self.path)
        self._named = KeyValueTable(table) if isinstance(table, str) else table
        self._clock = TableClock(tombstone_seconds)
        self._purge_timer = PurgeTimer()
        self._namespace = ""
        self._ledger: Ledger | None = None
        self._table: Table | None = None

    @property
    def table(self) -> Table:
        """The table that records are saved into. Raises BackendUnavailable if only `open` gives it a name."""
        table = self._table or self._named
        if table is None:
            raise BackendUnavailable(f"SQLite file {self.path} isn't open")
        return table

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        """Opens the file, prepares the table, and claims it for the namespace.

        Raises:
            BackendUnavailable: the file can't be opened.
            ConfigurationError: the table can't be used.
            PlaceTaken: the table belongs to another namespace.
        """
        table = self._named or KeyValueTable(default_name(namespace))
        ledger = Ledger(table, place=f"table {table.name!r} of SQLite file {self.path}")

        async def prepare(writer: aiosqlite.Connection) -> None:
            await table.prepare(writer)
            await ledger.open(writer, namespace, former)

        await self._database.open(prepare)
        self._namespace, self._table, self._ledger = namespace, table, ledger

    async def close(self) -> None:
        """Closes the file; takes a few seconds at most."""
        self._table = self._ledger = None
        await self._database.close()

    async def new_epoch(self, at_least: int) -> int:
        ledger = self._opened()
        if not at_least:
            return ledger.epoch(list(await self._database.fetch(ledger.query)), self._namespace)
        async with self._database.transaction() as writer:
            epoch = await ledger.next_epoch(writer, self._namespace, at_least)
            await writer.commit()
        return epoch

    async def note_server(self, partition: int, epoch: int, server: str) -> list[tuple[int, str]]:
        ledger = self._opened()
        if not epoch:
            return ledger.servers(await self._database.fetch(ledger.servers_query, ledger.servers_of(partition)))
        async with self._database.transaction() as writer:
            began = await ledger.note_server(writer, partition, epoch, server)
            await writer.commit()
        return began

    def _opened(self) -> Ledger:
        if self._ledger is None:
            raise BackendUnavailable(f"SQLite file {self.path} isn't open")
        return self._ledger

    async def highest_version(self) -> object:
        """Returns the highest version stored, or the lowest if that is negative; None if finding it takes too long."""
        rows = await self._database.fetch_within(self.table.highest, seconds=_LOOK_SECONDS)
        for highest, lowest in rows or ():
            return lowest if isinstance(lowest, int) and lowest < 0 else highest
        return None

    async def column_types(self) -> Mapping[str, str]:
        """Returns field -> type as a `MappedTable` declares it; nothing for a table of asyncwb's own."""
        if self._named is None:
            return {}
        async with self._database.apart() as reader:
            return await self._named.column_types(reader)

    async def refused(self, records: Sequence[Record], *, namespace: str) -> Sequence[str | None]:
        """Returns for each record why it can't be stored, or None if it can.

        Saves them in a transaction that is rolled back, so that every rule of the table is applied. Raises
        BackendUnavailable, ConfigurationError and PlaceTaken, as `open` does.
        """
        table = self._named or KeyValueTable(default_name(namespace))
        ledger = Ledger(table, place=f"table {table.name!r} of SQLite file {self.path}")
        reasons: list[str | None] = []
        async with self._database.apart() as writer:
            for record in records:
                if not writer.in_transaction:  # a trigger may have rolled it back
                    await writer.execute("BEGIN IMMEDIATE")
                    await table.prepare(writer)
                    await ledger.claim(writer, namespace, None)
                try:
                    await _apply(writer, table.steps([record], self._clock.now()))
                    reasons.append(None)
                except RecordRejected as error:
                    reasons.append(str(error))
                except REFUSED as error:
                    reasons.append(str(_reason(error)))
        return reasons

    async def save(self, records: Sequence[Record]) -> int:
        newest = newest_per_key(records)
        based = [record for record in newest if record.based_on is not None]
        plain = [record for record in newest if record.based_on is None] if based else newest
        try:
            steps = self.table.steps(plain, self._clock.now())
            async with self._database.transaction() as writer:
                applied = await _apply(writer, steps) + await self._apply_based(writer, based)
                await writer.commit()
                await self._purge_sometimes(writer)
        except (*REFUSED, RecordRejected):
            applied, failed = await self._save_apart(newest)
            if failed:
                stale = len(records) - len(failed) - applied
                raise SaveError(failed, stale=stale) from None
        return len(records) - applied

    async def _apply_based(self, writer: aiosqlite.Connection, records: Sequence[Record]) -> int:
        """Executes the steps of those records that are based on what is stored, and returns how many they are."""
        if not records:
            return 0
        if not writer.in_transaction:
            # From here to the commit no other process can write, so what is read stays what is stored.
            await writer.execute("BEGIN IMMEDIATE")
        held: defaultdict[str, int] = defaultdict(int)
        for start in range(0, len(records), _KEYS_A_QUERY):
            keys = [record.key for record in records[start : start + _KEYS_A_QUERY]]
            for key, version in await writer.execute_fetchall(*self.table.versions(keys)):
                held[str(key)] = max(held[str(key)], version)
        applies = [record for record in records if held[record.key] == record.based_on]
        return await _apply(writer, self.table.steps(applies, self._clock.now()))

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        found: dict[str, Record] = {}
        for start in range(0, len(keys), _KEYS_A_QUERY):
            query, parameters = self.table.query(keys[start : start + _KEYS_A_QUERY])
            found.update(self.table.records(await self._database.fetch(query, parameters)))
        return found

    async def _save_apart(self, records: Sequence[Record]) -> tuple[int, dict[str, Exception]]:
        """Saves each record separately after their batch was refused, so that only the bad ones fail.

        Returns:
            How many were newer than what was stored, and key -> why it can't be stored.
        """
        async with self._database.transaction() as writer:
            try:
                saved = await self._save_each(writer, records, commit_each=False)
            except _Undone:
                saved = await self._save_each(writer, records, commit_each=True)
            await writer.commit()  # also if the last record was refused: its transaction would keep the lock
        return saved

    async def _save_each(
        self, writer: aiosqlite.Connection, records: Sequence[Record], *, commit_each: bool
    ) -> tuple[int, dict[str, Exception]]:
        # Retry failed records after the others for as long as that helps: a record may need a value in a unique column
        # that another record gives up.
        applied = 0
        failed: dict[str, Exception] = {}
        pending, progress = list(records), True
        while pending and progress:
            failed = {}
            for record in pending:
                try:
                    if record.based_on is None:
                        applied += await _apply(writer, self.table.steps([record], self._clock.now()))
                    else:
                        applied += await self._apply_based(writer, [record])
                    if commit_each:
                        await writer.commit()
                except RecordRejected as error:
                    failed[record.key] = error
                except REFUSED as error:
                    failed[record.key] = _reason(error)
                    if applied and not commit_each and not writer.in_transaction:
                        raise _Undone from error
            progress = len(failed) < len(pending)
            pending = [record for record in pending if record.key in failed]
        return applied, failed

    async def _purge_sometimes(self, writer: aiosqlite.Connection) -> None:
        ledger = self._ledger
        if ledger is None or not self._purge_timer.is_due():  # None: it is being closed
            return
        stored = {name: value for name, value in await writer.execute_fetchall(ledger.read_times)}  # noqa: C416
        look = self._clock.look(stored)
        await writer.executemany(ledger.keep, look.rows.items())
        await writer.executemany(ledger.forget, [(name,) for name in look.forgotten])
        cursor = await writer.execute(self.table.purge, (look.purge_before,))
        await writer.commit()
        if cursor.rowcount == PURGE_ROWS:
            self._purge_timer.again()


async def _apply(writer: aiosqlite.Connection, steps: Sequence[Step]) -> int:
    """Executes the steps, and returns how many records were newer than what was stored."""
    applied = 0
    for step in steps:
        if step.rows:
            cursor = await writer.executemany(step.statement, step.rows)
            applied += cursor.rowcount if step.counted else 0
    return applied


def _reason(error: Exception) -> BackendError:
    text = f"SQLite can't store it: {error}"
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CONSTRAINT_UNIQUE:
        # Another row has the value; a write that gives it up may be under way.
        return BackendError(text)
    return RecordRejected(text)


class _Undone(Exception):
    """The whole transaction was rolled back, by a trigger of the user's."""
