"""Writes straight to a database, a durable commit each: what a service does without a buffer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiosqlite
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import WriteConcern

from benchmarks.harness.rounds import Bench, Sample
from benchmarks.workloads.loads import timed_calls
from benchmarks.workloads.payloads import KEYS, VALUES, check_saved, keys, values

UPSERT: Final = "INSERT INTO users VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"

# Those of asyncwb's own backend.
_PRAGMAS: Final = ("journal_mode=WAL", "synchronous=FULL", "cache_size=-65536", "wal_autocheckpoint=10000")


@asynccontextmanager
async def sqlite_table(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    """A connection that commits after each statement: one trip to its thread, where an explicit commit takes two."""
    async with aiosqlite.connect(path, isolation_level=None) as connection:
        for pragma in _PRAGMAS:
            await connection.execute_fetchall(f"PRAGMA {pragma}")
        await connection.execute_fetchall("CREATE TABLE IF NOT EXISTS users (key TEXT PRIMARY KEY, value BLOB)")
        yield connection


async def count_rows(connection: aiosqlite.Connection) -> int:
    ((count,),) = await connection.execute_fetchall("SELECT count(*) FROM users")
    return int(count)


async def sqlite_commit_per_write(bench: Bench, writers: int, seconds: float) -> Sample:
    """Upserts one by one; more than one writer queue at the connection, whose thread then never waits for them."""
    all_keys, all_values = keys(), values(200)
    with bench.folder() as folder:
        async with sqlite_table(folder / "users.db") as connection:
            count, took = await timed_calls(
                writers,
                seconds,
                lambda n: connection.execute_fetchall(UPSERT, (all_keys[n % KEYS], all_values[n % VALUES])),
            )
            check_saved(await count_rows(connection), count)
    return {"writes_per_s": count / took, "saved_per_s": count / took}


async def motor_upsert_per_write(bench: Bench, writers: int, seconds: float) -> Sample:
    """Upserts one by one, each acknowledged by the majority, journaled."""
    all_keys, all_values = keys(), values(200)
    client: Any = AsyncIOMotorClient(f"{bench.mongod.hosts}/?replicaSet=rs", maxPoolSize=max(100, writers))
    try:
        await client.drop_database("bench")
        users = client.bench.get_collection("users", write_concern=WriteConcern("majority", j=True))
        await users.insert_one({"_id": "first", "value": b""})  # connects, and makes the collection

        def upsert(number: int) -> Any:
            change = {"$set": {"value": all_values[number % VALUES]}}
            return users.update_one({"_id": all_keys[number % KEYS]}, change, upsert=True)

        count, took = await timed_calls(writers, seconds, upsert)
        check_saved(await users.count_documents({}) - 1, count)
    finally:
        client.close()
    return {"writes_per_s": count / took, "saved_per_s": count / took}
