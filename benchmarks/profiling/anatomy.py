"""Where the time of a `set` and a `get` goes: `uv run python -m benchmarks.profiling.anatomy`.

Each number is the lowest of several rounds, in µs: what it costs where nothing disturbs it. In Python, with a link that
answers at once; in the server, as it counts the time of scripts (INFO commandstats), with parts of put.lua left out.
"""

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Any, Final
from unittest.mock import patch

import hiredis

from asyncwb import Buffer
from asyncwb.protocol import scripts
from asyncwb.protocol.messages import Bounds
from asyncwb.protocol.queue import Queue
from asyncwb.redis.connection import RedisLink
from asyncwb.redis.link import Argument
from asyncwb.redis.script import Script
from asyncwb.testing import MemoryBackend
from asyncwb.writing.coalescing import coalesced
from benchmarks.harness.servers import Server

_VALUE: Final = b"x" * 200
_ROUNDS: Final = 12
_LEFT_OUT: Final = {
    "nothing": ("", ""),
    "ZADD": ("redis.call('ZADD', DIRTY, 'LT', unpack(", "select('#', unpack("),
    "MSET": ("redis.call('MSET', unpack(", "select('#', unpack("),
    "all behind the shared functions": ("local memory = try(", "do return 'OK 0 0  ' end\nlocal memory = try("),
    "all behind the checks": ("local keys, bodies, total = ", "do return 'OK 0 0  ' end\nlocal keys, bodies, total = "),
}
"""What is measured: a part of put.lua, and what stands there instead."""


class AtOnce:
    """A link that packs requests and answers puts and gets itself."""

    def __init__(self, link: Any, epoch: int) -> None:
        self._link = link
        self._seqs = count(1, 1000)
        self._epoch = b"%d" % epoch
        self._record = struct.pack(">IIQ2s", epoch, 1, 1, b"pb") + _VALUE

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    async def script(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        if script.name not in ("put", "get"):
            return await self._link.script(script, keys, args)
        hiredis.pack_command(tuple[Any, ...](("EVALSHA", script.sha, len(keys), *keys, *args)))
        await asyncio.sleep(0)
        if script.name == "put":
            return b"OK %d 0    0   " % next(self._seqs)
        return [self._record] * (len(args) - 2) + [self._epoch]


async def in_python(url: str) -> None:
    """Processor time of a call, for several numbers of callers."""
    async with Buffer[bytes](url, backend=MemoryBackend(), codec="bytes", flushers=0) as buffer:
        queue = buffer._engine.partitions[0].queue  # noqa: SLF001 - its link is exchanged
        queue.link = AtOnce(queue.link, (await buffer.stats()).epoch)
        for callers in (1, 200, 1000):
            calls = {
                "set": lambda number: buffer.set(f"k{number:012d}", _VALUE),
                "get": lambda number: buffer.get(f"k{number:012d}"),
                "a task that awaits a future": _future(asyncio.get_running_loop()),
            }
            for name, call in calls.items():
                print(f"Python, {callers} callers, {name}: {await _cheapest(callers, call):.2f} µs")


def _future(loop: asyncio.AbstractEventLoop) -> Callable[[int], Awaitable[Any]]:
    waiting: list[asyncio.Future[None]] = []

    def answer() -> None:
        for future in waiting:
            future.set_result(None)
        waiting.clear()

    def call(_: int) -> Awaitable[Any]:
        future = loop.create_future()
        waiting.append(future)
        if len(waiting) == 1:
            loop.call_soon(answer)
        return future

    return call


async def _cheapest(callers: int, call: Callable[[int], Awaitable[Any]], calls: int = 40_000) -> float:
    async def caller(first: int) -> None:
        for number in range(first, calls, callers):
            await call(number)

    best = float("inf")
    for _ in range(_ROUNDS // 2):
        started = time.process_time()
        await asyncio.gather(*map(caller, range(callers)))
        best = min(best, time.process_time() - started)
    return best / calls * 1e6


async def in_the_server(url: str, size: int) -> None:
    """Script time of a put of new keys, a write."""
    link = RedisLink.from_url(url, timeout_seconds=10)
    try:
        await link.command("FLUSHALL")
        queue = Queue(link, "anatomy", 0, 1)
        await queue.install_epoch(await queue.read_meta(), 1, codec="bytes")
        await queue.register("w")
        keys, requests = count(), count(1)
        best = dict.fromkeys(_LEFT_OUT, float("inf"))
        for _ in range(_ROUNDS):
            for name, (old, new) in _LEFT_OUT.items():
                source = scripts.PUT.source.replace(old, new, 1) if old else scripts.PUT.source
                assert not old or source != scripts.PUT.source, name
                with patch.object(scripts, "PUT", Script("put", source)):
                    before = await _script_time(link)
                    for _ in range(5):
                        groups = [[(b"k%012d" % (next(keys) * 7919 % 10_000_019), b"pb" + _VALUE)] for _ in range(size)]
                        await queue.put(
                            coalesced(groups, limited=False).request, writer="w", request=next(requests),
                            repeated=False, epoch=1, delay_seconds=0, bounds=Bounds(),
                        )  # fmt: skip
                best[name] = min(best[name], (await _script_time(link) - before) / 5 / size)
        for name, taken in best.items():
            print(f"server, puts of {size}, left out is {name}: {taken:.2f} µs a write")
    finally:
        await link.close()


async def _script_time(link: RedisLink) -> float:
    text = (await link.command("INFO", "commandstats")).decode()
    line = next((each for each in text.splitlines() if each.startswith("cmdstat_evalsha:")), ":calls=0,usec=0,")
    return float(line.partition("usec=")[2].partition(",")[0])


def main() -> None:
    server = Server("valkey", appendonly="yes", appendfsync="everysec")
    try:
        asyncio.run(in_python(server.url))
        for size in (1, 200):
            asyncio.run(in_the_server(server.url, size))
    finally:
        server.stop()


if __name__ == "__main__":
    main()
