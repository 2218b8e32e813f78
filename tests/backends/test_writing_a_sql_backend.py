"""The page for SQL databases: its statements do what it says, on real servers."""

import asyncio
import re
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg
import pytest

from tests.harness.databases import MariaDB, PostgreSQL
from tests.harness.environments import REPOSITORY

TEXT = (REPOSITORY / "docs" / "writing-a-sql-backend.md").read_text("utf-8")
BLOCKS = re.findall(r"```sql\n-- (\w+)\n(.*?)```", TEXT, re.DOTALL)

Row = tuple[str, int, bool]
"""A key, a version, and whether it is a tombstone."""


def statement(database: str, beginning: str) -> str:
    (found,) = (text for name, text in BLOCKS if name == database and text.startswith(beginning))
    return str(found)


def test_every_block_is_one_that_is_run_here() -> None:
    assert len(BLOCKS) == TEXT.count("```") / 2
    assert [(name, text.split()[0]) for name, text in BLOCKS] == [
        ("PostgreSQL", "CREATE"), ("MariaDB", "CREATE"), ("PostgreSQL", "INSERT"), ("MariaDB", "INSERT"),
        ("MariaDB", "SELECT"), ("PostgreSQL", "UPDATE"), ("MariaDB", "UPDATE"), ("PostgreSQL", "SELECT"),
        ("MariaDB", "SELECT"), ("PostgreSQL", "DELETE"), ("MariaDB", "DELETE"),
    ]  # fmt: skip


# PostgreSQL


async def test_statements_for_postgresql(postgresql: PostgreSQL) -> None:
    connection = await asyncpg.connect(postgresql.url)
    schema = f"page_{uuid.uuid4().hex[:12]}"
    await connection.execute(f"CREATE SCHEMA {schema}; SET search_path TO {schema}")
    try:
        await connection.execute(statement("PostgreSQL", "CREATE"))
        await connection.execute(statement("PostgreSQL", "CREATE"))

        async def save(*rows: Row) -> int:
            columns: Iterable[Any] = zip(*((key, v, "json", b"%d" % v, dead) for key, v, dead in rows), strict=True)
            status = await connection.execute(statement("PostgreSQL", "INSERT"), *columns)
            return int(status.split()[-1])

        assert await save(("a", 5, False), ("b", 5, False), ("A", 5, False), ("a ", 5, False)) == 4
        assert await save(("a", 6, False), ("b", 4, False), ("c", 4, True), ("A", 5, True)) == 2
        rows = await connection.fetch("SELECT key, version, payload FROM notes ORDER BY key")
        assert [tuple(row) for row in rows] == [
            ("A", 5, b"5"), ("a", 6, b"6"), ("a ", 5, b"5"), ("b", 5, b"5"), ("c", 4, b"4"),
        ]  # fmt: skip
        with pytest.raises(asyncpg.PostgresError) as caught:
            await save(("d", 1, False), ("d", 2, False))
        assert caught.value.sqlstate == "21000", "a key that comes twice"

        assert await connection.execute(statement("PostgreSQL", "DELETE"), 100.0) == "DELETE 0"
        await connection.execute("UPDATE notes SET deleted_at = now() - interval '101 s' WHERE key = 'c'")
        assert await connection.execute(statement("PostgreSQL", "DELETE"), 100.0) == "DELETE 1"
        assert await connection.fetchval(statement("PostgreSQL", "SELECT")) is True
    finally:
        await connection.execute(f"DROP SCHEMA {schema} CASCADE")
        await connection.close()


