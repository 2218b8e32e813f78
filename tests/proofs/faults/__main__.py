"""`python -m tests.proofs.faults`: lists the points of a variant, runs them all, or runs one and shows its commands."""

import argparse
import asyncio
import sys

from tests.proofs.faults.campaign import bench_of, cases_of, points_of, run_cases
from tests.proofs.faults.points import KINDS, MODES, Point
from tests.proofs.faults.proxy import Fault
from tests.proofs.faults.variants import VARIANTS, Variant
from tests.proofs.runner.report import Report


async def _list(variant: Variant) -> int:
    report = Report()
    async with bench_of(variant) as bench:
        points = await points_of(bench, report)
    for point, answered in points.items():
        print(point if answered else f"{point} (without a reply)")
    print(f"{len(points)} points, {len(cases_of(points, KINDS))} runs")
    return _tell(report)


async def _run_all(variant: Variant, kind: str | None) -> int:
    report = Report()
    async with bench_of(variant) as bench:
        kinds = [each for each in KINDS if kind in (None, each)]
        await run_cases(bench, cases_of(await points_of(bench, report), kinds), report)
    return _tell(report)


async def _run_one(variant: Variant, fault: Fault, attempts: int) -> int:
    report = Report()
    async with bench_of(variant) as bench:
        for _ in range(attempts):
            trial = await bench.run(Fault(fault.point, fault.kind, fault.mode))
            report.add(trial.history.report)
            if report.problems:
                break
    for line in trial.log:
        print(line)
    happened = trial.fault.happened if trial.fault is not None else 0
    print(f"the fault took effect on {happened} command(s)")
    return _tell(report)


def _tell(report: Report) -> int:
    for name, count in sorted(report.counts.items()):
        print(f"{count:8,} {name}")
    for problem in report.problems:
        print(f"- {problem}")
    print(
        f"{report.lost} lost, {report.stale} stale, {report.resurrected} resurrected; {len(report.problems)} problem(s)"
    )
    return 1 if report.problems else 0


def main() -> int:
    """Exit status 1 if a violation was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.faults", description=__doc__)
    parser.add_argument("--variant", choices=VARIANTS, default="script")
    parser.add_argument("--point", help="such as put#3; without it the points are listed")
    parser.add_argument("--kind", choices=KINDS, help="of fault")
    parser.add_argument("--mode", choices=MODES, default="once")
    parser.add_argument("--attempts", type=int, default=20, metavar="N", help="run it so often, until it is seen")
    parser.add_argument("--all", action="store_true", help="run all points, with one kind or all")
    options = parser.parse_args()
    variant = VARIANTS[options.variant]
    if options.all:
        return asyncio.run(_run_all(variant, options.kind))
    if options.point is None:
        return asyncio.run(_list(variant))
    if options.kind is None:
        parser.error("--point needs --kind")
    fault = Fault(Point.parse(options.point), options.kind, options.mode)
    return asyncio.run(_run_one(variant, fault, options.attempts))


if __name__ == "__main__":
    sys.exit(main())
