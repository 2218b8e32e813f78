"""The benchmark suite.

    uv run python -m benchmarks [NAME...] [--quick] [--out DIR]

measures, and writes raw results (JSON), plots and a report into DIR. Each question is a script of this folder.
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.harness import Bench, Results
from benchmarks.question import Question
from benchmarks.report import write_report

NAMES: Final = ("writes", "flush", "contention", "reads", "stream", "growth", "idle", "checks")


def question(name: str) -> Question:
    found = import_module(f"benchmarks.{name}").QUESTION
    assert isinstance(found, Question)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures asyncwb against baselines.")
    parser.add_argument("name", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="a smoke test: small, one round; the numbers mean nothing")
    parser.add_argument("--out", type=Path, default=Path(".benchmarks"), help="default: %(default)s")
    parser.add_argument("--report", action="store_true", help="only draw and write, from results that are in DIR")
    options = parser.parse_args()
    if unknown := [name for name in options.name if name not in NAMES]:
        parser.error(f"unknown benchmark {unknown[0]!r}: use {', '.join(NAMES)}")
    options.out.mkdir(parents=True, exist_ok=True)
    console = Console()
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
