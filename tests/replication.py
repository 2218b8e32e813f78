"""Primaries, replicas that lag, and promotions."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import redis
from proxy import Pipe
from servers import Server

StartServer = Callable[..., Server]


def ask(server: Server, *command: Any) -> Any:
    """One command, over a connection of its own."""
    with redis.Redis.from_url(server.url, protocol=2) as client:
        return client.execute_command(*command)


async def is_synchronised(replica: Server) -> None:
    """Returns when a replica follows its primary."""
    async with asyncio.timeout(20):
        while True:
            info = await asyncio.to_thread(ask, replica, "INFO", "replication")
            if info.get("master_link_status") == "up":
                return
            await asyncio.sleep(0.02)


async def start_replica(start: StartServer, port: int, kind: str = "valkey", **config: str) -> Server:
    """A replica that is synchronised with the primary on a port."""
    replica = await asyncio.to_thread(
        start, kind, replicaof=f"127.0.0.1 {port}", **{"repl-ping-replica-period": "1", **config}
    )
    await is_synchronised(replica)
    return replica


class Pair:
    """A primary, and a replica that can be made to lag."""

    def __init__(self, primary: Server, replica: Server, pipe: Pipe) -> None:
        self.primary = primary
        self.replica = replica
        self._pipe = pipe

    def lag(self) -> None:
        """From now on the replica gets nothing any more."""
        self._pipe.hold()

    async def promote(self) -> None:
        await asyncio.to_thread(ask, self.replica, "REPLICAOF", "NO", "ONE")


@asynccontextmanager
async def open_pair(start: StartServer, kind: str = "valkey", **config: str) -> AsyncIterator[Pair]:
    primary = await asyncio.to_thread(start, kind, **{"repl-diskless-sync-delay": "0", **config})
    async with Pipe(primary.port).open() as pipe:
        replica = await start_replica(start, pipe.port, kind, **config)
        yield Pair(primary, replica, pipe)
