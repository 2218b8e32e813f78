"""Primaries, replicas that lag, and promotions."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import redis

from tests.harness.pipe import Pipe
from tests.harness.servers import SentinelServer, Server

StartServer = Callable[..., Server]


def ask(server: Server, *command: Any) -> Any:
    """Runs one command over a new connection, and returns the reply."""
    with redis.Redis.from_url(server.url, protocol=2) as client:
        return client.execute_command(*command)


async def is_synchronised(replica: Server) -> None:
    """Waits until a replica is connected to its primary and synchronised."""
    async with asyncio.timeout(20):
        while True:
            info = await asyncio.to_thread(ask, replica, "INFO", "replication")
            if info.get("master_link_status") == "up":
                return
            await asyncio.sleep(0.02)


async def start_replica(start: StartServer, port: int, kind: str = "valkey", **config: str) -> Server:
    """Starts a replica of the primary on a port, and returns it when it is synchronised."""
    replica = await asyncio.to_thread(
        start, kind, replicaof=f"127.0.0.1 {port}", **{"repl-ping-replica-period": "1", **config}
    )
    await is_synchronised(replica)
    return replica


@contextmanager
def open_sentinels(primary: Server, kind: str = "valkey", count: int = 3) -> Iterator[list[SentinelServer]]:
    """Starts Sentinels, and yields them when they have found each other and the replica; a majority can promote it."""
    started: list[SentinelServer] = []
    try:
        for _ in range(count):
            started.append(SentinelServer(kind, primary, quorum=count // 2 + 1))
        deadline = time.monotonic() + 30
        while not all(_knows(sentinel, count) for sentinel in started):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield started
    finally:
        for sentinel in started:
            sentinel.stop()


def _knows(sentinel: SentinelServer, count: int) -> bool:
    with redis.Redis(port=sentinel.port, decode_responses=True, protocol=2) as client:
        state = client.sentinel_master("wb")
    return bool(state["num-other-sentinels"] == count - 1 and state["num-slaves"] == 1)


class Pair:
    """A primary, and a replica that can be made to lag."""

    def __init__(self, primary: Server, replica: Server, pipe: Pipe) -> None:
        self.primary = primary
        self.replica = replica
        self._pipe = pipe

    def lag(self) -> None:
        """Cuts the replica off from further changes."""
        self._pipe.hold()

    async def promote(self) -> None:
        await asyncio.to_thread(ask, self.replica, "REPLICAOF", "NO", "ONE")


@asynccontextmanager
async def open_pair(start: StartServer, kind: str = "valkey", **config: str) -> AsyncIterator[Pair]:
    primary = await asyncio.to_thread(start, kind, **{"repl-diskless-sync-delay": "0", **config})
    async with Pipe(primary.port).open() as pipe:
        replica = await start_replica(start, pipe.port, kind, **config)
        yield Pair(primary, replica, pipe)


@asynccontextmanager
async def open_service(
    start: StartServer, kind: str = "valkey", *, sentinels: int = 3
) -> AsyncIterator[tuple[Server, str]]:
    """Starts a primary, a replica and Sentinels; yields the primary and the URL of the service."""
    primary = await asyncio.to_thread(start, kind, **{"repl-diskless-sync-delay": "0"})
    await start_replica(start, primary.port, kind)
    with open_sentinels(primary, kind, sentinels) as watching:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in watching)
        yield primary, f"redis+sentinel://{hosts}/wb"
