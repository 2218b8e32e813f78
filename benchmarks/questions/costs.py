"""What a record costs the server, in its own time and memory, where so many others are dirty."""

import asyncio
import inspect
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Final

import redis.asyncio

from asyncwb import Buffer
from asyncwb.protocol.messages import Claim
from asyncwb.protocol.queue import Queue
from asyncwb.redis.connection import RedisLink
from asyncwb.testing import MemoryBackend
from benchmarks.harness.rounds import Sample
from benchmarks.harness.servers import Server
from benchmarks.workloads.loads import fixed_calls
from benchmarks.workloads.payloads import VALUES, values

PAGE: Final = 1000
_CALLERS: Final = 4
_STEPS: Final = 20_000
"""So many records go through each step while it is measured: as often a fifth of what is there as that takes."""
_NAMESPACE: Final = "costs"
_KEY: Final = f"{{wb:{_NAMESPACE}:0.0}}:"
"""How all keys of a partition begin."""
_RECORD: Final = f"{_KEY}rec:"
_DIRTY: Final = f"{_KEY}dirty"
_LEASE: Final = f"{_KEY}lease"
_HEADER: Final = b"." * 18
"""As long as that of a record."""
_STRIDE: Final = 61_803_399
"""Has no factor in common with 10^8: keys come in no order, and each one once."""
_QUEUE_TAKES: Final = inspect.signature(Queue).parameters
_ACK_TAKES: Final = inspect.signature(Queue.ack).parameters


