"""Runs one world by hand: `uv run python -m tests.proofs.chaos [KIND] [--seconds N] [--seed N]`."""

import argparse
import asyncio
import sys
import time

from rich.console import Console
from rich.table import Table

from tests.proofs.chaos.kinds import KINDS
from tests.proofs.runner.report import Report


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.proofs.chaos", description="One world of chaos, and its verdict."
    )
    parser.add_argument("kind", nargs="?", choices=KINDS, default="workers", help="what is done to it (workers)")
    parser.add_argument("--seconds", type=float, default=20.0, help="about how long (20)")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is random (0)")
    arguments = parser.parse_args()
    started = time.monotonic()
    report = asyncio.run(KINDS[arguments.kind](arguments.seed, arguments.seconds / 20).run())
    show(arguments.kind, report, time.monotonic() - started)
    sys.exit(bool(report.problems))


def show(kind: str, report: Report, seconds: float) -> None:
    """One table, and every problem under it."""
    table = Table(title=f"chaos: {kind}, {seconds:.0f} s")
    table.add_column("what")
    table.add_column("how many", justify="right")
    for what, count in report.counts.items():
        table.add_row(what, f"{count:,}")
    table.add_section()
    for what, count in (("lost", report.lost), ("stale", report.stale), ("resurrected", report.resurrected)):
        table.add_row(what, str(count), style="red" if count else "green")
    if report.recoveries:
        table.add_row("longest recovery, after the lease", f"{max(report.recoveries):.2f} s")
    console = Console()
    console.print(table)
    for problem in report.problems:
        console.print(problem, style="red", markup=False)


main()