async def test_statements_for_records_with_a_base_in_postgresql(postgresql: PostgreSQL) -> None:
    connections = [await asyncpg.connect(postgresql.url) for _ in range(2)]
    connection, other = connections
    schema = f"page_{uuid.uuid4().hex[:12]}"
    await connection.execute(f"CREATE SCHEMA {schema}")
    condition = "held.version < excluded.version"
    insert = statement("PostgreSQL", "INSERT")
    assert condition in insert

    async def save(*rows: tuple[str, int, bool, int], using: Any = connection) -> int:
        bases = [row[-1] for row in rows]
        columns: list[Any] = [*zip(*((key, v, "json", b"%d" % v, dead) for key, v, dead, _ in rows), strict=True)]
        if any(bases):
            status = await using.execute(statement("PostgreSQL", "UPDATE"), *columns, bases)
        else:
            status = await using.execute(insert.replace(condition, "held.version = 0"), *columns)
        return int(status.split()[-1])

    try:
        for each in connections:
            await each.execute(f"SET search_path TO {schema}")
        await connection.execute(statement("PostgreSQL", "CREATE"))
        await connection.execute("INSERT INTO notes (key, version, codec) VALUES ('theirs', 0, 'json')")
        assert await save(("a", 5, False, 0), ("b", 5, True, 0), ("theirs", 5, False, 0)) == 3
        assert await save(("a", 6, False, 0), ("b", 6, True, 0)) == 0
        assert await save(("a", 6, False, 5), ("b", 6, True, 5), ("c", 6, False, 5), ("theirs", 6, True, 4)) == 2
        assert await save(("a", 6, False, 5)) == 0
        rows = await connection.fetch("SELECT key, version, deleted_at IS NOT NULL FROM notes ORDER BY key")
        assert [tuple(row) for row in rows] == [("a", 6, False), ("b", 6, True), ("theirs", 5, False)]

        async with other.transaction():
            assert await save(("a", 7, False, 6), using=other) == 1
            waiting = asyncio.create_task(save(("a", 8, False, 6)))
            await asyncio.sleep(0.2)
            assert not waiting.done(), "the other session has the row's lock"
        assert await waiting == 0, "the row has changed since the statement began"
        assert await save(("x", 10, False, 0), ("y", 10, False, 0)) == 2
        for base in range(10, 60):
            batch = [(name, base + 1, False, base) for name in ("x", "y")]
            applied = await asyncio.gather(*(save(*batch, using=each) for each in connections))
            assert sorted(applied) == [0, 2], "one has locked both rows before the other"
    finally:
        await connection.execute(f"DROP SCHEMA {schema} CASCADE")
        for each in connections:
            await each.close()


# MariaDB


def filled(text: str, *values: str) -> str:
    """Returns a statement with its parameters filled in, in their order."""
    parts = text.split("?")
    assert len(parts) == len(values) + 1
    return "".join(part + value for part, value in zip(parts, [*values, ""], strict=True))


def literal(value: str | bytes) -> str:
    return f"0x{(value.encode() if isinstance(value, str) else value).hex()}"


class Table:
    """The page's table in MariaDB."""

    def __init__(self, server: MariaDB, insert: str) -> None:
        self._server = server
        (self._row,) = re.findall(r"(?<=VALUES )\(\?.*\)", insert)
        self._insert = insert
        server.run(f"DROP TABLE IF EXISTS notes; {statement('MariaDB', 'CREATE')} {statement('MariaDB', 'CREATE')}")

    def save(self, *rows: Row) -> tuple[int, int]:
        """Returns how many rows the server reports as affected, and how many have the call's token."""
        token = literal(uuid.uuid4().bytes)
        values = ", ".join(
            filled(self._row, literal(key), str(v), "'json'", f"'{v}'", str(int(dead)), token) for key, v, dead in rows
        )
        count = filled(statement("MariaDB", "SELECT count"), ", ".join(literal(key) for key, *_ in rows), token)
        insert = self._insert.replace(self._row, values)
        (affected,), (bear,) = self._server.run(f"BEGIN; {insert} SELECT ROW_COUNT(); {count} COMMIT;")
        return int(affected), int(bear)

    def rows(self) -> Sequence[Sequence[str]]:
        return self._server.run("SELECT `key`, version, payload FROM notes ORDER BY `key`")


