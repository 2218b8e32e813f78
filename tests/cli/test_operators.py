"""status, keys, show, dead, audit, flush: what an operator sees and does, on real servers."""

import asyncio
import contextlib
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from asyncwb import Buffer, DeadLettered, RecordRejected
from asyncwb.admin.partition_view import Inspection
from asyncwb.protocol.queue import Queue
from asyncwb.redis.connection import RedisLink
from asyncwb.testing import FaultyBackend, MemoryBackend
from asyncwb_backends.sqlite import SQLiteBackend
from tests.harness.commands import run, run_json


@pytest.fixture
def where(valkey_url: str, namespace: str) -> tuple[str, ...]:
    return "--redis", valkey_url, "--namespace", namespace


@pytest.fixture
async def dead(valkey_url: str, namespace: str, tmp_path: Path) -> FaultyBackend:
    """A namespace of three partitions with dead letters `bad1` and `bad2`, whose backend is sound by now."""
    backend = FaultyBackend(SQLiteBackend(tmp_path / "app.db"))
    backend.poison = {"bad1": RecordRejected("too odd"), "bad2": RecordRejected("too \x1b[31mred")}
    async with Buffer[Any](valkey_url, backend=backend, namespace=namespace, partitions=3) as buffer:
        await buffer.set_many({"good": 0, "bad1": {"n": 1}, "bad2": 2})
        with pytest.raises(DeadLettered):
            await buffer.drain(timeout=5)
    backend.poison = {}
    return backend


async def test_dead_letters_are_listed_shown_retried_and_saved(
    valkey_url: str, namespace: str, dead: FaultyBackend, where: tuple[str, ...]
) -> None:
    listed = await run_json("dead", "list", *where)
    assert {letter["key"]: letter["reason"] for letter in listed["dead"]} == {
        "bad1": "RecordRejected: too odd",
        "bad2": "RecordRejected: too \x1b[31mred",
    }
    text = (await run("dead", "list", *where)).stdout
    assert "too odd" in text
    assert "\x1b[31m" not in text, "a reason can't speak to the terminal"
    shown = await run_json("dead", "show", "bad1", *where)
    assert (shown["value"], shown["letter"]["attempts"]) == ({"n": 1}, 1)
    assert "too odd" in (await run("dead", "show", "bad1", *where)).stdout
    assert await run_json("dead", "retry", "bad1", *where) == {"retried": 1, "not_dead": []}
    assert (await run_json("dead", "retry", "--all", *where))["retried"] == 1
    assert (await run("dead", "list", *where)).stdout == "no dead letters\n"
    async with Buffer[Any](valkey_url, backend=dead, namespace=namespace, partitions=3) as buffer:
        await buffer.drain(timeout=5)
        assert await buffer.get_many(["bad1", "bad2"]) == {"bad1": {"n": 1}, "bad2": 2}


async def test_dropping_asks_and_leaves_others_alone(
    valkey_url: str, namespace: str, dead: FaultyBackend, where: tuple[str, ...]
) -> None:
    result = await run("dead", "drop", "bad1", *where, status=1, answer="n\n")
    assert "Lose 1 value(s) for good?" in result.stderr
    assert len((await run_json("dead", "list", *where))["dead"]) == 2
    await run("dead", "drop", "bad1", *where, answer="y\n")
    assert (await run_json("dead", "list", *where))["dead"][0]["key"] == "bad2"
    result = await run("dead", "drop", "bad1", "bad2", "good", "--yes", *where, status=1)
    assert "1 record(s) dropped" in result.stdout
    assert "not dead-lettered: bad1, good" in result.stderr
    async with Buffer[Any](valkey_url, backend=dead, namespace=namespace, partitions=3) as buffer:
        assert await buffer.get_many(["good", "bad1", "bad2"]) == {"good": 0}
        assert (await buffer.stats()).buffered_bytes == 0


async def test_dead_letter_that_was_written_again_is_not_dropped(
    valkey_url: str, namespace: str, dead: FaultyBackend
) -> None:
    link = RedisLink.from_url(valkey_url, timeout_seconds=5)
    parts = [Inspection(Queue(link, namespace, number, 3)) for number in range(3)]
    letters = {letter.key: (part, letter) for part in parts async for letter in part.dead()}
    part, letter = letters["bad1"]
    async with Buffer[Any](valkey_url, backend=dead, namespace=namespace, partitions=3) as buffer:
        await buffer.set("bad1", "new")
        assert await part.drop([letter]) == 0
        await buffer.drain(timeout=5)
        assert await buffer.get("bad1") == "new"
    await link.close()


