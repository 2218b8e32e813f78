"""The owner, epochs and servers of a table, and the times of its clock, kept in a small table beside it."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import aiosqlite

from asyncwb import takes_place
from asyncwb.plugins.succession import with_server
from asyncwb_backends.sqlite.clock import GAP, TIME
from asyncwb_backends.sqlite.table import Table, quoted

_OWNER: Final = "namespace"
_EPOCH: Final = "epoch"
_SERVER: Final = "server."


class Ledger:
    """The small table beside a table.

    Its rows are `epoch` (a number), `namespace` (a blob, so that no column affinity turns it into a number), the times
    of the table's clock, and `server.<partition>.<epoch>` (a blob for the same reason).

    Args:
        table: the table that this belongs to.
        place: what to call the table in error messages.
    """

    def __init__(self, table: Table, *, place: str) -> None:
        self._place = place
        name = quoted(table.epochs)
        self._create = f"CREATE TABLE IF NOT EXISTS {name} (name TEXT PRIMARY KEY, value INTEGER NOT NULL)"
        self.query = f"SELECT name, value FROM {name} WHERE name IN ('{_EPOCH}', '{_OWNER}')"  # noqa: S608
        self._note = (
            f"INSERT INTO {name} (name, value) VALUES ('{_OWNER}', ?) "  # noqa: S608
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        )
        self.read_times = f"SELECT name, value FROM {name} WHERE name = '{TIME}' OR name GLOB '{GAP}*'"  # noqa: S608
        self.keep = f"INSERT OR REPLACE INTO {name} (name, value) VALUES (?, ?)"  # noqa: S608
        self.forget = f"DELETE FROM {name} WHERE name = ?"  # noqa: S608
        self.servers_query = f"SELECT name, value FROM {name} WHERE name GLOB ?"  # noqa: S608
        self._next = (
            f"INSERT INTO {name} (name, value) VALUES ('{_EPOCH}', max(1, :at_least)) "  # noqa: S608
            "ON CONFLICT (name) DO UPDATE SET value = max(value + 1, :at_least) RETURNING value"
        )

    async def open(self, writer: aiosqlite.Connection, namespace: str, former: str | None) -> None:
        """Records the owner, and commits. Raises PlaceTaken."""
        await self.claim(writer, namespace, former)
        await writer.commit()

    async def claim(self, writer: aiosqlite.Connection, namespace: str, former: str | None) -> None:
        """Records the owner; the caller commits. Raises PlaceTaken."""
        await writer.execute(self._create)
        if self._takes(await self._rows(writer), namespace, former):
            if not writer.in_transaction:
                await writer.execute("BEGIN IMMEDIATE")
            if self._takes(await self._rows(writer), namespace, former):  # no other process was quicker
                await writer.execute(self._note, (namespace.encode(),))
                if former is not None:
                    await writer.execute_fetchall(self._next, {"at_least": 1})

    def epoch(self, rows: Sequence[Any], namespace: str) -> int:
        """Returns the highest epoch that was allotted, from the rows of `query`. Raises PlaceTaken."""
        self._takes(rows, namespace, None)
        return int(dict(rows).get(_EPOCH, 0))

    async def next_epoch(self, writer: aiosqlite.Connection, namespace: str, at_least: int) -> int:
        """Allots the next epoch, `at_least` or higher; the caller commits. Raises PlaceTaken."""
        await writer.execute("BEGIN IMMEDIATE")
        self._takes(await self._rows(writer), namespace, None)
        (row,) = await writer.execute_fetchall(self._next, {"at_least": at_least})
        return int(row[0])

    def servers_of(self, partition: int) -> tuple[str]:
        """Returns the parameters of `servers_query`."""
        return (f"{_SERVER}{partition}.*",)

    def servers(self, rows: Iterable[Any]) -> list[tuple[int, str]]:
        """Returns pairs of an epoch and the server that began it, by epoch, from the rows of `servers_query`."""
        return sorted((int(name.rpartition(".")[2]), value.decode()) for name, value in rows)

    async def note_server(
        self, writer: aiosqlite.Connection, partition: int, epoch: int, server: str
    ) -> list[tuple[int, str]]:
        """Does what a backend's `note_server` does; the caller commits."""
        await writer.execute("BEGIN IMMEDIATE")
        noted = self.servers(await writer.execute_fetchall(self.servers_query, self.servers_of(partition)))
        began = with_server(noted, epoch, server)
        for each, name in set(began) - set(noted):
            await writer.execute(self.keep, (f"{_SERVER}{partition}.{each}", name.encode()))
        for each, _ in set(noted) - set(began):
            await writer.execute(self.forget, (f"{_SERVER}{partition}.{each}",))
        return began

    def _takes(self, rows: Sequence[Any], namespace: str, former: str | None) -> bool:
        noted = dict(rows).get(_OWNER)
        owner = noted.decode("utf-8", "replace") if isinstance(noted, bytes) else noted and str(noted)
        return takes_place(owner, namespace, former=former, place=self._place)

    async def _rows(self, writer: aiosqlite.Connection) -> list[Any]:
        return list(await writer.execute_fetchall(self.query))
