"""Runs units of proofs, several at a time, each as a process that is ended by its own id whatever happens."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.proofs.runner.catalogue import Form
from tests.proofs.runner.report import Proof, Report

_ROOT: Final = Path(__file__).parents[3]
_PATIENCE: Final = 10
"""A unit that takes so many times longer than it says has failed; the machine may be busy."""
_GRACE_SECONDS: Final = 60.0
"""And so much longer: for one that says hardly anything."""


@dataclass(slots=True)
class Progress:
    """What has been done of a proof.

    Attributes:
        planned: how many units there are, 0 if there is no end.
        busy_seconds: of all its units together.
    """

    proof: Proof
    planned: int
    begun: int = 0
    ended: int = 0
    busy_seconds: float = 0.0
    report: Report = field(default_factory=Report)


class Run:
    """A run of some proofs.

    Args:
        proofs: which.
        form: says how many units of each.
        limit_seconds: no unit begins later than that; None runs all units and no more.
        jobs: how many units at a time.
    """

    def __init__(self, proofs: Sequence[Proof], form: Form, *, limit_seconds: float | None, jobs: int) -> None:
        self.progress = {each.name: Progress(each, getattr(each, form)) for each in proofs}
        self._limit = limit_seconds
        self._jobs = jobs
        self._started = time.monotonic()
        self._queue = self._units()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    async def run(self, on_change: Callable[[], None]) -> None:
        """Runs them; `on_change` is called whenever a unit begins or ends."""
        self._started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._jobs):
                group.create_task(self._work(on_change))

    def _units(self) -> Iterator[tuple[Progress, int]]:
        """All proofs advance alike; what is left of the time goes to those that always find something new."""
        planned = [
            ((number + 0.5) / progress.planned, progress, number)
            for progress in self.progress.values()
            for number in range(progress.planned)
        ]
        for _, progress, number in sorted(planned, key=lambda each: each[0]):
            yield progress, number
        endless = Counter({name: each.planned for name, each in self.progress.items() if each.proof.endless})
        while self._limit is not None and endless:
            for name in endless:
                yield self.progress[name], endless[name]
                endless[name] += 1

    async def _work(self, on_change: Callable[[], None]) -> None:
        for progress, number in self._queue:
            if self._limit is not None and self.seconds > self._limit:
                return
            progress.begun += 1
            on_change()
            started = time.monotonic()
            progress.report.add(await _unit(progress.proof, number))
            progress.busy_seconds += time.monotonic() - started
            progress.ended += 1
            on_change()


async def _unit(proof: Proof, number: int) -> Report:
    """Runs one unit; whatever goes wrong is a problem in its report."""
    command = f"uv run python -m tests.proofs.unit {proof.name} {number}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.proofs.unit", proof.name, str(number),
        cwd=_ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_PATIENCE * proof.unit_seconds + _GRACE_SECONDS):
            output, errors = await process.communicate()
    except TimeoutError:
        return Report(problems=[f"{proof.name} {number} did not end; {command}"])
    finally:
        # Its own process group: with it goes whatever a unit that failed has left behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if process.returncode != 0:
        tail = errors.decode("utf-8", "replace").strip()[-1500:]
        return Report(problems=[f"{proof.name} {number} failed with status {process.returncode}: {tail}; {command}"])
    return Report.from_json(output.decode().strip().splitlines()[-1])