def test_statements_for_mariadb(mariadb: MariaDB) -> None:
    table = Table(mariadb, statement("MariaDB", "INSERT"))
    assert table.save(("a", 5, False), ("b", 5, False), ("A", 5, False), ("a ", 5, False)) == (4, 4)
    assert table.save(("a", 6, False)) == (2, 1)
    assert table.save(("a", 6, False)) == (0, 0)
    assert table.save(("b", 6, False), ("a", 4, False)) == (2, 1), "as many as two inserts"
    assert table.save(("d", 1, False), ("e", 1, False)) == (2, 2)
    assert table.save(("b", 7, False), ("a", 4, False), ("c", 4, True), ("A", 5, True)) == (3, 2)
    assert table.rows() == [
        ["A", "5", "5"], ["a", "6", "6"], ["a ", "5", "5"], ["b", "7", "7"], ["c", "4", "4"], ["d", "1", "1"],
        ["e", "1", "1"],
    ]  # fmt: skip

    def purge() -> list[list[str]]:
        return mariadb.run(f"{filled(statement('MariaDB', 'DELETE'), '100')} SELECT ROW_COUNT();")

    assert purge() == [["0"]]
    mariadb.run("UPDATE notes SET deleted_at = now(6) - INTERVAL 101 SECOND WHERE `key` = 'c'")
    assert purge() == [["1"]]


def test_statements_for_records_with_a_base_in_mariadb(mariadb: MariaDB) -> None:
    insert = statement("MariaDB", "INSERT").replace("VALUES(version) > version", "version = 0")
    insert = insert.replace("GREATEST(version, VALUES(version))", "IF(version = 0, VALUES(version), version)")
    table = Table(mariadb, insert)
    mariadb.run("INSERT INTO notes VALUES ('theirs', 0, 'json', '0', NULL, '')")
    assert table.save(("a", 5, False), ("theirs", 5, False)) == (3, 2)
    assert table.save(("a", 6, False)) == (0, 0), "something is stored"

    def update(key: str, version: int, based_on: int) -> int:
        values = (str(version), "'json'", f"'{version}'", "0", "''", literal(key), str(based_on))
        ((affected,),) = mariadb.run(f"{filled(statement('MariaDB', 'UPDATE'), *values)} SELECT ROW_COUNT();")
        return int(affected)

    assert [update("a", 6, 4), update("a", 6, 6), update("b", 6, 5), update("a", 6, 5), update("a", 6, 5)] == [
        0, 0, 0, 1, 0,
    ]  # fmt: skip
    assert table.rows() == [["a", "6", "6"], ["theirs", "5", "5"]]


def test_version_has_to_be_assigned_last(mariadb: MariaDB) -> None:
    insert = statement("MariaDB", "INSERT")
    last = ",\n    version = GREATEST(version, VALUES(version))"
    assert last in insert
    wrong = insert.replace(last, "").replace("UPDATE\n    ", f"UPDATE\n    {last[6:]},\n    ")
    for text, payload in ((insert, "2"), (wrong, "1")):
        table = Table(mariadb, text)
        table.save(("a", 1, False))
        table.save(("a", 2, False))
        assert table.rows() == [["a", "2", payload]]


def test_collation_that_compares_bytes_may_ignore_trailing_blanks(mariadb: MariaDB) -> None:
    mariadb.run(
        "CREATE OR REPLACE TABLE padded (k varchar(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY);"
        "INSERT INTO padded VALUES ('x')"
    )
    with pytest.raises(AssertionError, match="Duplicate entry 'x '"):
        mariadb.run("INSERT INTO padded VALUES ('x ')")


@pytest.mark.parametrize(("value", "durable"), [(2, "0"), (0, "0"), (1, "1")])
def test_server_that_syncs_nothing_is_seen(mariadb: MariaDB, value: int, durable: str) -> None:
    try:
        mariadb.run(f"SET GLOBAL innodb_flush_log_at_trx_commit = {value}")
        assert mariadb.run(statement("MariaDB", "SELECT @@")) == [[durable]]
    finally:
        mariadb.run("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
