"""The proof "hostile": five kinds of units in turn, and how much work each does."""

import os
import random
import tempfile
from pathlib import Path
from typing import Final

from tests.harness.servers import KINDS, binary
from tests.proofs.hostile import calls, guided, planted, roundtrip
from tests.proofs.hostile.inputs import mutations
from tests.proofs.hostile.pure import TARGETS, made_files, violation
from tests.proofs.runner.report import Proof, Report

_INPUTS: Final = 200_000
_RUNS: Final = {"settings": 5_000, "Redis URL": 8_000, "backend URL": 15_000, "redacted": 20_000}
_MOST_RUNS: Final = 20_000
"""Of a target that isn't named above; each takes some seconds."""
_TARGETS_PER_UNIT: Final = 3
_PLANTS: Final = 300
_EXAMPLES: Final = 500
_CALLS: Final = 2000
# In this order also the shortest form of the run has one of each.
_TURNS: Final = ("pure", "planted", "roundtrip", "guided", "calls", "pure", "pure", "planted", "pure")
_MOST_PROBLEMS: Final = 5


def run(number: int) -> Report:
    """One unit."""
    turn, again = _TURNS[number % len(_TURNS)], number // len(_TURNS)
    if turn == "planted":
        kinds = [kind for kind in KINDS if binary(kind)[0] is not None]
        return planted.run(number, _PLANTS, kinds[number // 3 % len(kinds)])
    if turn == "roundtrip":
        return roundtrip.run(number, _EXAMPLES)
    if turn == "calls":
        return calls.run(number, _CALLS)
    if turn == "guided" and guided.available():
        names = sorted(TARGETS)
        return _guided(
            number, [names[(again * _TARGETS_PER_UNIT + each) % len(names)] for each in range(_TARGETS_PER_UNIT)]
        )
    return pure(number, _INPUTS)


def pure(number: int, inputs: int) -> Report:
    """So many inputs over all targets, by their shares."""
    report = Report()
    shares = sum(target.share for target in TARGETS.values())
    home = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="wb-pure-") as folder:
        os.chdir(folder)  # a backend that made a file by its name would make it here
        try:
            for name, target in TARGETS.items():
                rng = random.Random(f"{number} {name}")
                count = inputs * target.share // shares + 1
                agreed = 0
                for data in mutations(rng, target.seeds, count):
                    wrong = violation(target.check, data)
                    if wrong is None:
                        agreed += 1
                    elif len(report.problems) < _MOST_PROBLEMS:
                        report.problems.append(f"{name}, input {data!r}: {wrong} ({_again(number)})")
                report.counts.update({"hostile inputs": agreed, f"hostile: {name}": agreed})
            if made := made_files(Path(folder)):
                report.problems.append(f"files were made: {made[:3]} ({_again(number)})")
        finally:
            os.chdir(home)
    return report


def _guided(number: int, names: list[str]) -> Report:
    report = Report()
    for name in names:
        count, problem = guided.fuzz(name, _RUNS.get(name, _MOST_RUNS), number)
        report.counts.update({"hostile inputs": count, "guided by coverage": count})
        if problem:
            report.problems.append(f"{problem} ({_again(number)})")
    return report


def _again(number: int) -> str:
    return f"again: python -m tests.proofs.unit hostile {number}"


PROOF: Final = Proof(name="hostile", run=run, quick=2, ci=5, long=126, unit_seconds=20.0)
