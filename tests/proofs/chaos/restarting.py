"""The world in which the server is killed and started again, with an append-only file, under durability="fsync"."""

import asyncio
import contextlib
import time
from collections import Counter
from typing import Final

from tests.harness.pipe import Pipe
from tests.proofs.chaos.evidence import Evidence, Span
from tests.proofs.chaos.world import ChaosWorld

_KILLS: Final = 42


class Restarting(ChaosWorld):
    """The append-only file is synced before any reply, so that nothing is read that a restart takes back."""

    kind = "server"
    server_config = {"appendonly": "yes", "appendfsync": "always"}
    writer = {"levels": ("fsync",)}
    options = {"redis_timeout_seconds": 3.0}

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        await super().prepare(stack)
        self._relay = Pipe(self.server.port)
        await stack.enter_async_context(self._relay.open())

    @property
    def url(self) -> str:
        return self._relay.url

    async def harm(self) -> None:
        for number in self.times(_KILLS):
            await asyncio.sleep(self.rng.uniform(0.15, 0.5))
            if number % 4 == 3:
                # A writer's last requests die with the server, or with its connections.
                await self.kill_worker(self.rng.choice(["writer", "flusher"]))
                await asyncio.sleep(0.05)
            if number % 2:
                # What it still does it has done, and nobody gets to know.
                self._relay.hold_replies()
                await asyncio.sleep(self.rng.uniform(0.0, 0.03))
            begun = time.monotonic_ns()
            await asyncio.to_thread(self.server.kill)
            self.faults.server_kills.append(Span(begun, time.monotonic_ns()))
            await asyncio.to_thread(self.server.start)
            self.guard(self.server)
            self._relay.lead_to(self.server.port)
        await asyncio.sleep(0.5)

    def count(self, evidence: Evidence, counts: "Counter[str]") -> None:
        counts["SIGKILL of the server under fsync"] += evidence.server_kills_at_work()
        counts["SIGKILL of workers"] += evidence.kills_at_work()