async def dirty_record(records: int, *, appendonly: bool = False, writers: int = 1) -> Sample:
    """Fills a buffer with so many records, and measures what put, claim and ack of others take then.

    Times are of the server: `usec` of EVALSHA and MGET in INFO commandstats, which has all that a script calls, and
    neither the client's part nor parsing and sending. It is the median of batches of a thousand: whoever else uses the
    machine makes single ones several times slower.

    Args:
        records: how many are there while others are measured.
        appendonly: whether the server keeps an append-only file.
        writers: how many buffers share each batch, with requests of their own.
    """
    backend = MemoryBackend()
    with _server(appendonly=appendonly) as server:
        async with _Meter.of(server) as meter:
            async with _buffer(server, backend) as buffer, _queue(server) as queue:
                await _cycle([buffer], queue, meter, 0, PAGE)  # the server has all scripts now
            empty = await meter.settled_memory()
            async with _buffer(server, backend) as buffer:
                took = await fill(buffer.set_many, records)
                held = (await buffer.stats()).dirty
            if held != records:
                raise AssertionError(f"{held} records are dirty, not {records}")
            used = await meter.settled_memory() - empty
            meter.costs.clear()
            step = min(_STEPS, records // 5)
            async with AsyncExitStack() as stack, _queue(server) as queue:
                buffers = [
                    await stack.enter_async_context(_buffer(server, MemoryBackend())) for _ in range(writers - 1)
                ]
                buffers.append(await stack.enter_async_context(_buffer(server, backend)))
                await asyncio.sleep(0.1)  # their first heartbeats are over
                for start in range(records, records + _STEPS, step):
                    await _cycle(buffers, queue, meter, start, step)
    medians = meter.medians()
    return {
        **medians,
        "record_us": sum(medians.values()),
        "record_bytes": used / records,
        "filled_per_s": records / took,
    }


async def bare_commands(records: int) -> Sample:
    """The same steps without scripts: only the commands that move keys from set to set, and store and delete records.

    No buffer of these data structures can do with less of the server's time.
    """
    with _server(appendonly=True) as server:
        async with _Meter.of(server) as meter, client_of(server.url) as client:
            took = await fill(lambda page: _bare_put(client, page), records)
            held = await client.zcard(_DIRTY)
            if held != records:
                raise AssertionError(f"{held} records are dirty, not {records}")
            step = min(_STEPS, records // 5)
            for start in range(records, records + _STEPS, step):
                await _bare_cycle(client, meter, start, step)
    medians = meter.medians()
    return {**medians, "record_us": sum(medians.values()), "filled_per_s": records / took}


async def plain_key(records: int) -> Sample:
    """The same data as plain keys; what SET takes for others, alone and as MSET of 1000."""
    with _server() as server:
        async with _Meter.of(server) as meter:
            empty = await meter.settled_memory()
            async with client_of(server.url) as client:
                took = await fill(client.mset, records)
                held = await client.dbsize()
            if held != records:
                raise AssertionError(f"there are {held} keys, not {records}")
            used = await meter.settled_memory() - empty
            step = min(_STEPS, records // 5)
            async with client_of(server.url) as client:
                for start in range(records, records + _STEPS, step):
                    await _plain_cycle(client, meter, start, step)
    return {
        **meter.medians(),
        "record_bytes": used / records,
        "filled_per_s": records / took,
    }


async def fill(write: Callable[[dict[str, bytes]], Awaitable[Any]], records: int) -> float:
    """Writes the first so many records, a thousand at a time; returns the seconds it took."""
    pages = -(-records // PAGE)
    return await fixed_calls(min(_CALLERS, pages), pages, lambda number: write(_page(number * PAGE, records)))


@asynccontextmanager
async def client_of(url: str, *, connections: int = 100) -> AsyncIterator[Any]:
    """redis-py with at most so many connections, closed in the end."""
    client: Any = redis.asyncio.Redis.from_url(url, protocol=2, max_connections=connections)
    try:
        yield client
    finally:
        await client.aclose()


async def _cycle(buffers: "Sequence[Buffer[bytes]]", queue: Queue, meter: "_Meter", start: int, count: int) -> None:
    """Puts new records, and claims and acks as many, of those that are due first."""
    pages = [_page(first, start + count) for first in range(start, start + count, PAGE)]
    for page in pages:
        items = [*page.items()]
        parts = [dict(items[number :: len(buffers)]) for number in range(len(buffers))]
        async with meter.reads("put", ("evalsha",), len(page)):
            await asyncio.gather(*(buffer.set_many(part) for buffer, part in zip(buffers, parts, strict=True)))
    claims: list[Claim] = []
    for page in pages:
        # With layout 2 the script of a claim read the records; now it is followed by an MGET.
        async with meter.reads("claim", ("evalsha", "mget"), len(page)):
            claims.append(await queue.claim(records=len(page), bytes=2**23, lease_seconds=60))
    gone = 0
    for claim in claims:
        async with meter.reads("ack", ("evalsha",), len(claim.records)):
            acked = await queue.ack(claim if "claim" in _ACK_TAKES else claim.id)  # type: ignore[arg-type]
        gone += acked.gone if acked else 0
    if gone != count:
        raise AssertionError(f"{gone} records were claimed and acked, not {count}")


async def _bare_put(client: Any, page: dict[str, bytes]) -> None:
    due = time.time()
    await client.zadd(_DIRTY, dict.fromkeys(page, due))
    await client.mset({_RECORD + key: _HEADER + value for key, value in page.items()})


async def _bare_cycle(client: Any, meter: "_Meter", start: int, count: int) -> None:
    """Puts new records, and claims and removes as many, of those that are due first."""
    pages = [_page(first, start + count) for first in range(start, start + count, PAGE)]
    for page in pages:
        async with meter.reads("put", ("zadd", "mset"), len(page)):
            await _bare_put(client, page)
    for number, page in enumerate(pages):
        async with meter.reads("claim", ("zrangebyscore", "zadd", "zremrangebyrank", "mget"), len(page)):
            keys = await client.zrangebyscore(_DIRTY, "-inf", "+inf", start=0, num=len(page))
            await client.zadd(_LEASE, dict.fromkeys(keys, number))
            await client.zremrangebyrank(_DIRTY, 0, len(keys) - 1)
            records = await client.mget([_RECORD.encode() + key for key in keys])
        if None in records:
            raise AssertionError("a record is missing")
    gone = 0
    for number, page in enumerate(pages):
        async with meter.reads("ack", ("zrangebyscore", "zremrangebyscore", "del"), len(page)):
            keys = await client.zrangebyscore(_LEASE, number, number)
            await client.zremrangebyscore(_LEASE, number, number)
            gone += await client.delete(*(_RECORD.encode() + key for key in keys))
    if gone != count:
        raise AssertionError(f"{gone} records were claimed and deleted, not {count}")


async def _plain_cycle(client: Any, meter: "_Meter", start: int, count: int) -> None:
    """Sets new keys and deletes them, both ways."""
    pages = [_page(first, start + count) for first in range(start, start + count, PAGE)]
    for page in pages:
        async with meter.reads("set", ("set",), len(page)), client.pipeline(transaction=False) as pipe:
            for key, value in page.items():
                pipe.set(key, value)
            await pipe.execute()
    for page in pages:
        await client.delete(*page)
    for page in pages:
        async with meter.reads("mset", ("mset",), len(page)):
            await client.mset(page)
    deleted = sum([await client.delete(*page) for page in pages])
    if deleted != count:
        raise AssertionError(f"{deleted} keys were set, not {count}")


class _Meter:
    """What a server says of itself, over a connection of its own.

    Attributes:
        costs: name -> microseconds per record, of each batch.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self.costs: defaultdict[str, list[float]] = defaultdict(list)

    @classmethod
    @asynccontextmanager
    async def of(cls, server: Server) -> AsyncIterator["_Meter"]:
        async with client_of(server.url) as client:
            yield cls(client)

    async def settled_memory(self) -> int:
        """Bytes in use when hash tables have done their growing, and the buffers of closed connections are gone."""
        before, deadline = -1, time.monotonic() + 5
        while True:
            await self._client.config_resetstat()  # or each command that was ever called has a histogram of 40 kB
            found = await self._client.info("memory")
            used: int = found["used_memory"]
            growing = found.get("mem_overhead_db_hashtable_rehashing", 0)
            if (abs(used - before) < 1024 and not growing) or time.monotonic() > deadline:
                return used
            before = used
            await asyncio.sleep(0.1)

    @asynccontextmanager
    async def reads(self, name: str, commands: Sequence[str], records: int) -> AsyncIterator[None]:
        """Notes what the server spends in some commands meanwhile, for each of so many records."""
        await self._client.config_resetstat()
        yield
        found = await self._client.info("commandstats")
        spent = sum(found.get(f"cmdstat_{command}", {"usec": 0})["usec"] for command in commands)
        self.costs[name].append(spent / records)

    def medians(self) -> Sample:
        return {f"{name}_us": statistics.median(costs) for name, costs in self.costs.items()}


@contextmanager
def _server(*, appendonly: bool = False) -> Iterator[Server]:
    """One for one run: its memory is the records and nothing else."""
    server = Server("valkey", appendonly="yes" if appendonly else "no")
    try:
        yield server
    finally:
        server.stop()


def _buffer(server: Server, backend: MemoryBackend) -> "Buffer[bytes]":
    return Buffer(server.url, backend=backend, namespace=_NAMESPACE, codec="bytes", flushers=0)


@asynccontextmanager
async def _queue(server: Server) -> AsyncIterator[Queue]:
    """The steps of a flusher, one at a time."""
    link = RedisLink.from_url(server.url, timeout_seconds=60)
    try:
        # Layout 2, which comparisons with earlier commits measure, knows no number of partitions.
        partitions: dict[str, Any] = {"partitions": 1} if "partitions" in _QUEUE_TAKES else {}
        yield Queue(link, _NAMESPACE, 0, **partitions)
    finally:
        await link.close()


def _page(start: int, end: int) -> dict[str, bytes]:
    """A thousand records from `start` on, those before `end`."""
    numbers = range(start, min(start + PAGE, end))
    return {f"user:{number * _STRIDE % 10**8:08d}": values(200)[number % VALUES] for number in numbers}
