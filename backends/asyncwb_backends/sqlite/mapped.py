"""A table that users have already: fields of values are columns, and keys have a column of their own."""

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import aiosqlite
import msgspec

from asyncwb import Codec, ConfigurationError, Record, RecordRejected
from asyncwb.records import CodecName
from asyncwb_backends.sqlite.columns import Column, column, column_type, key_column
from asyncwb_backends.sqlite.defaults import Declared, misread
from asyncwb_backends.sqlite.table import PURGE_ROWS, Step, dated, quoted

VERSION: Final = "asyncwb_version"
_TOMBSTONE_COLUMNS: Final = "key TEXT PRIMARY KEY, version INTEGER NOT NULL, deleted_at INTEGER NOT NULL"
_GENERATED: Final = (2, 3)


class MappedTable:
    """A table of rows that are values: objects whose fields are the mapped columns. Other columns are left as they are.

    A field that a value leaves out (as a Struct with `omit_defaults` does) gets its column's DEFAULT, or NULL. If
    `codec` knows the type of the values, `open` checks that this is read back as the field's default.

    Each row's version is in a column of its own, which is NULL in rows that asyncwb hasn't written yet. Deleting a key
    deletes its row and leaves a tombstone in `<name>_asyncwb_tombstones`; epochs are in `<name>_asyncwb_epochs`.
    Foreign keys aren't checked, as is SQLite's default: the row that one refers to may still be in another buffer.

    If another row already has a value in a unique column, the save is retried, because that row may be about to give
    the value up. Two rows that swap such values both end up as dead letters, since SQLite checks row by row. To swap
    them, write a third value into one of the rows (or NULL, where it is allowed), `flush` it, and then write both.

    Other programs may read the table at any time. A row that they insert is read with version 0, and a row that they
    change keeps its version: the next write of its key through the buffer replaces the mapped columns.

    Args:
        name: the name of the table, which has to exist.
        key: the column of the keys, TEXT or INTEGER, which has to be the primary key or unique. It may also be one of
            the mapped columns: then each value has to repeat its key.
        columns: the mapped columns, which are the fields of the values. By the declared type, INTEGER takes whole
            numbers of 64 bits (also true, false and 3.0), REAL takes numbers, TEXT takes text, BLOB takes bytes (in
            JSON as base64), a type with BOOL in its name takes true and false, one with JSON in its name takes
            anything, and one with DEC or NUM in its name takes numbers and Decimals that SQLite can hold exactly; NULL
            is null. If a column changes a value (true to 1, the Decimal 1.50 to 1.5), it is decoded as the field's
            type, if `codec` knows it, and otherwise returned as stored.
        version: the column of the versions, INTEGER.
        add_version: whether to add that column if it is missing.
        codec: how loaded values are encoded: "json", "msgpack", or a `Codec` of one of them, with the type of the
            values.

    Raises:
        ConfigurationError: the arguments can't work.
    """

    def __init__(
        self,
        name: str,
        *,
        key: str,
        columns: Sequence[str],
        version: str = VERSION,
        add_version: bool = False,
        codec: CodecName | Codec[Any] = "json",
    ) -> None:
        if not isinstance(codec, Codec):
            codec = Codec(codec)
        if codec.name == "bytes":
            raise ConfigurationError("a table's rows are objects, and codec 'bytes' has none: use json or msgpack")
        if not name or not key or not columns or not all(columns):
            raise ConfigurationError("name the table, its key column and at least one column, none of them empty")
        if len(set(columns)) < len(columns) or version in (key, *columns):
            raise ConfigurationError("a column is named twice: key (outside columns), version and columns differ")
        self.name = name
        self.epochs = f"{name}_asyncwb_epochs"
        self._tombstones = quoted(f"{name}_asyncwb_tombstones")
        self._key, self._version, self._names = key, version, tuple(columns)
        self._others = tuple(name for name in columns if name != key)
        self._add_version = add_version
        self._codec = codec
        self._key_to_sql: Callable[[str], Any] = str
        self._columns: Mapping[str, Column] = {}
        index = quoted(f"{name}_asyncwb_tombstones_deleted")
        self._create = (
            f"CREATE TABLE IF NOT EXISTS {self._tombstones} ({_TOMBSTONE_COLUMNS})",
            f"CREATE INDEX IF NOT EXISTS {index} ON {self._tombstones} (deleted_at)",
        )
        own = f"{quoted(name)}.{quoted(version)}"
        self.highest = (
            f"SELECT max(v), min(v) FROM (SELECT {own} AS v FROM {quoted(name)} "  # noqa: S608
            f"UNION ALL SELECT t.version FROM {self._tombstones} AS t)"
        )
        self.purge = (
            f"DELETE FROM {self._tombstones} WHERE rowid IN "  # noqa: S608
            f"(SELECT rowid FROM {self._tombstones} WHERE deleted_at < ? LIMIT {PURGE_ROWS})"
        )

    def _write_statements(self, collate: str) -> None:
        table, tombstones = quoted(self.name), self._tombstones
        # Every column is qualified: SQLite treats an unknown "name" as a string.
        key, version = f"{table}.{quoted(self._key)}{collate}", f"coalesce({table}.{quoted(self._version)}, 0)"
        own = quoted(self._version)
        updates = ", ".join(f"{quoted(each)} = excluded.{quoted(each)}" for each in (self._version, *self._others))
        self._put_end = (
            f"WHERE NOT EXISTS (SELECT 1 FROM {tombstones} AS t WHERE t.key = ? AND t.version >= ?) "  # noqa: S608
            f"ON CONFLICT ({quoted(self._key)}{collate}) DO UPDATE SET {updates} "
            f"WHERE excluded.{own} > {version}"
        )
        self._forget = f"DELETE FROM {tombstones} WHERE key = ? AND version < ?"  # noqa: S608
        self._delete = (
            f"DELETE FROM {table} WHERE {key} = ? AND {version} < ? "  # noqa: S608
            f"AND NOT EXISTS (SELECT 1 FROM {tombstones} AS t WHERE t.key = ? AND t.version >= ?)"
        )
        self._mark = (
            f"INSERT INTO {tombstones} (key, version, deleted_at) SELECT ?, ?, {dated('?', self.epochs)} "  # noqa: S608
            f"WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE {key} = ? AND {version} >= ?) "
            "ON CONFLICT (key) DO UPDATE SET version = excluded.version, deleted_at = excluded.deleted_at "
            f"WHERE excluded.version > {tombstones}.version"
        )
        values = "".join(f", {table}.{quoted(name)}" for name in self._names)
        # Rows and tombstones are read in one statement, and so in one snapshot: a key that is being deleted or put
        # again shows up in one of the two.
        self._rows = f"SELECT {table}.{quoted(self._key)}, {version}, 0{values} FROM {table} WHERE {key} IN "  # noqa: S608
        self._row_versions = f"SELECT {table}.{quoted(self._key)}, {version} FROM {table} WHERE {key} IN "  # noqa: S608
        self._deleted_versions = f" UNION ALL SELECT t.key, t.version FROM {tombstones} AS t WHERE t.key IN "  # noqa: S608
        nulls = ", NULL" * len(self._names)
        self._deleted = f" UNION ALL SELECT t.key, t.version, 1{nulls} FROM {tombstones} AS t WHERE t.key IN "  # noqa: S608

    def _put(self, given: Sequence[str]) -> str:
        """Returns the statement for values with these fields; other mapped columns are set to their defaults."""
        names = (self._key, self._version, *given)
        # OR ABORT: a constraint of the table's own must not be resolved by ignoring or replacing rows.
        return (
            f"INSERT OR ABORT INTO {quoted(self.name)} ({', '.join(map(quoted, names))}) "
            f"SELECT {', '.join('?' * len(names))} {self._put_end}"
        )

    async def prepare(self, writer: aiosqlite.Connection) -> None:
        if not writer.in_transaction:
            # Two processes must not both add the column.
            await writer.execute("BEGIN IMMEDIATE")
        declared = await self._declared(writer)
        self._key_to_sql = key_column(self._key, declared[self._key].type)
        # Whatever collation the column has, different texts are different keys. (An integer key has no collation.)
        self._write_statements(" COLLATE BINARY" if self._key_to_sql is str else "")
        self._columns = {name: column(name, declared[name].type) for name in self._names}
        if problem := await misread(writer, self._codec, self._columns.values(), declared):
            raise self._wrong(problem)
        for statement in self._create:
            await writer.execute(statement)
        try:
            await writer.execute(f"EXPLAIN {self._put(self._others)}", [None] * (4 + len(self._others)))
        except sqlite3.OperationalError as error:
            if "ON CONFLICT" not in str(error):
                raise self._wrong(f"it can't be written: {error}") from error
            raise self._wrong(
                f"column {self._key!r} is neither its primary key nor unique by itself, or it ignores case: "
                "two keys could share a row, or one have two"
            ) from error

    async def column_types(self, reader: aiosqlite.Connection) -> dict[str, str]:
        types = {}
        for _, name, declared, required, *_ in await reader.execute_fetchall(
            f"PRAGMA table_xinfo({quoted(self.name)})"
        ):
            type_ = column_type(declared)
            if name in (self._key, *self._names) and type_ != "text":
                types[name] = type_ if required or name == self._key else f"{type_}?"
        return types

    async def _declared(self, writer: aiosqlite.Connection) -> dict[str, Declared]:
        """Returns how the table declares its columns, after adding the version's if that was asked for.

        Raises:
            ConfigurationError: the table or a column is missing, or can't be used.
        """
        info = f"PRAGMA table_xinfo({quoted(self.name)})"
        found = {row[1]: row for row in await writer.execute_fetchall(info)}
        if not found:
            raise self._wrong("there is no such table: make it first, its name spelt as in the URL")
        if self._version not in found:
            add = f"ALTER TABLE {quoted(self.name)} ADD COLUMN {quoted(self._version)} INTEGER"
            if not self._add_version:
                raise self._wrong(
                    f"it has no column {self._version!r} for versions: add &add_version=1 to the URL, "
                    f"or run {add}, or name another with &version=…"
                )
            await writer.execute(add)
        elif column(self._version, found[self._version][2]).write is not column("", "INTEGER").write:
            raise self._wrong(f"column {self._version!r} can't hold versions: it has to be INTEGER")
        for name in (self._key, *self._names):
            if name not in found:
                raise self._wrong(f"it has no column {name!r}; there are {', '.join(map(repr, found))}")
            if found[name][6] in _GENERATED:
                raise self._wrong(f"column {name!r} is generated: SQLite doesn't let anybody write it")
        for name, row in found.items():
            required = row[3] and row[4] is None and row[6] not in _GENERATED
            if required and name not in (self._key, self._version, *self._names):
                raise self._wrong(
                    f"column {name!r} is NOT NULL without a default, so no row could be inserted: add it to columns"
                )
        return {name: Declared(row[2], row[4]) for name, row in found.items()}

    def _wrong(self, what: str) -> ConfigurationError:
        return ConfigurationError(f"table {self.name!r}: {what}")

    def steps(self, records: Sequence[Record], now: int) -> Sequence[Step]:
        puts: defaultdict[tuple[str, ...], list[Any]] = defaultdict(list)
        deletes = []
        for record in records:
            key, version = self._own_key(record.key), record.version
            if record.deleted:
                deletes.append((record.key, version, key, now))
            else:
                cells = self._cells(record, key)
                puts[tuple(cells)].append((key, version, *cells.values(), record.key, version))
        return (
            *(Step(self._put(given), rows, counted=True) for given, rows in puts.items()),
            Step(self._forget, [put[-2:] for rows in puts.values() for put in rows], counted=False),
            Step(self._delete, [(key, v, text, v) for text, v, key, _ in deletes], counted=False),
            Step(self._mark, [(text, v, at, key, v) for text, v, key, at in deletes], counted=True),
        )

    def _own_key(self, key: str) -> Any:
        try:
            return self._key_to_sql(key)
        except ValueError:
            raise RecordRejected(
                f"key column {self._key!r} holds whole numbers of 64 bits, and the key isn't one in plain decimals"
            ) from None

    def _cells(self, record: Record, key: Any) -> dict[str, Any]:
        """Returns column -> what is stored, in the order of columns, without the key and fields that are left out.

        Raises:
            RecordRejected: the value doesn't fit the columns.
        """
        try:
            value = record.value
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise RecordRejected(f"its value is not valid {record.codec}: {error}") from error
        if not isinstance(value, dict):
            raise RecordRejected(f"its value is a {type(value).__name__} and not an object: a row needs fields")
        if unknown := [repr(name) for name in value if name not in self._columns]:
            raise RecordRejected(f"table {self.name!r} has no mapped column for {', '.join(unknown)}")
        cells = {name: each.to_sql(value[name]) for name, each in self._columns.items() if name in value}
        if self._key in cells and cells.pop(self._key) != key:
            raise RecordRejected(f"its field {self._key!r} isn't its key")
        return cells

    def query(self, keys: Sequence[str]) -> tuple[str, Sequence[Any]]:
        return self._query(self._rows, self._deleted, keys)

    def versions(self, keys: Sequence[str]) -> tuple[str, Sequence[Any]]:
        return self._query(self._row_versions, self._deleted_versions, keys)

    def _query(self, of_rows: str, of_tombstones: str, keys: Sequence[str]) -> tuple[str, Sequence[Any]]:
        own = []
        for key in keys:
            try:
                own.append(self._key_to_sql(key))
            except ValueError:
                continue  # no row can have it
        rows, deleted = (f"({','.join('?' * len(each))})" for each in (own, keys))
        return f"{of_rows}{rows}{of_tombstones}{deleted}", (*own, *keys)

    def records(self, rows: Iterable[Any]) -> dict[str, Record]:
        tombstones: dict[str, int] = {}
        values: dict[str, tuple[int, bytes]] = {}
        for key, version, deleted, *cells in rows:
            if deleted:
                tombstones[key] = version
            else:
                fields = {each.name: each.read(cell) for each, cell in zip(self._columns.values(), cells, strict=True)}
                values[str(key)] = version, self._codec.encode_row(fields)
        found = {key: Record(key, version, codec=self._codec.name, deleted=True) for key, version in tombstones.items()}
        for key, (version, payload) in values.items():
            # If the key has both, another program has inserted the row after the delete. The row is shown, with a
            # version no lower than the tombstone's.
            found[key] = Record(key, max(version, tombstones.get(key, 0)), payload, codec=self._codec.name)
        return found
