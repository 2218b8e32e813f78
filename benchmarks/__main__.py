"""The benchmark suite.

    uv run python -m benchmarks [NAME...] [--quick] [--out DIR]

measures, and writes raw results (JSON), plots and a report into DIR. Each question is a script of this folder.

    uv run python -m benchmarks [NAME...] [--against COMMIT] [--python VERSION_OR_PATH] [--only PATTERN] [--rounds N]

compares this work tree with another commit, with itself on another Python, or with that commit on that Python: both are
installed into environments of their own and take turns, and a table shows the ratio of each figure.
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.harness.against import compare
from benchmarks.harness.rounds import Bench, Results
from benchmarks.harness.sides import CannotCompare, other, present
from benchmarks.questions.question import Question
from benchmarks.report.report import write_report

NAMES: Final = ("writes", "flush", "contention", "reads", "stream", "growth", "server", "updates", "idle", "checks")


def question(name: str) -> Question:
    found = import_module(f"benchmarks.questions.{name}").QUESTION
    assert isinstance(found, Question)
    return found


def compare_with(options: argparse.Namespace, console: Console) -> int:
    """Compares this work tree with what the options name, and shows the ratios; returns the exit status."""
    try:
        rival = other(options.against, options.python)
        for name in options.name or NAMES:
            done = compare(
                name, present(), rival, quick=options.quick, rounds=options.rounds, only=options.only,
                tell=console.print,
            )  # fmt: skip
            done.results.save(options.out / f"{name}-against.json")
            (options.out / f"{name}-against.md").write_text(
                "\n\n".join([*done.origins(), done.table()]) + "\n", "utf-8"
            )
            for missing, side in done.lacking.items():
                console.print(f"only {side} has {missing!r}: it isn't compared")
            told = "\n".join([f"{name}, measured with {done.harness} benchmarks", *done.origins()])
            console.print(told, soft_wrap=True, markup=False, emoji=False, highlight=False)
            console.print(done.table(), soft_wrap=True, markup=False, emoji=False, highlight=False)
    except CannotCompare as error:
        console.print(f"can't compare: {error}")
        return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures asyncwb against baselines.")
    parser.add_argument("name", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="a smoke test: small, one round; the numbers mean nothing")
    parser.add_argument("--out", type=Path, default=Path(".benchmarks"), help="default: %(default)s")
    parser.add_argument("--report", action="store_true", help="only draw and write, from results that are in DIR")
    parser.add_argument("--against", metavar="COMMIT", help="compare with it")
    parser.add_argument("--python", metavar="VERSION_OR_PATH", help="compare with this Python")
    parser.add_argument("--only", metavar="PATTERN", default="*", help="compare contestants of such names, 'asyncwb *'")
    parser.add_argument("--rounds", type=int, metavar="N", help="pairs of each contestant in a comparison")
    options = parser.parse_args()
    if unknown := [name for name in options.name if name not in NAMES]:
        parser.error(f"unknown benchmark {unknown[0]!r}: use {', '.join(NAMES)}")
    options.out.mkdir(parents=True, exist_ok=True)
    console = Console()
    if options.against or options.python:
        return compare_with(options, console)
    for name in () if options.report else options.name or NAMES:
        with Bench(quick=options.quick, console=console) as bench:
            question(name).run(bench)
            bench.results.save(options.out / f"{name}.json")
    measured = {name: Results.load(path) for name in NAMES if (path := options.out / f"{name}.json").exists()}
    answered = [(question(name), results) for name, results in measured.items()]
    console.print(f"report: {write_report(answered, options.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
