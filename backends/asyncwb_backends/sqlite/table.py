"""What a kind of table has to know: how records become statements, and rows become records."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import aiosqlite

from asyncwb import Record
from asyncwb_backends.sqlite.clock import TIME


class Step(NamedTuple):
    """One statement for many rows.

    Attributes:
        counted: whether each row that it changes is a record that was newer than what was stored.
    """

    statement: str
    rows: Sequence[Sequence[Any]]
    counted: bool


class Table(Protocol):
    """A kind of table.

    Attributes:
        name: of the table.
        epochs: name of the table of its epochs and its owner.
        highest: a query for the highest and the lowest version that are stored, in one row.
        purge: deletes at most `PURGE_ROWS` tombstones from before a Unix time, its parameter.
    """

    name: str
    epochs: str
    highest: str
    purge: str

    async def prepare(self, writer: aiosqlite.Connection) -> None:
        """Makes what isn't there yet. Raises sqlite3.Error, ConfigurationError."""
        ...

    def steps(self, records: Sequence[Record], now: int) -> Sequence[Step]:
        """What saves the records, one per key, inside a transaction; tombstones are dated `now`, in Unix seconds.

        Raises:
            RecordRejected: one of them can't be stored.
        """
        ...

    async def column_types(self, reader: aiosqlite.Connection, /) -> Mapping[str, str]:
        """As `column_types` of a backend; of the columns that are there."""
        ...

    def query(self, keys: Sequence[str]) -> tuple[str, Sequence[Any]]:
        """A query for their records, with its parameters."""
        ...

    def records(self, rows: Iterable[Any]) -> dict[str, Record]:
        """The records of that query's rows."""
        ...


PURGE_ROWS = 1000


def quoted(name: str) -> str:
    """An identifier, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def dated(now: str, epochs: str) -> str:
    """An expression for the date of a tombstone: `now`, an expression, but never before the table's own time."""
    return f"max({now}, coalesce((SELECT value FROM {quoted(epochs)} WHERE name = '{TIME}'), 0))"  # noqa: S608
