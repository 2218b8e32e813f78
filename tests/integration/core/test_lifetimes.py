"""Buffer: opening, closing, and use where or when it can't be used."""

import asyncio
import pickle
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis.asyncio
import trio

from asyncwb import Buffer, OutcomeUnknown, RedisUnavailable, UsageError
from asyncwb.protocol import scripts
from asyncwb.testing import MemoryBackend
from asyncwb.testing.contract import run_until_suspension
from asyncwb_backends.sqlite import SQLiteBackend
from tests.harness.proxy import open_proxy
from tests.harness.servers import Server


def in_a_guest_of_asyncio(main: Callable[[], Awaitable[None]]) -> None:
    """Runs a function in trio as a guest of asyncio: there is a running asyncio loop, but no task of it."""

    async def host() -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def finish(outcome: Any) -> None:
            outcome.unwrap()
            done.set_result(None)

        loop = asyncio.get_running_loop()
        trio.lowlevel.start_guest_run(main, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=finish)
        await done

    asyncio.run(host())


def in_no_loop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with pytest.raises(StopIteration):
        main().send(None)


@pytest.mark.parametrize(
    "run",
    [trio.run, partial(anyio.run, backend="trio"), in_a_guest_of_asyncio, in_no_loop],
    ids=["trio", "anyio on trio", "trio as a guest", "no loop"],
)
def test_buffer_says_that_it_needs_asyncio(run: Callable[[Callable[[], Awaitable[None]]], None]) -> None:
    buffer: Buffer[int] = Buffer("redis://127.0.0.1:1", backend=MemoryBackend())
    tried = []

    async def main() -> None:
        with pytest.raises(UsageError, match=r"needs asyncio.*asyncio\.run\(\)"):
            await buffer.open()
        with pytest.raises(UsageError, match="needs asyncio"):
            async with buffer:
                pass
        with pytest.raises(UsageError, match="isn't open"):
            await buffer.set("a", 1)
        await buffer.aclose()
        tried.append(True)

    run(main)
    assert tried


def test_open_buffer_that_trio_uses_says_that_it_needs_asyncio(valkey_url: str, namespace: str) -> None:
    async def main() -> None:
        async with Buffer[int](valkey_url, backend=MemoryBackend(), namespace=namespace) as buffer:

            async def misuse() -> None:
                for call in (lambda: buffer.set("a", 1), lambda: buffer.get("a"), buffer.drain, buffer.aclose):
                    with pytest.raises(UsageError, match="needs asyncio"):
                        await call()

            await asyncio.to_thread(trio.run, misuse)
            await buffer.set("a", 1)

    asyncio.run(main())


def test_buffer_works_beside_trio_in_a_thread_with_its_own_loop(valkey_url: str, namespace: str) -> None:
    async def use() -> int | None:
        async with Buffer[int](valkey_url, backend=MemoryBackend(), namespace=namespace) as buffer:
            await buffer.set("a", 1)
            return await buffer.get("a")

    async def main() -> None:
        assert await trio.to_thread.run_sync(asyncio.run, use()) == 1

    trio.run(main)


