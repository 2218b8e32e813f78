"""Every point of a variant with every kind of fault: found by dry runs, run many at a time, and counted."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from tests.proofs.faults.driver import note_tasks
from tests.proofs.faults.points import MODES, NEEDS_REPLY, Kind, Mode, Point, modes_of
from tests.proofs.faults.proxy import Fault
from tests.proofs.faults.trial import Bench, Trial
from tests.proofs.faults.variants import Variant
from tests.proofs.runner.report import Report

DRY_RUNS: Final = 3
_ATTEMPTS: Final = 6
"""A point may be missed when the background is faster or slower than in the dry runs; it is tried again then."""

_AT_ONCE: Final = 16

Case = tuple[Point, Kind, Mode]


@asynccontextmanager
async def bench_of(variant: Variant) -> AsyncIterator[Bench]:
    """A server for one variant."""
    logging.getLogger("asyncwb").setLevel(logging.CRITICAL + 1)  # it says a lot in thousands of outages
    note_tasks(asyncio.get_running_loop())
    server = variant.start_server()
    try:
        bench = Bench(variant, server)
        try:
            yield bench
        finally:
            await bench.close()
    finally:
        server.stop()


async def points_of(bench: Bench, report: Report) -> dict[Point, bool]:
    """The commands that every dry run has, each with whether it is answered in all of them."""
    points: dict[Point, bool] = {}
    for number in range(DRY_RUNS):
        trial = await bench.run()
        _add(report, trial, "without any fault")
        common = points.keys() & trial.points.keys() if number else trial.points.keys()
        points = {point: trial.points[point] and points.get(point, True) for point in trial.points if point in common}
    return points


def cases_of(
    points: dict[Point, bool],
    kinds: Sequence[Kind],
    modes: Sequence[Mode] = MODES,
    wanted: Callable[[Point], bool] = lambda _: True,
) -> list[Case]:
    """What can befall these points."""
    return [
        (point, kind, mode)
        for point, answered in points.items()
        if wanted(point)
        for kind in kinds
        if answered or kind not in NEEDS_REPLY
        for mode in modes_of(kind)
        if mode in modes
    ]


async def run_cases(bench: Bench, cases: Iterable[Case], report: Report) -> None:
    """Runs them all and adds them up."""
    waiting = iter(cases)

    async def worker() -> None:
        for case in waiting:
            await _run_case(bench, case, report)

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(worker())


async def _run_case(bench: Bench, case: Case, report: Report) -> None:
    point, kind, mode = case
    shown = command_for(bench.variant, point, kind, mode)
    seen = False
    for _ in range(_ATTEMPTS):
        fault = Fault(point, kind, mode)
        trial = await bench.run(fault)
        _add(report, trial, shown)
        if fault.happened:
            report.counts["fault points"] += 1
            report.counts[f"faults: {_counted_as(kind)}"] += fault.happened
            report.counts["late commands that the client had given up"] += fault.given_up
            return
        report.counts["runs that missed their point"] += 1
        # The run may have ended before the last of the waits was answered.
        seen = seen or (trial.points.get(point, False) if kind in NEEDS_REPLY else point in trial.points)
    if seen:
        report.problems.append(f"{kind} never took effect at {point}: {shown}")
    else:
        # The last of many polls, as a rule: this workload has it on a machine that is less busy.
        report.counts["points that came in dry runs only"] += 1


def _counted_as(kind: Kind) -> str:
    return kind.partition(" before")[0].partition(" after")[0]


def _add(report: Report, trial: Trial, shown: str) -> None:
    found = trial.history.report
    found.problems = [f"{problem}: {shown}" for problem in found.problems]
    report.add(found)
    report.counts["runs of the workload"] += 1
    report.counts["commands"] += len(trial.log)
    report.counts["writes"] += len(trial.history.all)
    if trial.recovery_seconds is not None:
        report.recoveries.append(trial.recovery_seconds)


def command_for(variant: Variant, point: Point, kind: Kind, mode: Mode) -> str:
    """What shows it again."""
    chosen = f'--variant {variant.name} --point "{point}" --kind "{kind}" --mode "{mode}"'
    return f"uv run python -m tests.proofs.faults {chosen}"


async def campaign(
    variant: Variant,
    kinds: Sequence[Kind],
    modes: Sequence[Mode] = MODES,
    wanted: Callable[[Point], bool] = lambda _: True,
) -> Report:
    """All points that are wanted, with these kinds of faults."""
    report = Report()

    def unhandled(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        report.problems.append(f"variant {variant.name}, {', '.join(kinds)}: {context.get('exception')!r}: {context}")

    asyncio.get_running_loop().set_exception_handler(unhandled)
    async with bench_of(variant) as bench:
        points = await points_of(bench, report)
        await run_cases(bench, cases_of(points, kinds, modes, wanted), report)
    return report
