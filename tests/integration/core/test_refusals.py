"""Buffer: input that can't work, and servers and backends that can't be reached, get a clear error in time."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from asyncwb import (
    BackendUnavailable,
    Buffer,
    ConfigurationError,
    InvalidKey,
    InvalidValue,
    Limits,
    NamespaceMismatch,
    RedisUnavailable,
    UsageError,
    ValueTooLarge,
)
from asyncwb.testing import MemoryBackend
from tests.harness.replication import ask
from tests.harness.servers import Server

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ("", "empty"), ("x" * 1025, "1025 bytes"), ("é" * 513, "1026 bytes"), (7, "not int"), (b"a", "not bytes"),
        (None, "not NoneType"), ("\ud800", "surrogate"),
    ],
)  # fmt: skip
async def test_bad_key(valkey_url: str, namespace: str, key: Any, complaint: str) -> None:
    async with Buffer(valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer:
        for call in (
            lambda: buffer.set(key, 1), lambda: buffer.get(key), lambda: buffer.delete(key), lambda: buffer.flush(key),
            lambda: buffer.set_many({"good": 1, key: 1}), lambda: buffer.get_many([key]),
            lambda: buffer.delete_many([key]),
        ):  # fmt: skip
            with pytest.raises(InvalidKey, match=complaint):
                await call()
        assert (await buffer.stats()).dirty == 0


async def test_longest_key_is_taken(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer(valkey_url, backend=memory, namespace=namespace) as buffer:
        await buffer.set("é" * 512, 1)
        await buffer.flush("é" * 512, timeout=5)
    assert memory.values == {"é" * 512: 1}


async def test_single_key_where_several_are_expected(valkey_url: str, namespace: str) -> None:
    async with Buffer(valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer:
        for call in (buffer.get_many, buffer.delete_many, buffer.retry_dead):
            with pytest.raises(InvalidKey, match="several"):
                await call("abc")


@pytest.mark.parametrize(
    ("value", "complaint"),
    [(None, "absence"), (object(), "can't encode"), (float("nan"), "nan"), ({1j}, "can't encode")],
)
async def test_bad_value(valkey_url: str, namespace: str, value: Any, complaint: str) -> None:
    async with Buffer(valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer:
        with pytest.raises(InvalidValue, match=complaint) as caught:
            await buffer.set("the key", value)
        assert "the key" in str(caught.value)
        with pytest.raises(InvalidValue):
            await buffer.set_many({"good": 1, "bad": value})
        assert (await buffer.stats()).dirty == 0


async def test_value_over_the_limit_names_it(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer(valkey_url, backend=memory, namespace=namespace, codec="bytes", max_value_bytes=1000) as buffer:
        await buffer.set("a", b"x" * 1000)
        with pytest.raises(ValueTooLarge, match="max_value_bytes=1000"):
            await buffer.set("a", b"x" * 1001)
    small = MemoryBackend(Limits(max_value_bytes=10))
    async with Buffer(valkey_url, backend=small, namespace=namespace + "2", codec="bytes") as buffer:
        with pytest.raises(ValueTooLarge, match=r"limit of 10 of backend MemoryBackend\(\)"):
            await buffer.set("a", b"x" * 11)


async def test_default_limit_of_a_value_is_16_mib(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer(valkey_url, backend=memory, namespace=namespace, codec="bytes") as buffer:
        await buffer.set("a", bytes(16 * 2**20))
        await buffer.flush("a", timeout=10)
        with pytest.raises(ValueTooLarge, match=str(16 * 2**20)):
            await buffer.set("a", bytes(16 * 2**20 + 1))


@pytest.mark.parametrize(
    "options",
    [
        {"namespace": "with space"}, {"namespace": ""}, {"namespace": "x" * 65}, {"namespace": "a{b}"},
        {"durability": "hope"}, {"on_full": "drop"}, {"commit": "hope"}, {"low_watermark": 1.5}, {"replicas": 0},
        {"flushers": -1}, {"flushers": 1.5}, {"partitions": 0}, {"max_dirty": 0},
        {"max_age_seconds": 0}, {"max_attempts": 0}, {"lease_seconds": 0},
        {"max_delay_seconds": float("nan")}, {"no_such_setting": 1}, {"type": bytes, "codec": "yaml"},
        {"type": int, "codec": "bytes"}, {"redis": 7}, {"redis": "http://x"},
    ],
)  # fmt: skip
def test_bad_option_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Buffer(**{"redis": "redis://localhost", "backend": MemoryBackend(), **options})
    *_, last = options.items()
    assert str(last[0]) in str(caught.value) or str(last[1]) in str(caught.value)


def test_backend_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"asyncwb\.Backend"):
        Buffer("redis://localhost", backend=object())  # type: ignore[call-overload]


async def test_unreachable_redis_is_told_in_time(namespace: str) -> None:
    started = time.monotonic()
    buffer: Buffer[int] = Buffer(
        f"redis://user:{SECRET}@127.0.0.1:1/0", backend=MemoryBackend(), connect_timeout_seconds=0.3
    )
    with pytest.raises(RedisUnavailable, match=r"redis://\*\*\*@127\.0\.0\.1:1") as caught:
        await buffer.open()
    assert time.monotonic() - started < 3
    assert SECRET not in f"{caught.value} {caught.value!r} {buffer!r}"
    with pytest.raises(UsageError):
        await buffer.set("a", 1)


async def test_redis_that_hangs_is_told_in_time(private_server: Any) -> None:
    server = private_server()
    server.freeze()
    started = time.monotonic()
    buffer: Buffer[int] = Buffer(
        server.url, backend=MemoryBackend(), connect_timeout_seconds=0.5, redis_timeout_seconds=0.3
    )
    with pytest.raises(RedisUnavailable):
        await buffer.open()
    assert time.monotonic() - started < 3


async def test_unreachable_backend_is_told_in_time(valkey_url: str, namespace: str) -> None:
    class Hanging(MemoryBackend):
        async def open(self, *, namespace: str, former: str | None = None) -> None:
            await asyncio.Event().wait()

    started = time.monotonic()
    with pytest.raises(BackendUnavailable, match=r"Hanging.*longer than 0\.2 s"):
        await Buffer(valkey_url, backend=Hanging(), namespace=namespace, connect_timeout_seconds=0.2).open()
    assert time.monotonic() - started < 3

    class Failing(MemoryBackend):
        async def open(self, *, namespace: str, former: str | None = None) -> None:
            raise OSError(f"postgres://u:{SECRET}@h refused")

    with pytest.raises(BackendUnavailable) as caught:
        await Buffer(valkey_url, backend=Failing(), namespace=namespace).open()
    assert SECRET not in str(caught.value)


async def test_namespace_of_another_shape_is_refused(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer(valkey_url, backend=memory, namespace=namespace):
        pass
    with pytest.raises(NamespaceMismatch, match="partitions 1, not 2"):
        await Buffer(valkey_url, backend=memory, namespace=namespace, partitions=2).open()
    with pytest.raises(NamespaceMismatch, match="codec json, not msgpack"):
        await Buffer(valkey_url, backend=memory, namespace=namespace, codec="msgpack").open()


async def test_namespace_that_others_have_made_anew_is_neither_read_nor_written(
    private_server: Callable[..., Server], namespace: str
) -> None:
    server, memory = await asyncio.to_thread(private_server), MemoryBackend()
    async with Buffer[int](server.url, backend=memory, namespace=namespace, flushers=0) as buffer:
        await buffer.set("a", 1)
        await asyncio.to_thread(ask, server, "FLUSHALL")
        other = Buffer[int](server.url, backend=memory, namespace=namespace, flushers=0, codec="msgpack")
        async with other:
            await other.set("a", 3)
            for call in (buffer.get("a"), buffer.set("a", 2), buffer.get_many(["a"]), buffer.set("b", 2)):
                with pytest.raises(NamespaceMismatch, match="codec msgpack, not json"):
                    await call
            assert await other.get("a") == 3
            assert await other.get("b") is None


def test_repr_shows_no_password() -> None:
    buffer: Buffer[int] = Buffer(f"redis://:{SECRET}@h/0", backend="sqlite:///a.db?table=t", namespace="users")
    assert SECRET not in repr(buffer)
    assert "users" in repr(buffer)
