"""A table of asyncwb's own: keys and values, including tombstones."""

import re
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

import aiosqlite

from asyncwb import ConfigurationError, Record, RecordRejected
from asyncwb_backends.sqlite.table import PURGE_ROWS, Step, dated

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_COLUMNS: Final = "key TEXT NOT NULL, value, codec TEXT NOT NULL, version INTEGER NOT NULL, deleted_at INTEGER"

Row = tuple[str, "str | bytes | None", str, int, "int | None", "int | None"]


class KeyValueTable:
    """A table with a row for each key.

    Its columns are public, and docs/backends.md describes them: `key`, `value` (JSON as text, anything else as a blob;
    NULL for a tombstone), `codec`, `version`, and `deleted_at` (Unix time of a tombstone, else NULL).

    Args:
        name: `[A-Za-z_][A-Za-z0-9_]{0,62}`.
    """

    def __init__(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"table {name!r}: use a letter or _, then letters, digits and _, 63 at most")
        self.name = name
        self.epochs = f"{name}_meta"
        table = f'"{name}"'
        self._create = (
            f"CREATE TABLE IF NOT EXISTS {table} ({_COLUMNS})",
            # A rowid table with an index is 3 to 5 times faster on random keys than WITHOUT ROWID.
            f'CREATE UNIQUE INDEX IF NOT EXISTS "{name}_key" ON {table} (key)',
            f'CREATE INDEX IF NOT EXISTS "{name}_deleted" ON {table} (deleted_at) WHERE deleted_at IS NOT NULL',
        )
        self._select = f"SELECT key, value, codec, version, deleted_at FROM {table}"  # noqa: S608
        self._versions = f"SELECT key, version FROM {table}"  # noqa: S608
        self.highest = f"SELECT max(version), min(version) FROM {table}"  # noqa: S608
        self._save = (
            f"INSERT INTO {table} (key, value, codec, version, deleted_at) VALUES (?, ?, ?, ?, "  # noqa: S608
            # The date is passed twice rather than as ?5, because Python 3.12 warns about numbered parameters.
            f"CASE WHEN ? IS NOT NULL THEN {dated('?', self.epochs)} END) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value, codec = excluded.codec, "
            f"version = excluded.version, deleted_at = excluded.deleted_at WHERE excluded.version > {table}.version"
        )
        self.purge = (
            f"DELETE FROM {table} WHERE rowid IN "  # noqa: S608
            f"(SELECT rowid FROM {table} WHERE deleted_at < ? LIMIT {PURGE_ROWS})"
        )

    async def prepare(self, writer: aiosqlite.Connection) -> None:
        try:
            for statement in (*self._create, f"{self._select} LIMIT 0"):
                await writer.execute(statement)
        except sqlite3.OperationalError as error:
            if "no such column" in str(error) or "has no column" in str(error):
                raise ConfigurationError(
                    f"table {self.name!r} has other columns than asyncwb's: name another with ?table=…, "
                    "or map its columns with &key=…&columns=…"
                ) from error
            raise

    def steps(self, records: Sequence[Record], now: int) -> Sequence[Step]:
        return (Step(self._save, [_row(record, now) for record in records], counted=True),)

    async def column_types(self, _: aiosqlite.Connection) -> dict[str, str]:
        """Returns an empty dict: the value is stored as a whole, so no field has a column."""
        return {}

    def query(self, keys: Sequence[str]) -> tuple[str, Sequence[Any]]:
        return f"{self._select} WHERE key IN ({','.join('?' * len(keys))})", keys

    def versions(self, keys: Sequence[str]) -> tuple[str, Sequence[Any]]:
        return f"{self._versions} WHERE key IN ({','.join('?' * len(keys))})", keys

    def records(self, rows: Iterable[Any]) -> dict[str, Record]:
        return {row[0]: _record(row) for row in rows}


def _row(record: Record, now: int) -> Row:
    if record.deleted:
        return record.key, None, record.codec, record.version, now, now
    try:
        value = record.payload.decode() if record.codec == "json" else record.payload
    except UnicodeDecodeError as error:
        raise RecordRejected(f"its value is not valid JSON: {error}") from error
    return record.key, value, record.codec, record.version, None, None


def _record(row: Iterable[Any]) -> Record:
    key, value, codec, version, deleted_at = row
    if deleted_at is not None:
        return Record(key, version, codec=codec, deleted=True)
    return Record(key, version, value.encode() if isinstance(value, str) else value, codec=codec)
