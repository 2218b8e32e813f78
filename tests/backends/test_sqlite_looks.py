"""What a SQLite backend says about its table before anything is written: its types, and what it would refuse."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from asyncwb import BackendUnavailable, Codec, ConfigurationError, PlaceTaken, Record
from asyncwb.records import MAX_EPOCH, make_version
from asyncwb_backends.sqlite import SQLiteBackend, from_url
from tests.harness.sqlite import execute

TABLE = """CREATE TABLE items (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL CHECK (name <> 'bad'), stock INT NOT NULL, more BIGINT, ratio DOUBLE,
    price DECIMAL(10, 2), number NUMERIC NOT NULL, ok BOOLEAN, extra JSON, day DATE, at TIMESTAMP, raw BLOB, any,
    other INTEGER, code TEXT UNIQUE
)"""
COLUMNS = "id,name,stock,more,ratio,price,number,ok,extra,day,at,raw,any,code"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "a ?#%.db"
    execute(path, TABLE, "INSERT INTO items (id, name, stock, number, code) VALUES (1, 'Nut', 1, 1, 'taken')")
    return path


def backend(path: Path, columns: str = COLUMNS) -> SQLiteBackend:
    quoted = str(path).replace("%", "%25").replace("?", "%3F").replace("#", "%23").replace(" ", "%20")
    return from_url(f"sqlite:///{quoted}?table=items&key=id&columns={columns}&add_version=1", codec=Codec("json"))


def items(*rows: dict[str, Any]) -> list[Record]:
    usual = dict.fromkeys(COLUMNS.split(","), None)
    found = []
    for number, row in enumerate(rows, 1):
        key = str(row.pop("key", 100 + number))
        value = {**usual, "id": int(key), "name": "x", "stock": 1, "number": 1, **row}
        found.append(Record(key, make_version(MAX_EPOCH, number), msgspec.json.encode(value)))
    return found


def everything(path: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in path.parent.iterdir()}


async def test_columns_tell_their_types(database: Path) -> None:
    before = everything(database)
    assert await backend(database).column_types() == {
        "id": "int", "stock": "int", "more": "int?", "ratio": "float?", "price": "number?", "number": "number",
        "ok": "bool?", "extra": "json?",
    }  # fmt: skip
    assert everything(database) == before


async def test_table_of_keys_and_values_has_no_types_and_is_not_looked_at(tmp_path: Path) -> None:
    assert await SQLiteBackend(tmp_path / "no folder" / "a.db").column_types() == {}
    assert await SQLiteBackend(tmp_path / "a.db", table="users").column_types() == {}
    assert not list(tmp_path.iterdir())


async def test_every_rule_of_the_table_has_its_say_and_nothing_is_left(database: Path) -> None:
    before = everything(database)
    records = items(
        {}, {"name": "bad"}, {"stock": None}, {"stock": "1"}, {"code": "taken"}, {"key": 1, "code": "taken"}, {"key": 1}
    )
    reasons = await backend(database).refused(records, namespace="ns")
    shown = [(reason or "").removeprefix("SQLite can't store it: ") for reason in reasons]
    assert shown == [
        "", "CHECK constraint failed: name <> 'bad'", "NOT NULL constraint failed: items.stock",
        "column 'stock' (INT) takes whole numbers of 64 bits, not a str",
        "UNIQUE constraint failed: items.code", "", "",
    ]  # fmt: skip
    assert everything(database) == before


async def test_record_is_refused_alone_where_a_trigger_rolls_everything_back(database: Path) -> None:
    execute(
        database,
        "CREATE TRIGGER no BEFORE INSERT ON items WHEN NEW.name = 'no' BEGIN SELECT RAISE(ROLLBACK, 'not that'); END",
    )
    before = everything(database)
    reasons = await backend(database).refused(items({}, {"name": "no"}, {}, {"name": "bad"}), namespace="ns")
    assert [reason is None for reason in reasons] == [True, False, True, False]
    assert everything(database) == before


async def test_look_at_a_database_that_is_not_there_makes_none(tmp_path: Path) -> None:
    records = [Record("a", make_version(MAX_EPOCH, 1), b"1"), Record("b", make_version(MAX_EPOCH, 1), b"\xff")]
    reasons = await SQLiteBackend(tmp_path / "a.db").refused(records, namespace="ns")
    assert reasons[0] is None
    assert "not valid JSON" in str(reasons[1])
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigurationError, match="there is no such table"):
        await backend(tmp_path / "a.db").refused(items({}), namespace="ns")
    with pytest.raises(BackendUnavailable, match="make it first"):
        await SQLiteBackend(tmp_path / "no folder" / "a.db").refused(records, namespace="ns")
    assert not list(tmp_path.iterdir())


async def test_place_of_another_namespace_is_told(database: Path) -> None:
    opened = backend(database)
    await opened.open(namespace="other")
    await opened.close()
    with pytest.raises(PlaceTaken, match="other"):
        await backend(database).refused(items({}), namespace="ns")


async def test_look_beside_a_buffer_that_saves(database: Path) -> None:
    opened = backend(database)
    await opened.open(namespace="ns")
    try:
        assert (await backend(database).refused(items({}, {"name": "bad"}), namespace="ns"))[0] is None
        assert await opened.save(items({})) == 0
        stored: Sequence[Any] = execute(database, "SELECT id FROM items ORDER BY id")
        assert stored == [(1,), (101,)]
    finally:
        await opened.close()
