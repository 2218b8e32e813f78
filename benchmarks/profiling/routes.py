"""Counts the calls that lead from one folder of asyncwb into another, on four routes through it.

    uv run python -m benchmarks.profiling.routes [--edges]

The routes are a write to its row, reads that hit and that miss, a record that becomes a dead letter and is retried, and
a failover. Each pair of functions counts once, however often one calls the other. `support` runs what it is handed, so
a call that it makes counts for whoever called it. A call goes up if it leads to a layer above that of its caller, by
the layers in pyproject.toml; what the event loop calls has no caller.
"""

import argparse
import asyncio
import logging
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

import asyncwb
from asyncwb import Buffer, DeadLetter, Event, OutcomeUnknown, RedisError
from asyncwb.testing import FaultyBackend, MemoryBackend
from benchmarks.harness.servers import Server
from tests.harness.replication import open_service

PACKAGE: Final = Path(asyncwb.__file__).parent


def layers() -> dict[str, int]:
    """The number of each folder's and public module's layer, the highest first."""
    contracts = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    (listed,) = (each["layers"] for each in contracts["contracts"] if "layers" in each)
    return {name: number for number, layer in enumerate(listed) for name in layer.split(" | ")}


Edge = tuple[tuple[str, str], tuple[str, str]]
"""The module and the name of a function, and those of the one that it calls."""


@dataclass
class Route:
    """The calls of a route: how often a function (module, name) called one of another folder."""

    calls: Counter[Edge] = field(default_factory=Counter)

    @contextmanager
    def traced(self) -> Iterator[None]:
        sys.setprofile(self._event)
        try:
            yield
        finally:
            sys.setprofile(None)

    def _event(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not _is_ours(frame) or _is_resumed(frame):
            return
        caller = frame.f_back
        while caller is not None and (not _is_ours(caller) or folder_of(_where(caller)[0]) == "support"):
            if "asyncio/" in caller.f_code.co_filename:
                return  # begun by the event loop: a task's first step, a callback
            caller = caller.f_back
        if caller is not None:
            origin, target = _where(caller), _where(frame)
            if folder_of(origin[0]) != folder_of(target[0]):
                self.calls[origin, target] += 1


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(str(PACKAGE)) and "/testing/" not in frame.f_code.co_filename


def _is_resumed(frame: FrameType) -> bool:
    """Whether a coroutine goes on: its last instruction is a RESUME behind an await or a yield."""
    code = frame.f_code
    return bool(code.co_flags & 0x2A0) and frame.f_lasti >= 0 and code.co_code[frame.f_lasti + 1] & 3 != 0


def _where(frame: FrameType) -> tuple[str, str]:
    path = Path(frame.f_code.co_filename).relative_to(PACKAGE).with_suffix("")
    return ".".join(path.parts), frame.f_code.co_qualname


def folder_of(module: str) -> str:
    return module.partition(".")[0]


async def a_write(url: str) -> Route:
    async with Buffer[int](url, type=int, backend=MemoryBackend(), namespace="w") as buffer:
        route = Route()
        with route.traced():
            version = await buffer.set("a", 1)
            await buffer.flush("a", version=version)
            await buffer.set_many({"b": 1, "c": 2})
            await buffer.drain()
        return route


async def reads(url: str) -> Route:
    async with Buffer[int](url, type=int, backend=MemoryBackend(), namespace="r", flushers=0) as buffer:
        await buffer.set("a", 1)
        route = Route()
        with route.traced():
            await buffer.get("a")
            await buffer.get("missing")
            await buffer.get_many(["a", "b"])
        return route


async def a_dead_letter(url: str) -> Route:
    backend = FaultyBackend(MemoryBackend())
    backend.poison["bad"] = ValueError("poison")
    options: Any = {"max_attempts": 2, "backoff_initial_seconds": 0.01}
    died = asyncio.Event()

    def observe(event: Event) -> None:
        if isinstance(event, DeadLetter):
            died.set()

    async with Buffer[int](url, type=int, backend=backend, namespace="d", observer=observe, **options) as buffer:
        retry = getattr(buffer, "retry_dead", None) or buffer.retry_dead
        route = Route()
        with route.traced():
            await buffer.set_many({"bad": 1, "good": 2})
            await died.wait()
            backend.poison.clear()
            await retry(["bad"])
            await buffer.drain()
        return route


async def a_failover(_: str) -> Route:
    started: list[Server] = []

    def start(kind: str, **config: str) -> Server:
        started.append(Server(kind, environment=None, **config))
        return started[-1]

    try:
        async with open_service(start, "valkey") as (primary, url):
            options: Any = {"namespace": "f", "redis_timeout_seconds": 1.0}
            async with Buffer[int](url, type=int, backend=MemoryBackend(), **options) as buffer:
                await buffer.set("a", 1)
                await buffer.drain()
                route = Route()
                with route.traced():
                    primary.freeze()
                    while True:
                        try:
                            version = await buffer.set("a", 2)
                            break
                        except (RedisError, OutcomeUnknown):
                            await asyncio.sleep(0.05)
                    await buffer.flush("a", version=version)
                primary.thaw()
                return route
    finally:
        for server in started:
            server.stop()


ROUTES: Final[dict[str, Callable[[str], Coroutine[None, None, Route]]]] = {
    "a write to its row": a_write,
    "reads": reads,
    "a dead letter and back": a_dead_letter,
    "a failover": a_failover,
}


def show(name: str, route: Route, *, edges: bool) -> int:
    """Prints the counts of a route; returns how many of its calls go up."""
    order = layers()

    def rises(edge: Edge) -> bool:
        (origin, _), (target, _) = edge
        return order[folder_of(target)] < order[folder_of(origin)]

    up = sorted(edge for edge in route.calls if rises(edge))
    print(f"{name}: {len(route.calls)} calls enter another folder, {len(up)} of them a layer above")
    if edges:
        folders = Counter((folder_of(origin), folder_of(target)) for (origin, _), (target, _) in route.calls)
        print("   ", ", ".join(f"{origin} → {target} {count}" for (origin, target), count in folders.most_common()))
    for origin, target in up:
        print(f"    up: {'.'.join(origin)} → {'.'.join(target)}")
    return len(up)


def main() -> int:
    """Returns the exit status: 1 if any call goes up."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiling.routes")
    parser.add_argument("--edges", action="store_true", help="also show between which folders")
    options = parser.parse_args()
    logging.disable()  # the failover's warnings
    server = Server("valkey", appendonly="yes")
    try:
        up = [show(name, asyncio.run(follow(server.url)), edges=options.edges) for name, follow in ROUTES.items()]
    finally:
        server.stop()
    return int(any(up))


if __name__ == "__main__":
    sys.exit(main())
