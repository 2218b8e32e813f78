"""Places that come back without asyncwb's bookkeeping, or that hold other versions than asyncwb's, on every backend."""

import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from asyncwb import Backend, Buffer, Codec, ConfigurationError, Record
from asyncwb.plugins.registry import backend_from_url
from asyncwb.records import make_version
from tests.harness.environments import PLUGIN

HIGH = make_version(40, 7)
Made = Callable[[], Backend]


class Place:
    """A table, collection or folder; `forget` removes what asyncwb keeps beside the data."""

    def __init__(self, made: Made, forget: Callable[[], Any]) -> None:
        self.made = made
        self.forget = forget


@pytest.fixture(params=["sqlite", "sqlite-mapped", "file", "mongodb", "postgresql"])
async def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    kind: str = request.param

    def sql(*statements: str) -> None:
        connection = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
        for statement in statements:
            connection.execute(statement)
        connection.close()

    def of_url(url: str, forget: Callable[[], Any]) -> Place:
        return Place(lambda: backend_from_url(url, codec=Codec("json")), forget)

    if kind == "sqlite":
        return of_url(f"sqlite:///{tmp_path}/a.db?table=users", lambda: sql("DROP TABLE users_meta"))
    if kind == "sqlite-mapped":
        sql("CREATE TABLE users (id TEXT PRIMARY KEY, n INTEGER)")
        url = f"sqlite:///{tmp_path}/a.db?table=users&key=id&columns=n&add_version=1"
        return of_url(url, lambda: sql("DROP TABLE users_asyncwb_epochs", "DROP TABLE users_asyncwb_tombstones"))
    if kind == "file":
        return of_url(f"file://{tmp_path}/users", lambda: shutil.rmtree(tmp_path / "users" / ".asyncwb"))
    if kind == "mongodb":
        server = request.getfixturevalue("mongods")(False)
        database = f"r{uuid4().hex[:12]}"

        def drop() -> None:
            with server.client() as client:
                client[database]["users_asyncwb"].drop()

        return of_url(server.url(database), drop)
    server = request.getfixturevalue("postgresql")
    monkeypatch.syspath_prepend(str(PLUGIN))
    asyncpg = pytest.importorskip("asyncpg")
    from asyncwb_postgresql import PostgreSQLBackend  # noqa: PLC0415 - a plugin that isn't installed here

    table = f"r{uuid4().hex[:12]}"

    async def drop_epochs() -> None:
        connection = await asyncpg.connect(server.url)
        await connection.execute(f'DROP TABLE "{table}_epoch"')
        await connection.close()

    return Place(lambda: PostgreSQLBackend(server.url, table=table), drop_epochs)


async def stored(place: Place, record: Record, namespace: str) -> None:
    """Puts a record into a place, as the history of another server did."""
    backend = place.made()
    try:
        await backend.open(namespace=namespace)
        assert await backend.save([record]) == 0
    finally:
        await backend.close()


async def forgotten(place: Place) -> None:
    pending = place.forget()
    if pending is not None:
        await pending


async def test_write_into_a_place_restored_without_its_bookkeeping_is_saved(
    place: Place, valkey_url: str, namespace: str
) -> None:
    await stored(place, Record("42", HIGH, b'{"n":1}'), f"{namespace}.prod")
    await forgotten(place)
    async with Buffer[Any](valkey_url, backend=place.made(), namespace=namespace) as buffer:
        assert await buffer.get("42") == {"n": 1}
        version = await buffer.set("42", {"n": 1000})
        assert version > HIGH
        await buffer.flush("42", version=version, timeout=5)
        assert await buffer.get("42") == {"n": 1000}
    async with Buffer[Any](valkey_url, backend=place.made(), namespace=namespace) as buffer:
        assert await buffer.get("42") == {"n": 1000}


async def test_running_service_that_is_led_to_a_restored_place_begins_an_epoch_above_it(
    place: Place, valkey_url: str, namespace: str
) -> None:
    """Its Redis has data and an epoch of its own, which is below the versions that the place holds."""
    await stored(place, Record("1", make_version(1, 1), b'{"n":0}'), namespace)
    async with Buffer[Any](valkey_url, backend=place.made(), namespace=namespace) as buffer:
        first = await buffer.set("1", {"n": 1})
    await stored(place, Record("42", HIGH, b'{"n":1}'), namespace)
    await forgotten(place)
    async with Buffer[Any](valkey_url, backend=place.made(), namespace=namespace) as buffer:
        version = await buffer.set("42", {"n": 2})
        assert version > HIGH > first
        await buffer.flush("42", version=version, timeout=5)
        assert await buffer.get_many(["1", "42"]) == {"1": {"n": 1}, "42": {"n": 2}}


async def test_version_column_of_the_users_own_that_holds_milliseconds_is_simply_below(
    tmp_path: Path, valkey_url: str, namespace: str
) -> None:
    path = tmp_path / "shop.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT, updated_ms INTEGER)")
    connection.execute("INSERT INTO t VALUES ('1', 'old', ?)", (int(time.time() * 1000),))
    connection.commit()
    connection.close()
    url = f"sqlite:///{path}?table=t&key=id&columns=id,v&version=updated_ms"
    async with Buffer[Any](valkey_url, backend=url, namespace=namespace) as buffer:
        version = await buffer.set("1", {"id": "1", "v": "new"})
        await buffer.flush("1", version=version, timeout=5)
        assert await buffer.get("1") == {"id": "1", "v": "new"}


@pytest.mark.parametrize("value", [7, -5, "'yesterday'", 2**63 - 1, 1.5])
async def test_version_column_that_cannot_be_asyncwbs_is_refused_at_open(
    tmp_path: Path, valkey_url: str, namespace: str, value: object
) -> None:
    path = tmp_path / "shop.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT, mine INTEGER)")
    connection.execute(f"INSERT INTO t VALUES ('1', 'old', {value}), ('2', 'old', NULL)")
    connection.commit()
    connection.close()
    url = f"sqlite:///{path}?table=t&key=id&columns=id,v&version=mine"
    with pytest.raises(ConfigurationError, match=r"\?table=t&.*version column belongs to asyncwb\s+alone"):
        await Buffer[Any](valkey_url, backend=url, namespace=namespace).open()


async def test_files_of_others_are_no_versions(tmp_path: Path, valkey_url: str, namespace: str) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "sales.2026.json").write_text("{}")
    async with Buffer[Any](valkey_url, backend=f"file://{tmp_path}/reports?fanout=0", namespace=namespace) as buffer:
        version = await buffer.set("a", 1)
        await buffer.flush("a", version=version, timeout=5)
