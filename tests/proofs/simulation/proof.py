"""Simulated worlds as a proof: a unit is 250 seeds."""

import logging

from tests.proofs.runner.report import Proof, Report
from tests.proofs.simulation.result import Result
from tests.proofs.simulation.world import run_seed

SEEDS = 250


def run(number: int) -> Report:
    """The worlds of seeds `number * 250` and following."""
    # Their faults are as many as their warnings.
    logging.getLogger("asyncwb").setLevel(logging.CRITICAL + 1)
    report = Report()
    for seed in range(number * SEEDS, (number + 1) * SEEDS):
        note(run_seed(seed), report)
    return report


def note(result: Result, report: Report) -> None:
    """Adds what came of one world."""
    oracle = result.oracle
    report.counts["simulation seeds"] += 1
    report.counts["simulation steps"] += result.steps
    report.counts["operations checked in simulation"] += oracle.checked
    for kind, count in result.counts.items():
        report.counts[f"simulated: {kind}"] += count
    report.lost += oracle.lost
    report.stale += oracle.stale
    report.resurrected += oracle.resurrected
    if result.problems:
        report.problems.append(
            f"seed {result.seed}: {result.problems[0]} ({len(result.problems)} in all); "
            f"uv run python -m tests.proofs.simulation {result.seed}"
        )


PROOF = Proof(name="simulation", run=run, quick=1, ci=6, long=200, unit_seconds=12)
