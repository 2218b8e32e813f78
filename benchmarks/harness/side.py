"""One side of a comparison: a process that measures, in its own environment, what it is told to.

    python -m benchmarks.harness.side NAME [--quick]

speaks JSON lines. It says what it is, then what it could measure; after that each line it hears is the name of a
contestant, whose sample it answers with, or null, which takes it to the next part of the question, or to its end.
"""

import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, TextIO

from rich.console import Console

import asyncwb
from benchmarks.harness.rounds import Bench, Contestant, Series, run_once


class _Side(Bench):
    def __init__(self, out: TextIO, *, quick: bool) -> None:
        super().__init__(quick=quick, console=Console(file=sys.stderr))
        self._out = out

    def say(self, message: object) -> None:
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    def measure(self, title: str, contestants: Sequence[Contestant], *, rounds: int) -> None:
        known = {each.name: each for each in contestants}
        self.say({"title": title, "names": list(known), "rounds": 1 if self.quick else rounds})
        while (name := self._hear()) is not None:
            sample = run_once(known[name])
            series = self.results.series.setdefault(name, Series(name, dict(known[name].labels), []))
            series.samples.append(sample)
            self.say(sample)

    def _hear(self) -> Any:
        line = sys.stdin.readline()
        if not line:
            raise EOFError("the comparison has ended")
        return json.loads(line)


def main() -> None:
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what anything else prints is no message
    with _Side(out, quick="--quick" in sys.argv) as side:
        side.say({"asyncwb": asyncwb.__file__, "machine": side.results.machine})
        import_module(f"benchmarks.questions.{sys.argv[1]}").QUESTION.run(side)
        side.say(None)


if __name__ == "__main__":
    main()
