"""The interface of a kind of table: how records become statements, and rows become records."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import aiosqlite

from asyncwb import Record
from asyncwb_backends.sqlite.clock import TIME


class Step(NamedTuple):
    """One statement for many rows.

    Attributes:
        counted: whether each row that it changes counts as a record that was newer than what was stored.
    """

    statement: str
    rows: Sequence[Sequence[Any]]
    counted: bool


class Table(Protocol):
    """A kind of table.

    Attributes:
        name: the name of the table.
        epochs: the name of the table with its epochs and its owner.
        highest: a query for the highest and the lowest version that are stored, in one row.
        purge: a statement that deletes at most `PURGE_ROWS` tombstones from before a Unix time, its parameter.
    """

    name: str
    epochs: str
    highest: str
    purge: str

    async def prepare(self, writer: aiosqlite.Connection) -> None:
        """Creates what is missing, and checks what exists. Raises sqlite3.Error, ConfigurationError."""
        ...

    def steps(self, records: Sequence[Record], now: int) -> Sequence[Step]:
        """Returns the steps that save the records inside a transaction; tombstones are dated `now`, in Unix seconds.

        No two of the records may have the same key.

        Raises:
            RecordRejected: one of them can't be stored.
        """
        ...

    async def column_types(self, reader: aiosqlite.Connection, /) -> Mapping[str, str]:
        """Returns what a backend's `column_types` does, for those of its columns that exist."""
        ...

    def query(self, keys: Sequence[str]) -> tuple[str, Sequence[Any]]:
        """Returns a query for the rows of these keys, and its parameters."""
        ...

    def versions(self, keys: Sequence[str]) -> tuple[str, Sequence[Any]]:
        """Returns a query for the key and version of what is stored for these keys, and its parameters.

        A key may come in two rows, of which the one with the higher version counts; it may come as a number.
        """
        ...

    def records(self, rows: Iterable[Any]) -> dict[str, Record]:
        """Returns key -> record, made from the rows of that query."""
        ...


PURGE_ROWS = 1000


def quoted(name: str) -> str:
    """Quotes an identifier, which may contain any characters."""
    return '"' + name.replace('"', '""') + '"'


def dated(now: str, epochs: str) -> str:
    """Returns an SQL expression for a tombstone's date: `now`, an expression too, but never before the table's time."""
    return f"max({now}, coalesce((SELECT value FROM {quoted(epochs)} WHERE name = '{TIME}'), 0))"  # noqa: S608
