"""The worlds in which something runs out: the backend is stopped, its disk is full, the server's memory is full."""

import asyncio
import contextlib
import time
from collections import Counter
from typing import Final

from tests.harness.databases import Mongod
from tests.harness.replication import ask
from tests.proofs.chaos.evidence import Evidence, Span
from tests.proofs.chaos.world import ChaosWorld

_STOPS: Final = 10
_FULL: Final = 10


class BackendStopped(ChaosWorld):
    """A mongod that is frozen and woken, or killed and started again."""

    kind = "backend"
    options = {"save_timeout_seconds": 0.5, "connect_timeout_seconds": 5.0}

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        await super().prepare(stack)
        self._mongod = await asyncio.to_thread(Mongod)
        stack.callback(self._mongod.stop)
        self.guard(self._mongod)
        self.backend_url = self._mongod.url("chaos")

    async def harm(self) -> None:
        for number in self.times(_STOPS):
            await asyncio.sleep(self.rng.uniform(0.4, 0.8))
            begun = time.monotonic_ns()
            if number % 3 == 2:
                await asyncio.to_thread(self._mongod.kill)
                await asyncio.sleep(self.rng.uniform(0.1, 0.5))
                ended = time.monotonic_ns()
                await asyncio.to_thread(self._mongod.start)
                self.guard(self._mongod)
            else:
                self._mongod.freeze()
                await asyncio.sleep(self.rng.uniform(0.3, 1.0))
                ended = time.monotonic_ns()
                self._mongod.thaw()
            self.faults.outages.append(Span(begun, ended))
            await self.kill_worker("flusher")
        await asyncio.sleep(0.5)

    def count(self, evidence: Evidence, counts: "Counter[str]") -> None:
        counts["backend stopped"] += evidence.outages(evidence.saves_held_up)
        counts["SIGKILL of workers"] += evidence.kills_at_work()


class DiskFull(ChaosWorld):
    """SQLite answers that the disk is full, and values grow."""

    kind = "disk"
    writer = {"longest_padding": 3000}
    options = {"save_timeout_seconds": 5.0}

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        await super().prepare(stack)
        self.backend_url = f"full:{self.folder}/a.db"

    async def harm(self) -> None:
        full = self.folder / "full"
        for number in self.times(_FULL):
            await asyncio.sleep(self.rng.uniform(0.3, 0.8))
            begun = time.monotonic_ns()
            full.touch()
            await asyncio.sleep(self.rng.uniform(0.5, 1.2))
            if number % 2:
                await self.kill_worker("flusher")
            full.unlink()
            self.faults.outages.append(Span(begun, time.monotonic_ns()))
        await asyncio.sleep(0.5)

    def count(self, evidence: Evidence, counts: "Counter[str]") -> None:
        counts["disk full"] += evidence.outages(lambda span: evidence.saves_failed(span, "full"))
        counts["SIGKILL of workers"] += evidence.kills_at_work()


class MemoryFull(ChaosWorld):
    """The server is at maxmemory: it takes no writes, and is drained all the same."""

    kind = "memory"

    async def harm(self) -> None:
        for number in self.times(_FULL):
            await asyncio.sleep(self.rng.uniform(0.3, 0.8))
            begun = time.monotonic_ns()
            await asyncio.to_thread(ask, self.server, "CONFIG", "SET", "maxmemory", "1")
            await asyncio.sleep(self.rng.uniform(0.3, 1.0))
            if number % 2:
                await self.kill_worker("flusher")
            await asyncio.to_thread(ask, self.server, "CONFIG", "SET", "maxmemory", "0")
            self.faults.outages.append(Span(begun, time.monotonic_ns()))
        await asyncio.sleep(0.5)

    def count(self, evidence: Evidence, counts: "Counter[str]") -> None:
        counts["memory full"] += evidence.outages(
            lambda span: evidence.refused(span, "RedisOutOfMemory") and evidence.saves_done(span)
        )
        counts["SIGKILL of workers"] += evidence.kills_at_work()
