"""The PostgreSQL plugin and its server: restarts, settings of the whole server, and batches that are too long for it.

The contract and the rest are tested where the plugin is, see `test_third_party.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

import asyncwb_postgresql
from asyncwb import Bisected, Buffer, ConfigurationError, Event, Record
from asyncwb.plugins import record_bytes
from asyncwb.testing.contract import put, tombstone
from asyncwb_postgresql import PostgreSQLBackend
from tests.harness.databases import PostgreSQL, postgresql_binaries


@pytest.fixture
def server(postgresql: PostgreSQL) -> Iterator[PostgreSQL]:
    """Starts a server of the test's own, if the shared one could be started."""
    path, reason = postgresql_binaries()
    assert path is not None, reason
    server = PostgreSQL()
    yield server
    server.stop()


@asynccontextmanager
async def opened(backend: PostgreSQLBackend) -> AsyncIterator[PostgreSQLBackend]:
    try:
        await backend.open(namespace="one")
        yield backend
    finally:
        await backend.close()


async def fill_the_pool(backend: PostgreSQLBackend) -> None:
    await asyncio.gather(*(backend.load([str(number)]) for number in range(20)))


async def test_restart_of_the_server_fails_no_call(server: PostgreSQL) -> None:
    async with opened(PostgreSQLBackend(server.url)) as backend:
        for seq in range(1, 4):
            await fill_the_pool(backend)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            assert await backend.save([put("a", seq)]) == 0
            assert set(await backend.load(["a"])) == {"a"}
            assert await backend.new_epoch(0) == 0


async def test_restart_of_the_server_blames_no_batch(server: PostgreSQL, valkey_url: str, namespace: str) -> None:
    seen: list[Event] = []
    backend = PostgreSQLBackend(server.url)
    async with Buffer[int](valkey_url, backend=backend, namespace=namespace, observer=seen.append) as buffer:
        await buffer.set("before", 1)
        await buffer.drain(timeout=10)
        await fill_the_pool(backend)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await buffer.set_many({str(number): number for number in range(500)})
        await buffer.drain(timeout=20)
    assert not [event for event in seen if isinstance(event, Bisected)]


async def test_server_that_syncs_nothing_is_refused(server: PostgreSQL) -> None:
    connection = await asyncpg.connect(server.url)
    try:
        await connection.execute("ALTER SYSTEM SET fsync = off")
        await connection.execute("SELECT pg_reload_conf()")
        while await connection.fetchval("SHOW fsync") == "on":
            await asyncio.sleep(0.02)
    finally:
        await connection.close()
    backend = PostgreSQLBackend(server.url)
    with pytest.raises(ConfigurationError, match="fsync=off"):
        await backend.open(namespace="one")
    await backend.close()


async def test_batch_that_is_longer_than_a_message_is_saved_in_parts(
    postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncwb_postgresql, "STATEMENT_BYTES", 500)
    parts: list[Sequence[Record]] = []

    class Watched(PostgreSQLBackend):
        async def _save_or_halve(
            self, pool: Any, save: str, records: Sequence[Record], failed: dict[str, Exception]
        ) -> int:
            parts.append(records)
            return await super()._save_or_halve(pool, save, records, failed)

    records = [put(str(number), 5) for number in range(50)] + [tombstone("t", 5)]
    async with opened(Watched(postgresql.url, table="parts")) as backend:
        assert await backend.save(records) == 0
        assert await backend.save([*records, put("1", 6)]) == len(records)
        assert len(await backend.load([record.key for record in records])) == len(records)
    assert len(parts) > 10
    assert all(sum(map(record_bytes, part)) <= 500 for part in parts)
