"""A short world of real processes passes, and backends that break their promises are caught in one."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.proofs.chaos import tallies
from tests.proofs.chaos.killing import Killing


class Broken(Killing):
    """With flushers whose backend is broken."""

    flushers = 4
    writers = 1
    writer = {"rate": 1000.0}

    def __init__(self, broken: str) -> None:
        super().__init__(0, 0.1)
        self.broken = broken

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        await super().prepare(stack)
        self.backend_url = f"sqlite:{self.folder}/a.db"

    async def start_flusher(self) -> Any:
        backend = self.backend_url.replace("sqlite", self.broken)
        # With "again", kills have to hit the pause after a save, and keys have to change in it.
        pause = 0.3 if self.broken == "again" else 0.1
        return await self._start("flusher", backend=backend, batch_size=30, pause_seconds=pause)

    async def harm(self) -> None:
        if self.broken == "early":
            await self.kill()
            return
        async with asyncio.timeout(40):
            while self.broken == "again" and not await self.doubled():
                await self.kill()
            while self.broken == "unconditional" and not self.backward:
                await self.freeze()

    async def doubled(self) -> bool:
        """Whether an update is in a value twice, which it is only if the key had another one before the next save."""
        held = await self.reader.load([key for key in tallies.KEYS if tallies.is_tally(key)])
        found = (tallies.ids_in(key, record.value) for key, record in held.items())
        return any(len(set(ids)) < len(ids) for ids in found)


class WrongClock(Killing):
    """With one flusher, after a second, whose clock is days ahead; with a broken backend it believes that clock."""

    broken = "credulous"

    async def harm(self) -> None:
        await asyncio.sleep(1)
        await self._start("flusher", backend=self.backend_url.replace("sqlite", self.broken))
        await asyncio.sleep(1)


class Short(Killing):
    """Kills only: freezes take long."""

    async def harm(self) -> None:
        await self.kill()


async def test_killed_workers_lose_nothing() -> None:
    report = await Short(0, 0.16).run()
    assert report.problems == []
    assert (report.lost, report.stale, report.resurrected) == (0, 0, 0)
    assert report.counts["operations checked for linearizability"] > 1000
    assert report.counts["updates applied once"] > 50
    assert report.counts["writes on a condition that was met"] > 0
    assert report.counts["SIGKILL of workers"] > 0
    assert report.recoveries


@pytest.mark.parametrize("broken", ["early", "unconditional"])
async def test_broken_backend_is_caught(broken: str) -> None:
    report = await Broken(broken).run()
    assert report.problems
    assert report.lost + report.stale + report.resurrected > 0


async def test_updates_that_are_applied_again_are_caught() -> None:
    report = await Broken("again").run()
    assert any(problem.startswith("duplicate") for problem in report.problems), report.problems


@pytest.mark.parametrize("kind", ["ahead", "credulous"])
async def test_tombstones_that_a_wrong_clock_purges_are_caught(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WrongClock, "broken", kind)
    report = await WrongClock(0, 0.1).run()
    assert bool(report.lost + report.stale + report.resurrected) is (kind == "credulous")


async def test_files_that_go_while_somebody_lists_them_are_caught() -> None:
    class Blind(Short):
        async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
            await super().prepare(stack)
            self.backend_url = f"blind://{self.folder}/values?fanout=0"

    report = await Blind(0, 0.3).run()
    assert report.lost + report.stale > 0


async def test_nothing_is_left_behind_when_the_world_is_killed() -> None:
    folder = tempfile.mkdtemp(prefix="wb-")  # a short name: the server's socket is in it
    world = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.proofs.chaos", cwd=Path(__file__).parents[3], env={**os.environ, "TMPDIR": folder}
    )
    family: list[psutil.Process] = []
    try:
        async with asyncio.timeout(40):
            while len(family) < 4:  # a zygote, a server, and workers
                await asyncio.sleep(0.02)
                family = psutil.Process(world.pid).children(recursive=True)
    finally:
        world.send_signal(signal.SIGKILL)
        await world.wait()
    _, alive = await asyncio.to_thread(psutil.wait_procs, family, 10)
    assert alive == []
    async with asyncio.timeout(10):
        while os.listdir(folder):
            await asyncio.sleep(0.02)
    os.rmdir(folder)