async def test_status_shows_what_is_unsaved_and_who_works(
    valkey_url: str, namespace: str, where: tuple[str, ...]
) -> None:
    slow = FaultyBackend(MemoryBackend())
    async with Buffer[Any](valkey_url, backend=slow, namespace=namespace, flushers=2, batch_size=1) as buffer:
        slow.before_save.clear()
        await buffer.set_many({f"k{number}": number for number in range(10)})
        async with asyncio.timeout(5):
            while (await buffer.stats()).leased < 2:
                await asyncio.sleep(0.01)
        found = await run_json("status", *where)
        assert (found["dirty"], found["leased"], found["dead"]) == (8, 2, 0)
        assert found["oldest_age_seconds"] > 0
        assert found["epochs"] == [1]
        assert found["server"]["maxmemory_policy"] == "noeviction"
        (worker,) = found["processes"]
        assert (worker["facts"]["pid"], worker["facts"]["flushers"]) == (os.getpid(), 2)
        text = (await run("status", *where)).stdout
        for words in (
            "dirty       8",
            "leased      2",
            "epoch       1",
            "Valkey",
            "noeviction",
            f":{os.getpid()}",
            " ok",
        ):
            assert words in text
        slow.before_save.set()
        await buffer.drain(timeout=5)
    assert (await run_json("status", *where))["processes"] == [], "who ends in order leaves"


async def test_workers_tell_their_rates_and_outages(valkey_url: str, namespace: str, where: tuple[str, ...]) -> None:
    backend = FaultyBackend(MemoryBackend())
    async with Buffer[Any](valkey_url, backend=backend, namespace=namespace, drain_timeout_seconds=0.1) as buffer:
        backend.fail_with = ConnectionError()
        for number in range(300):
            await buffer.set(f"k{number}", number)
        await asyncio.sleep(2.5)
        (worker,) = (await run_json("status", *where))["processes"]
        assert worker["facts"]["acknowledged"] == 300
        assert worker["facts"]["acknowledged_per_second"] > 50
        assert worker["facts"]["outage"] is True
        assert "outage" in (await run("status", *where)).stdout


async def test_status_can_be_watched(valkey_url: str, namespace: str, where: tuple[str, ...]) -> None:
    async with Buffer[Any](valkey_url, backend=MemoryBackend(), namespace=namespace):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "asyncwb", "status", "--watch", "--json", *where, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(15):
                lines = [await process.stdout.readline() for _ in range(2)]
            assert all(line.startswith(b'{"dirty"') for line in lines)
        finally:
            process.terminate()
            await process.communicate()


async def test_keys_are_listed_by_place_and_age(valkey_url: str, namespace: str, where: tuple[str, ...]) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.poison = {"failing": OSError("locked")}
    async with Buffer[Any](
        valkey_url, backend=backend, namespace=namespace, retry_initial_seconds=30.0, drain_timeout_seconds=0.1
    ) as buffer:
        await buffer.set("failing", 1)
        async with asyncio.timeout(5):
            while not buffer.totals.retried:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        backend.before_save.clear()
        backend.save_started.clear()
        await buffer.set("leased", 2)
        await backend.save_started.wait()
        (record,) = (await run_json("keys", *where))["keys"]
        assert (record["key"], record["attempts"], record["reason"]) == ("failing", 1, "OSError: locked")
        assert 10 < record["due_in_seconds"] <= 30
        (record,) = (await run_json("keys", "--leased", *where))["keys"]
        assert record["key"] == "leased"
        assert (await run_json("keys", "--older", "1h", *where))["keys"] == []
        assert len((await run_json("keys", "--older", "300ms", *where))["keys"]) == 1
        text = (await run("keys", *where)).stdout
        assert "1 times: OSError: locked" in text
        assert (await run("keys", "--older", "2h", *where)).stdout == "nothing is dirty for longer than 2.0 h\n"
        shown = await run_json("show", "failing", *where)
        assert (shown["redis"]["where"], shown["redis"]["attempts"], shown["redis"]["value"]) == ("dirty", 1, 1)
        assert "failed    1 time(s), the last one: OSError: locked" in (await run("show", "failing", *where)).stdout
        assert (await run_json("show", "leased", *where))["redis"]["where"] == "leased"
        backend.before_save.set()