async def test_buffer_can_be_opened_again(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    buffer: Buffer[int] = Buffer(valkey_url, backend=memory, namespace=namespace)
    for number in range(3):
        async with buffer:
            await buffer.set("a", number)
    assert memory.values == {"a": 2}
    await buffer.aclose()


async def test_use_before_open_and_after_close(valkey_url: str, namespace: str) -> None:
    buffer: Buffer[int] = Buffer(valkey_url, backend=MemoryBackend(), namespace=namespace)
    for call in (
        lambda: buffer.set("a", 1), lambda: buffer.get("a"), lambda: buffer.delete("a"), lambda: buffer.flush("a"),
        buffer.drain, buffer.stats, lambda: buffer.set_many({}), lambda: buffer.get_many([]), buffer.audit,
    ):  # fmt: skip
        with pytest.raises(UsageError, match="isn't open"):
            await call()
    async with buffer:
        with pytest.raises(UsageError, match="open already"):
            await buffer.open()
    with pytest.raises(UsageError, match="closed"):
        await buffer.set("a", 1)


async def test_write_that_was_sent_when_the_buffer_closes_is_unknown(valkey_server: Server, namespace: str) -> None:
    async with open_proxy(valkey_server) as proxy:
        buffer: Buffer[int] = Buffer(
            proxy.url, backend=MemoryBackend(), namespace=namespace, drain_timeout_seconds=0.1, flushers=0
        )
        await buffer.open()
        await buffer.set("warm", 0)
        held = proxy.fault("hold request", scripts.PUT)
        sent = [asyncio.create_task(buffer.set("a", 1))]
        await held.caught.wait()
        sent.append(asyncio.create_task(buffer.set("b", 1)))
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(buffer.set("c", 1))
        await asyncio.sleep(0)
        await buffer.aclose()
        for task in sent:
            with pytest.raises(OutcomeUnknown, match="closed before the answer"):
                await task
        with pytest.raises(UsageError, match="closed"):
            await waiting


def test_use_from_another_event_loop_is_an_error(valkey_url: str, namespace: str) -> None:
    buffer: Buffer[int] = Buffer(valkey_url, backend=MemoryBackend(), namespace=namespace)

    async def misuse() -> None:
        with pytest.raises(UsageError, match="another event loop"):
            await buffer.set("a", 1)

    async def main() -> None:
        async with buffer:
            await asyncio.to_thread(asyncio.run, misuse())

    asyncio.run(main())


def test_use_in_a_later_event_loop_of_the_same_thread_is_an_error(valkey_url: str, namespace: str) -> None:
    buffer: Buffer[int] = Buffer(valkey_url, backend=MemoryBackend(), namespace=namespace)

    async def misuse() -> None:
        with pytest.raises(UsageError, match="another event loop"):
            await buffer.set("a", 1)

    with asyncio.Runner() as first:
        first.run(buffer.open())
        asyncio.run(misuse())
        first.run(buffer.set("a", 1))
        first.run(buffer.aclose())


FORKING = """
import asyncio, os, sys
from asyncwb import Buffer, OutcomeUnknown, RedisUnavailable, UsageError
from asyncwb.testing import MemoryBackend

async def main():
    async with Buffer(sys.argv[1], backend=MemoryBackend(), namespace=sys.argv[2]) as buffer:
        child = os.fork()
        if not child:
            try:
                buffer.set("a", 1).send(None)
            except UsageError as error:
                os._exit(0 if "fork" in str(error) else 2)
            os._exit(3)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

sys.exit(asyncio.run(main()))
"""


def test_use_after_a_fork_is_an_error(valkey_url: str, namespace: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FORKING, valkey_url, namespace], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 0, ended.stderr


async def test_pickling_is_an_error(valkey_url: str) -> None:
    with pytest.raises(UsageError, match="pickled"):
        pickle.dumps(Buffer(valkey_url, backend=MemoryBackend()))


async def test_client_may_be_passed_and_shared(valkey_url: str) -> None:
    memory, other = MemoryBackend(), MemoryBackend()
    async with redis.asyncio.Redis.from_url(valkey_url, decode_responses=True) as client:
        async with (
            Buffer(client, backend=memory, namespace="one") as one,
            Buffer(client, backend=other, namespace="two") as two,
        ):
            await one.set("a", 1)
            await two.set("a", 2)
            assert (await one.get("a"), await two.get("a")) == (1, 2)
        assert await client.ping()
    assert (memory.values, other.values) == ({"a": 1}, {"a": 2})


async def test_only_writing_leaves_the_rest_to_others(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    started = time.monotonic()
    async with Buffer(valkey_url, backend=memory, namespace=namespace, flushers=0) as buffer:
        await buffer.set("a", 1)
    assert time.monotonic() - started < 3
    assert not memory.records


async def test_open_cancelled_at_any_await_can_be_repeated(valkey_url: str, namespace: str, tmp_path: Path) -> None:
    cancelled = 0
    buffer: Buffer[int] = Buffer(valkey_url, backend=f"sqlite:///{tmp_path}/a.db", namespace=namespace)
    for stop_at in range(1, 200):
        finished = await run_until_suspension(buffer.open, stop_at)
        if finished:
            break
        cancelled += 1
    await buffer.set("a", 1)
    await buffer.aclose()
    assert cancelled > 8


async def test_close_cancelled_at_any_await_is_still_a_close(valkey_url: str, namespace: str, tmp_path: Path) -> None:
    cancelled = 0
    backend = SQLiteBackend(tmp_path / "a.db")
    buffer: Buffer[int] = Buffer(valkey_url, backend=backend, namespace=namespace)
    before = asyncio.all_tasks()
    try:
        for stop_at in range(1, 200):
            await buffer.open()
            version = await buffer.set("a", stop_at)
            finished = await run_until_suspension(buffer.aclose, stop_at)
            assert asyncio.all_tasks() == before
            with pytest.raises(UsageError, match="closed"):
                await buffer.get("a")
            if finished:
                break
            cancelled += 1
        async with buffer:
            await buffer.flush("a", version=version)
    finally:
        await backend.close()  # its thread would hang the exit of a run in which this test fails
    assert cancelled >= 2


async def test_backend_of_an_open_buffer_is_refused_to_another(valkey_url: str, namespace: str, tmp_path: Path) -> None:
    """Closing one of the two would break the other."""
    backend = SQLiteBackend(tmp_path / "a.db")
    one: Buffer[int] = Buffer(valkey_url, backend=backend, namespace=namespace)
    two: Buffer[int] = Buffer(valkey_url, backend=backend, namespace=namespace)
    async with one:
        with pytest.raises(UsageError, match="a backend object of its own"):
            await two.open()
        await one.set("a", 1)
        await one.flush("a", timeout=10)
    for buffer in (two, one):
        async with buffer:
            assert await buffer.get("a") == 1


async def test_backend_whose_buffer_could_not_be_opened_is_free(
    namespace: str, valkey_url: str, tmp_path: Path
) -> None:
    backend = SQLiteBackend(tmp_path / "a.db")
    with pytest.raises(RedisUnavailable):
        await Buffer("redis://127.0.0.1:1", backend=backend, connect_timeout_seconds=0.2).open()
    async with Buffer(valkey_url, backend=backend, namespace=namespace):
        pass
