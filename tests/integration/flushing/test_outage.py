"""A minute without the backend, under 200 writers: MongoDB is stopped, and comes back."""

import asyncio
import logging
import resource
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asyncwb import Buffer, CircuitChanged, DeadLetter, Event, Retried, Saved
from tests.harness.databases import Mongod, mongod_binary
from tests.harness.servers import Server

OUTAGE_SECONDS = 60


@pytest.fixture
def mongod() -> Any:
    path, reason = mongod_binary()
    if path is None:
        pytest.skip(reason)
    server = Mongod()
    yield server
    server.stop()


@asynccontextmanager
async def writing(buffer: Buffer[int], writers: int) -> AsyncIterator[dict[str, int]]:
    """Writers count up keys of their own, 10 writes a second, without an error; yields what was acknowledged."""
    acknowledged: dict[str, int] = {}
    stopping = asyncio.Event()

    async def write(number: int) -> None:
        count = 0
        while not stopping.is_set():
            count += 1
            key = f"w{number}.{count % 10}"
            await buffer.set(key, count)
            acknowledged[key] = count
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as group:
        for number in range(writers):
            group.create_task(write(number))
        yield acknowledged
        stopping.set()


@pytest.mark.long
async def test_outage_of_a_minute_costs_nobody_anything(
    private_server: Callable[..., Server], namespace: str, mongod: Mongod, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "asyncwb")
    server = await asyncio.to_thread(private_server, "valkey")
    events: list[tuple[float, Event]] = []
    async with Buffer[int](
        server.url,
        backend=mongod.url("app"),
        type=int,
        namespace=namespace,
        max_dirty=10_000,
        max_attempts=1,
        observer=lambda event: events.append((time.monotonic(), event)),
    ) as buffer:
        async with writing(buffer, 200) as acknowledged:
            await asyncio.sleep(2)
            await asyncio.to_thread(mongod.kill)
            await asyncio.sleep(1)
            lines, used = len(caplog.records), _cpu()
            began = time.monotonic()
            await asyncio.sleep(OUTAGE_SECONDS - 1)
            seconds = time.monotonic() - began
            share, said = (_cpu() - used) / seconds, len(caplog.records) - lines
            assert not [event for at, event in events if at > began and isinstance(event, Saved)]
            back = time.monotonic()
            await asyncio.to_thread(mongod.start)
            answers = time.monotonic()
            async with asyncio.timeout(10):
                while not any(at > back and isinstance(event, Saved) for at, event in events):
                    await asyncio.sleep(0.01)
            first = next(at for at, event in events if at > back and isinstance(event, Saved))
            await asyncio.sleep(1)
        await buffer.drain(timeout=30)
        held = {document["_id"]: document["value"] async for document in _documents(mongod)}
    print(
        f"\n{OUTAGE_SECONDS} s without the backend, 200 writers, {buffer.totals.acknowledged:,} writes: "
        f"CPU {share:.0%} of a core (the writers included), {said} log line(s), "
        f"first save {first - answers:+.2f} s after it answers again"
    )
    assert held == acknowledged, "nothing is lost, nothing stale"
    assert not [event for _, event in events if isinstance(event, Retried | DeadLetter)], "no attempt was counted"
    assert [event.open for _, event in events if isinstance(event, CircuitChanged)] == [True, False]
    assert first - answers < 1.0
    assert said <= 2
    assert buffer.totals.crashes == 0


async def _documents(mongod: Mongod) -> AsyncIterator[Any]:
    with mongod.client() as client:
        for document in await asyncio.to_thread(lambda: list(client.app.users.find({}))):
            yield document


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