async def test_long_lists_are_cut_and_say_so(valkey_url: str, namespace: str, where: tuple[str, ...]) -> None:
    async with Buffer[Any](valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer:
        await buffer.set_many({f"k{number}": number for number in range(1200)})
    found = await run_json("keys", *where)
    assert (len(found["keys"]), found["more"]) == (100, True)
    assert "--limit 0 lists all" in (await run("keys", *where)).stderr
    found = await run_json("keys", "--limit", "0", *where)
    assert (len({record["key"] for record in found["keys"]}), found["more"]) == (1200, False)


async def test_show_compares_redis_and_backend(
    valkey_url: str, namespace: str, tmp_path: Path, where: tuple[str, ...]
) -> None:
    backend = f"sqlite:///{tmp_path / 'app.db'}"
    async with Buffer[Any](valkey_url, backend=backend, namespace=namespace) as buffer:
        await buffer.set("a", "old")
        await buffer.flush("a", timeout=5)
    async with Buffer[Any](valkey_url, backend=backend, namespace=namespace, flushers=0) as buffer:
        await buffer.delete("a")
    found = await run_json("show", "a", "--backend", backend, *where)
    assert (found["redis"]["deleted"], found["backend"]["value"]) == (True, "old")
    assert found["redis"]["version"] > found["backend"]["version"]
    text = (await run("show", "a", "--backend", backend, *where)).stdout
    assert "deleted" in text
    assert '"old"' in text
    assert "nothing: it is saved, or was never written" in (await run("show", "nobody", *where, status=1)).stdout


async def test_audit_puts_right_what_another_program_broke(
    valkey_url: str, namespace: str, where: tuple[str, ...]
) -> None:
    async with Buffer[Any](valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer:
        await buffer.set_many({"a": 1, "b": 2})
    assert "0 stray record(s)" in (await run("audit", *where)).stdout
    link = RedisLink.from_url(valkey_url, timeout_seconds=5)
    queue = Queue(link, namespace, 0, 1)
    await link.command("ZREM", queue.keys.dirty, "a")
    assert "run `asyncwb audit`" in (await run("show", "a", *where)).stdout
    await link.command("HSET", queue.keys.meta, "bytes", 10**9)
    await link.command("HSET", queue.keys.retry, "ghost", b"x" * 30)
    found = await run_json("audit", *where, status=1)
    assert found["strays"] == 1
    assert found["bytes"] == 2 * 19
    assert not await link.command("HEXISTS", queue.keys.retry, "ghost")
    assert (await run_json("status", *where))["dirty"] == 2
    await link.close()


async def test_flush_saves_without_any_worker(
    valkey_url: str, namespace: str, tmp_path: Path, where: tuple[str, ...]
) -> None:
    backend = f"sqlite:///{tmp_path / 'app.db'}"
    async with Buffer[Any](
        valkey_url,
        backend=backend,
        namespace=namespace,
        flushers=0,
        max_delay_seconds=300.0,
        codec="msgpack",
        partitions=2,
    ) as buffer:
        await buffer.set_many({f"k{number}": number for number in range(50)})
    found = await run_json("flush", "k1", "k2", "--backend", backend, *where)
    assert found == {"saved": 2, "problems": {}}
    assert (await run_json("status", *where))["dirty"] == 48
    assert "48 record(s) saved" in (await run("flush", "--all", "--backend", backend, *where)).stdout


async def test_flush_of_all_tells_what_the_backend_refuses(
    valkey_url: str, namespace: str, tmp_path: Path, where: tuple[str, ...]
) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
    backend = f"sqlite:///{tmp_path / 'app.db'}?table=users&key=id&columns=id,name&add_version=1"
    async with Buffer[Any](valkey_url, backend=backend, namespace=namespace, flushers=0) as buffer:
        await buffer.set_many({"1": {"id": 1, "name": "Ada"}, "2": {"id": 2, "name": 2.5}})
    found = await run_json("flush", "--all", "--backend", backend, *where, status=1)
    assert found["saved"] == 1
    assert "1 record(s) were dead-lettered" in found["problems"][""]


async def test_flush_tells_what_it_could_not_save(
    valkey_url: str, namespace: str, dead: FaultyBackend, tmp_path: Path, where: tuple[str, ...]
) -> None:
    backend = f"sqlite:///{tmp_path / 'app.db'}"
    found = await run_json("flush", "good", "bad1", "--backend", backend, *where, status=1)
    assert "too odd" in found["problems"]["bad1"]
    assert "good" not in found["problems"]


@pytest.mark.parametrize(
    "command",
    [
        ("status",), ("keys",), ("show", "a"), ("audit",), ("dead", "list"), ("dead", "show", "a"),
        ("dead", "retry", "--all"), ("dead", "drop", "a", "--yes"), ("flush", "--all", "--backend", "sqlite:///x.db"),
    ],
)  # fmt: skip
async def test_missing_namespace_is_named(
    valkey_url: str, namespace: str, where: tuple[str, ...], command: tuple[str, ...]
) -> None:
    result = await run(*command, *where, status=2)
    assert f"nothing was ever written to namespace {namespace!r}" in result.stderr


@pytest.mark.parametrize(
    "command", [("dead", "retry"), ("dead", "retry", "a", "--all"), ("dead", "drop"), ("keys", "--older", "soon")]
)
async def test_wrong_usage_is_status_2(where: tuple[str, ...], command: tuple[str, ...]) -> None:
    await run(*command, *where, status=2)


@pytest.mark.usefixtures("impatient")
async def test_unreachable_server_is_one_line(namespace: str, unused_tcp_port: int) -> None:
    result = await run(
        "status", "--redis", f"redis://:hunter2@127.0.0.1:{unused_tcp_port}", "--namespace", namespace, status=2
    )
    assert "can't be reached" in result.stderr
    assert "hunter2" not in result.output
    assert result.stderr.count("\n") == 1
