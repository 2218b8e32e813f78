"""SQLite tables of any shape: columns of every type, odd names and conflicts, and tables that cannot be used."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from asyncwb import Codec, ConfigurationError, Record, SaveError
from asyncwb.testing.contract import put as record
from asyncwb.testing.contract import tombstone, version
from asyncwb_backends.sqlite import MappedTable, SQLiteBackend, from_url
from tests.harness.sqlite import execute, refusals

CODEC: Codec[Any] = Codec("json")


@pytest.mark.parametrize(
    ("declared", "good", "bad"),
    [
        ("INTEGER", [0, -(2**63), 2**63 - 1, 3.0], [1.5, "1", 2**63, 1e300, float(2**63), [1]]),
        ("BIGINT UNSIGNED", [5], ["5"]),
        ("VARCHAR(20)", ["", "ü\0x", "12"], [1, True, {}]),
        ("REAL", [1.5, 3, -1e300, 2**53], ["1.5", True, 2**53 + 1]),
        ("DATE", [1, 1.5, 1.0, "x", "0x10", "1 2", ""], ["12", " 1.5e3 ", "-.5", True, 2**63, []]),
        ("NUMERIC", [1, 1.5, "x", "0x10", "1 2", ""], [True, 2**63, [], "0.1234567890123456789", "9" * 19, "1e999999"]),
        ("DATETIME", ["2026-11-23 12:00:00", 1795435200], ["20261123"]),
        ("BOOLEAN", [True, False], [1, 0, "true"]),
        ("JSON", [{"a": [1, None]}, [], "12", "x", True, 1.5, 7], [2**63]),
        ("BLOB", ["AAEC", ""], ["not base64!", "AAE", 1, True]),
        ("", ["12", 1, 1.5], [True, [], {}]),
    ],
)
async def test_value_comes_back_as_it_was_or_is_refused(
    tmp_path: Path, declared: str, good: list[Any], bad: list[Any]
) -> None:
    path = tmp_path / "a.db"
    execute(path, f"CREATE TABLE t (id INTEGER PRIMARY KEY, x {declared})")
    backend = SQLiteBackend(path, table=MappedTable("t", key="id", columns=["x"], add_version=True))
    await backend.open(namespace="one")
    try:
        values = [*good, None, *bad]
        records = [record(str(number), 1, msgspec.json.encode({"x": value})) for number, value in enumerate(values)]
        failed = await refusals(backend, records)
        found = {key: each.value["x"] for key, each in (await backend.load([each.key for each in records])).items()}
    finally:
        await backend.close()
    expected: dict[str, Any] = {str(number): value for number, value in enumerate([*good, None])}
    assert found == expected
    assert [type(found[key]) is bool for key in found] == [type(value) is bool for value in expected.values()]
    assert all(declared in reason or "no type" in reason for reason in failed.values()), failed
    assert len(failed) == len(bad)


async def test_msgpack_values_keep_their_bytes(tmp_path: Path) -> None:
    execute(tmp_path / "a.db", "CREATE TABLE t (id TEXT PRIMARY KEY, x BLOB, j JSON, r REAL)")
    table = MappedTable("t", key="id", columns=["x", "j", "r"], add_version=True, codec="msgpack")
    backend = SQLiteBackend(tmp_path / "a.db", table=table)

    def packed(key: str, **fields: Any) -> Record:
        return Record(
            key, version(1), msgspec.msgpack.encode({"x": b"\0\xff", "j": 1, "r": 0.5} | fields), codec="msgpack"
        )

    await backend.open(namespace="one")
    try:
        bad = [packed("bytes in JSON", j=[b"x"]), packed("NaN", r=float("nan")), packed("whole keys", j={1: 2})]
        assert set(await refusals(backend, [packed("a"), *bad])) == {each.key for each in bad}
        assert await backend.load(["a"]) == {"a": packed("a")}
    finally:
        await backend.close()


async def test_names_may_hold_anything(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    execute(path, 'CREATE TABLE "my ""table?%s" ("the ?key" TEXT PRIMARY KEY, "select" TEXT, "100%d" TEXT)')
    table = MappedTable('my "table?%s', key="the ?key", columns=["select", "100%d"], version='v"?', add_version=True)
    backend = SQLiteBackend(path, table=table)
    await backend.open(namespace="one")
    try:
        saved = [record("1", 1, b'{"select":"x","100%d":null}'), tombstone("2", 1)]
        assert await backend.save(saved) == 0
        assert list((await backend.load(["1", "2"])).values()) == list(reversed(saved))
    finally:
        await backend.close()


async def test_tables_own_way_with_conflicts_does_not_lose_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    execute(path, "CREATE TABLE t (id TEXT PRIMARY KEY ON CONFLICT IGNORE, x INTEGER UNIQUE ON CONFLICT REPLACE)")
    backend = SQLiteBackend(path, table=MappedTable("t", key="id", columns=["x"], add_version=True))
    await backend.open(namespace="one")
    try:
        assert await backend.save([record("a", 1, b'{"x":1}'), record("b", 1, b'{"x":2}')]) == 0
        with pytest.raises(SaveError) as caught:
            await backend.save([record("b", 2, b'{"x":1}'), record("a", 1, b'{"x":1}')])
        assert set(caught.value.failed) == {"b"}
        assert execute(path, "SELECT id, x FROM t ORDER BY id") == [("a", 1), ("b", 2)]
    finally:
        await backend.close()


@pytest.mark.parametrize(
    ("create", "options", "complaint"),
    [
        ("x", {}, "no such table"),
        ("CREATE TABLE users (id TEXT PRIMARY KEY, name TEXT)", {}, "add &add_version=1 .* ALTER TABLE"),
        ("CREATE TABLE users (id TEXT PRIMARY KEY, title TEXT, v INTEGER)", {"version": "v"}, "no column 'name'"),
        ("CREATE TABLE users (id TEXT, name TEXT, v INTEGER)", {"version": "v"}, "'id' is neither"),
        ("CREATE TABLE users (id TEXT, name TEXT, v INTEGER, UNIQUE (id, name))", {"version": "v"}, "'id' is neither"),
        ("CREATE TABLE users (id TEXT COLLATE NOCASE PRIMARY KEY, name TEXT, v INT)", {"version": "v"}, "ignores case"),
        ("CREATE TABLE users (id UUID PRIMARY KEY, name TEXT, v INTEGER)", {"version": "v"}, "TEXT or INTEGER"),
        ("CREATE TABLE users (id TEXT PRIMARY KEY, name TEXT, v TEXT)", {"version": "v"}, "has to be INTEGER"),
        ("CREATE TABLE users (id TEXT PRIMARY KEY, name TEXT AS (id), v INT)", {"version": "v"}, "generated"),
        ("CREATE TABLE users (id TEXT PRIMARY KEY, name TEXT, v INT, x INT NOT NULL)", {"version": "v"}, "'x' is NOT"),
        ("CREATE VIEW users AS SELECT '1' AS id, 'x' AS name, 1 AS v", {"version": "id2"}, "no column 'id2'"),
    ],
)  # fmt: skip
async def test_table_that_cannot_be_used_is_explained(
    tmp_path: Path, create: str, options: dict[str, Any], complaint: str
) -> None:
    if create != "x":
        execute(tmp_path / "a.db", create)
    backend = SQLiteBackend(tmp_path / "a.db", table=MappedTable("users", key="id", columns=["name"], **options))
    with pytest.raises(ConfigurationError, match=complaint):
        await backend.open(namespace="one")
    await backend.close()


async def test_view_is_refused(tmp_path: Path) -> None:
    execute(
        tmp_path / "a.db",
        "CREATE TABLE t (id INTEGER, name TEXT, v INTEGER)",
        "CREATE VIEW users AS SELECT id, name, v FROM t",
    )
    backend = SQLiteBackend(tmp_path / "a.db", table=MappedTable("users", key="id", columns=["name"], version="v"))
    with pytest.raises(ConfigurationError, match="view"):
        await backend.open(namespace="one")
    await backend.close()


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("table=users&key=id", "columns is missing"),
        ("table=users&columns=a", "key is missing"),
        ("key=id&columns=a", "table is missing"),
        ("table=users&key=id&columns=", "columns is missing"),
        ("table=users&key=id&columns=a,", "none of them empty"),
        ("table=users&key=id&columns=a,a", "twice"),
        ("table=users&key=id&columns=a&version=a", "twice"),
        ("table=users&key=id&columns=a&add_version=yes", "0 or 1"),
        ("table=users&key=id&colums=a", "'colums'"),
    ],
)
def test_bad_url_is_explained(query: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        from_url(f"sqlite:///a.db?{query}", codec=CODEC)


def test_codec_without_objects_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="json or msgpack"):
        from_url("sqlite:///a.db?table=users&key=id&columns=a", codec=Codec("bytes"))
