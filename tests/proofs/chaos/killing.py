"""The world in which flushers and writers are killed, and flushers are frozen past their lease and woken."""

import asyncio
import contextlib
import signal
import time
from collections import Counter
from typing import ClassVar, Final

from tests.proofs.chaos.crew import Worker
from tests.proofs.chaos.evidence import Evidence, Span
from tests.proofs.chaos.world import LEASE_SECONDS, ChaosWorld

_KILLS: Final = 50
_FREEZES: Final = 22
_FROZEN_SECONDS: Final = 2 * LEASE_SECONDS


class Killing(ChaosWorld):
    """First kills alone, of which the recoveries are measured, and then freezes, while writers are killed."""

    kind = "workers"
    flushers = 4
    frozen_at_once: ClassVar[int] = 2

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        await super().prepare(stack)
        if self.number % 4 == 3:
            self.backend_url = f"file://{self.folder}/values?fanout=0"

    async def harm(self) -> None:
        await self.kill()
        await asyncio.sleep(2 * LEASE_SECONDS)
        await self.freeze()

    async def kill(self) -> None:
        for _ in self.times(_KILLS):
            await asyncio.sleep(self.rng.uniform(0.05, 0.2))
            await self.kill_worker("writer" if self.rng.random() < 0.25 else "flusher")

    async def freeze(self) -> None:
        free = self.crew.some("flusher")
        freezes = iter(self.times(_FREEZES))

        async def one_after_the_other() -> None:
            for _ in freezes:
                victim = free.pop(self.rng.randrange(len(free)))
                await self._freeze(victim)
                free.append(victim)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one_after_the_other()) for _ in range(self.frozen_at_once)]
            while not all(task.done() for task in tasks):
                await self.kill_worker("writer")
                await asyncio.sleep(self.rng.uniform(0.3, 0.6))

    async def _freeze(self, victim: Worker) -> None:
        begun = await self.crew.signal(victim, signal.SIGSTOP)
        await asyncio.sleep(_FROZEN_SECONDS * self.rng.uniform(1.0, 1.5))
        ended = time.monotonic_ns()
        await self.crew.signal(victim, signal.SIGCONT)
        self.faults.freezes.append(Span(begun, ended, victim.number))
        await asyncio.sleep(self.rng.uniform(0.05, 0.3))

    def count(self, evidence: Evidence, counts: "Counter[str]") -> None:
        counts["SIGKILL of workers"] += evidence.kills_at_work()
        counts["frozen past the lease, woken"] += evidence.frozen_past_the_lease()
        self.report.recoveries += evidence.recoveries(LEASE_SECONDS)
