"""The world in which some records kill the process that saves them, for a while."""

import asyncio
import contextlib
import time
from collections import Counter
from typing import Final

from tests.proofs.chaos.evidence import Evidence, Span
from tests.proofs.chaos.world import ChaosWorld

_SECONDS: Final = 12.0


class Dying(ChaosWorld):
    """Workers die in their saves and are started again; what they take along has to be saved by others all the same."""

    kind = "deadly"
    keys = 200
    writer = {"rate": 300.0}

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        await super().prepare(stack)
        self.backend_url = f"deadly:{self.folder}/a.db"

    async def harm(self) -> None:
        deadly = self.folder / "deadly"
        self.crew.mortal = True
        begun = time.monotonic_ns()
        deadly.touch()
        until = time.monotonic() + _SECONDS * self.scale
        while time.monotonic() < until:
            await self._replace_the_fallen()
            await asyncio.sleep(0.02)
        deadly.unlink()
        self.faults.outages.append(Span(begun, time.monotonic_ns()))
        await asyncio.sleep(0.5)
        await self._replace_the_fallen()
        self.crew.mortal = False

    async def _replace_the_fallen(self) -> None:
        while self.crew.fallen:
            worker = self.crew.fallen.pop()
            at = time.monotonic_ns()
            self.faults.kills.append(Span(at, at, worker.number))
            await self._start("flusher", ready=False, batch_size=60, pause_seconds=0.02)

    def count(self, evidence: Evidence, counts: "Counter[str]") -> None:
        counts["killed by a record"] += len(self.faults.kills)
        counts["saves beside deadly records"] += sum(evidence.saves_done(span) for span in self.faults.outages)
