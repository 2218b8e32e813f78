"""The contract of asyncwb's backends, against the server of ASYNCWB_POSTGRESQL_URL."""

import os
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from asyncwb import Backend, BackendReplaced, Buffer, Codec, ConfigurationError, Record
from asyncwb.testing.contract import BackendContract, put, tombstone, version
from asyncwb_postgresql import PostgreSQLBackend, from_url

SERVER = os.environ["ASYNCWB_POSTGRESQL_URL"]


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """A schema of the test's own."""
    schema = f"test_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(SERVER)
    await connection.execute(f"CREATE SCHEMA {schema}")
    try:
        yield f"{SERVER}?search_path={schema}&table=users"
    finally:
        await connection.execute(f"DROP SCHEMA {schema} CASCADE")
        await connection.close()


class TestPostgreSQLBackend(BackendContract):
    @pytest.fixture
    def url(self, url: str) -> str:
        return url

    async def let_time_pass(self, backend: Backend, url: str, seconds: float) -> None:
        schema = url.partition("search_path=")[2].partition("&")[0]
        connection = await asyncpg.connect(SERVER)
        await connection.execute(f"UPDATE {schema}.users SET deleted_at = deleted_at - interval '{seconds} seconds'")
        await connection.close()
        assert isinstance(backend, PostgreSQLBackend)
        backend._purge_timer.again()

    async def add_unversioned(self, backend: Backend, url: str, key: str) -> None:  # noqa: ARG002 - only the server
        schema = url.partition("search_path=")[2].partition("&")[0]
        connection = await asyncpg.connect(SERVER)
        await connection.execute(
            f"INSERT INTO {schema}.users (key, version, codec, value) VALUES ($1, 0, 'json', '1')", key
        )
        await connection.close()

    def poison(self) -> list[Record]:
        return [
            Record("poison", version(1), b"\xff is not UTF-8"),
            Record("poison", version(1), b"no JSON"),
            Record("\ud800", version(1), b"1"),
        ]


async def test_json_can_be_queried(url: str) -> None:
    async with Buffer(None, backend=url) as buffer:
        await buffer.set_many({"42": {"name": "Ada", "visits": 30}, "43": {"name": "Bob", "visits": 3}})
        await buffer.drain()
    schema = url.partition("search_path=")[2].partition("&")[0]
    connection = await asyncpg.connect(SERVER, server_settings={"search_path": schema})
    try:
        rows = await connection.fetch("SELECT value->>'name' AS name FROM users WHERE (value->>'visits')::int > 10")
        assert [each["name"] for each in rows] == ["Ada"]
    finally:
        await connection.close()


async def test_old_tombstones_are_purged(url: str) -> None:
    backend = from_url(f"{url}&tombstone_seconds=0", codec=Codec("json"))
    try:
        await backend.open(namespace="one")
        await backend.save([tombstone("a", 1)])
        backend._purge_timer.again()
        await backend.save([put("b", 1)])
        assert set(await backend.load(["a", "b"])) == {"b"}
    finally:
        await backend.close()


async def test_table_that_was_dropped_is_made_again(url: str) -> None:
    schema = url.partition("search_path=")[2].partition("&")[0]
    backend = from_url(url, codec=Codec("json"))
    await backend.open(namespace="asyncwb")
    try:
        for table in ("users", "users_epoch"):
            connection = await asyncpg.connect(SERVER)
            await connection.execute(f"DROP TABLE {schema}.{table}")
            await connection.close()
            with pytest.raises(BackendReplaced, match="dropped"):
                await (backend.save([put("a", 1)]) if table == "users" else backend.new_epoch(0))
            # As asyncwb does it then.
            await backend.close()
            await backend.open(namespace="asyncwb")
            assert await backend.save([put(table, 1)]) == 0
            assert await backend.new_epoch(0) == 0
    finally:
        await backend.close()


async def test_tables_of_others_are_refused(url: str) -> None:
    schema = url.partition("search_path=")[2].partition("&")[0]
    connection = await asyncpg.connect(SERVER)
    try:
        await connection.execute(f"CREATE TABLE {schema}.users (id int)")
    finally:
        await connection.close()
    with pytest.raises(ConfigurationError, match="isn't ours"):
        await from_url(url, codec=Codec("json")).open(namespace="one")


@pytest.mark.parametrize("options", ["table=a;b", "table=", "tombstone_seconds=soon"])
def test_bad_options_are_refused(options: str) -> None:
    with pytest.raises(ConfigurationError):
        from_url(f"postgresql://localhost/app?{options}", codec=Codec("json"))


def test_password_is_in_no_repr() -> None:
    assert "secret" not in repr(PostgreSQLBackend("postgresql://user:secret@localhost/app"))
