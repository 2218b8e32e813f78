"""The bare limit of each backend: the least work that makes the same records as durable in the same kind of place.

Nothing here claims, compares or acknowledges, and what can be made before the clock starts is made before.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import UpdateOne, WriteConcern

from asyncwb import Record
from asyncwb_backends.filesystem import disk
from asyncwb_backends.mongodb.batch import update
from asyncwb_backends.mongodb.documents import document
from asyncwb_backends.sqlite import SQLiteBackend
from asyncwb_backends.sqlite.connection import Database

DATABASE: Final = "flush"
"""In MongoDB."""

_PRAGMAS: Final = ("journal_mode", "synchronous", "cache_size", "wal_autocheckpoint", "temp_store", "mmap_size")
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Limit:
    """A way to save records if nothing else has to be done; the fastest of a backend is its limit.

    Attributes:
        name: what it does.
        batch: records that become durable together.
        threads: that do it at once, or callers.
        save: gets a place (a file, a folder, the address of a server) and the records; returns seconds.
    """

    name: str
    batch: int
    threads: int
    save: Callable[[str, Sequence[Record]], Awaitable[float]]


def sqlite_limits(batches: Iterable[int]) -> list[Limit]:
    """The backend's own statements, pragmas and table; SQLite has one writer at a time, so one thread."""
    return [Limit(f"executemany of {batch}", batch, 1, partial(_save_sqlite, batch=batch)) for batch in batches]


def mongodb_limits(batches: Iterable[int], *, usual: int) -> list[Limit]:
    """The backend's own operations in unordered bulks."""
    chosen = [(4, batch) for batch in batches] + [(callers, usual) for callers in (1, 2, 8)]
    return [
        Limit(
            f"{callers} × bulk_write of {batch}", batch, callers, partial(_save_mongodb, batch=batch, callers=callers)
        )
        for callers, batch in chosen
    ]


def file_limits(batches: Iterable[int], *, usual: int) -> list[Limit]:
    """Each file synced and renamed by itself; and, where there is syncfs, many files written, synced and renamed."""
    found = [
        Limit(
            f"write + fsync + rename in {threads} threads", 100, threads,
            partial(_save_each, batch=100, threads=threads),
        )
        for threads in (1, 4, 8, 32)
    ]  # fmt: skip
    if disk.syncs_in_batches(usual):
        chosen = [(4, batch) for batch in batches if batch > 1] + [(threads, usual) for threads in (1, 2)]
        found += [
            Limit(
                f"write {batch} + syncfs + rename them + syncfs in {threads} threads", batch, threads,
                partial(_save_together, batch=batch, threads=threads),
            )
            for threads, batch in chosen
        ]  # fmt: skip
    return found


async def _save_sqlite(path: str, records: Sequence[Record], *, batch: int) -> float:
    backend = SQLiteBackend(path, table="asyncwb")
    await backend.open(namespace="one")  # makes the table
    pragmas = await _pragmas(path)
    try:
        work = [backend.table.steps(part, 0) for part in _parts(records, batch)]
        return await asyncio.to_thread(_execute, path, pragmas, work)
    finally:
        await backend.close()


async def _pragmas(path: str) -> dict[str, Any]:
    """As the backend's connections have them."""

    async def prepare(_: Any) -> None:
        pass

    database = Database(Path(path))
    await database.open(prepare)
    try:
        found = {name: list(await database.fetch(f"PRAGMA {name}")) for name in _PRAGMAS}
        return {name: rows[0][0] for name, rows in found.items() if rows}
    finally:
        await database.close()


def _execute(path: str, pragmas: dict[str, Any], work: Sequence[Any]) -> float:
    connection = sqlite3.connect(path, isolation_level="IMMEDIATE")
    try:
        for name, value in pragmas.items():
            connection.execute(f"PRAGMA {name}={value}").fetchall()
        os.sync()
        started = time.perf_counter()
        for steps in work:
            for step in steps:
                connection.executemany(step.statement, step.rows)
            connection.commit()
        return time.perf_counter() - started
    finally:
        connection.close()


async def _save_mongodb(address: str, records: Sequence[Record], *, batch: int, callers: int) -> float:
    bulks = [
        [
            UpdateOne({"_id": record.key}, [update(record, {"$literal": document(record)})], upsert=True)
            for record in part
        ]
        for part in _parts(records, batch)
    ]
    client: Any = AsyncIOMotorClient(address, io_loop=asyncio.get_running_loop())
    try:
        collection = client[DATABASE].get_collection("users", write_concern=WriteConcern("majority", j=True))
        await asyncio.gather(*(client.admin.command("ping") for _ in range(callers)))  # connects
        waiting = iter(bulks)

        async def caller() -> None:
            for bulk in waiting:
                await collection.bulk_write(bulk, ordered=False)

        os.sync()
        started = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        return time.perf_counter() - started
    finally:
        client.close()


async def _save_each(folder: str, records: Sequence[Record], *, batch: int, threads: int) -> float:
    def save(descriptor: int, part: Sequence[Record]) -> None:
        for record in part:
            _write(descriptor, record, sync=True)
            _rename(descriptor, record)
        os.fsync(descriptor)

    return await _in_threads(save, folder, _parts(records, batch), threads)


async def _save_together(folder: str, records: Sequence[Record], *, batch: int, threads: int) -> float:
    def save(descriptor: int, part: Sequence[Record]) -> None:
        for record in part:
            _write(descriptor, record, sync=False)
        disk.sync_all_of(descriptor)
        for record in part:
            _rename(descriptor, record)
        disk.sync_all_of(descriptor)

    return await _in_threads(save, folder, _parts(records, batch), threads)


async def _in_threads(
    save: Callable[[int, Sequence[Record]], None], folder: str, parts: Iterable[Sequence[Record]], threads: int
) -> float:
    loop = asyncio.get_running_loop()
    with disk.opened(folder) as descriptor, ThreadPoolExecutor(threads) as pool:
        os.sync()
        started = time.perf_counter()
        await asyncio.gather(*(loop.run_in_executor(pool, save, descriptor, part) for part in parts))
        return time.perf_counter() - started


def _write(folder: int, record: Record, *, sync: bool) -> None:
    file = os.open(f"{record.key}.new", _CREATE, 0o666, dir_fd=folder)
    try:
        os.write(file, record.payload)
        if sync:
            os.fsync(file)
    finally:
        os.close(file)


def _rename(folder: int, record: Record) -> None:
    os.rename(f"{record.key}.new", record.key, src_dir_fd=folder, dst_dir_fd=folder)


def _parts(records: Sequence[Record], size: int) -> list[Sequence[Record]]:
    return [records[start : start + size] for start in range(0, len(records), size)]
