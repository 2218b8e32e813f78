"""Compares two environments: they take turns, contestant by contestant, and what is shown are ratios of pairs.

Each side is a process with servers of its own, of which one works while the other waits. A pair is the same contestant
on both sides, one right after the other; which of them begins changes from pair to pair.
"""

import json
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final, Self

from benchmarks.harness.rounds import Results, Series
from benchmarks.harness.sides import CannotCompare, Side, clean_environment
from benchmarks.report.plotting import human

_LEAST_ROUNDS: Final = 3
_PATIENCE_SECONDS: Final = 30.0


class SideFailed(Exception):
    """A side's process has ended before it should have; its stderr says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was measured of one question.

    Attributes:
        results: a series for each contestant on each side, named `CONTESTANT, SIDE`.
        sides: names of both: a ratio is the first's over the second's.
        names: contestants that were measured on both.
        lacking: contestants that only one side has, and which.
        harness: what measured the second side.
    """

    results: Results
    sides: tuple[str, str]
    harness: str
    names: list[str] = field(default_factory=list)
    lacking: dict[str, str] = field(default_factory=dict)

    def table(self) -> str:
        """Markdown."""
        mine, other = self.sides
        lines = [f"| contestant | metric | {mine} | {other} | {mine} : {other} |", "|---|---|--:|--:|--:|"]
        for name in self.names:
            pair = self._series(name, mine), self._series(name, other)
            for metric in pair[0].samples[0]:
                numbers = " | ".join(human(each.median(metric)) for each in pair)
                lines.append(f"| {name} | {metric} | {numbers} | {self._ratio(name, metric)} |")
        return "\n".join(lines)

    def origins(self) -> list[str]:
        """A line for each side: its commit, its Python, and what else it has in another version."""
        machines = [self.results.machine[side] for side in self.sides]
        packages = [each["packages"] for each in machines]
        differing = sorted(
            name for name in {*packages[0], *packages[1]} if len({each.get(name) for each in packages}) > 1
        )
        return [
            ", ".join(
                [f"{side}: commit {machine['commit']}", f"Python {machine['python']}"]
                + [f"{name} {machine['packages'].get(name, 'missing')}" for name in differing]
            )
            for side, machine in zip(self.sides, machines, strict=True)
        ]

    def _series(self, name: str, side: str) -> Series:
        return self.results[f"{name}, {side}"]

    def _ratio(self, name: str, metric: str) -> str:
        mine, other = self.sides
        if 0 in self._series(name, other).values(metric):
            return "–"
        ratio = self.results.ratio(f"{name}, {mine}", f"{name}, {other}", metric)
        return f"{ratio.median:.3f} × ({ratio.low:.3f} – {ratio.high:.3f})"


class Process:
    """A side's process."""

    def __init__(self, side: Side, harness: Path, name: str, *, quick: bool) -> None:
        self.side = side
        command = [side.python, "-m", "benchmarks.harness.side", name, *["--quick"] * quick]
        self._process = subprocess.Popen(
            command, cwd=harness, env=clean_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """It ends by itself when it is told nothing any more; its servers with it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.communicate(timeout=_PATIENCE_SECONDS)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.wait()

    def say(self, name: str | None) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(name) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise SideFailed(self.side.name) from None

    def hear(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SideFailed(self.side.name)
        return json.loads(line)

    def sample(self, name: str) -> dict[str, float]:
        self.say(name)
        answer: dict[str, float] = self.hear()
        return answer


def compare(
    name: str, mine: Side, other: Side, *, quick: bool, rounds: int | None, only: str, tell: Callable[[str], None]
) -> Comparison:
    """Measures one question on both sides.

    Args:
        rounds: pairs of each contestant; None is as many as the question has, and three at least.
        only: a pattern of the names of contestants.
        tell: is given a line now and then.

    Raises:
        CannotCompare: no harness works on the other side, or its asyncwb isn't the one to be measured.
    """
    for harness in other.harnesses:
        what = "this commit's" if harness != other.source or mine.source == other.source else "its own"
        try:
            with ExitStack() as stack:
                processes = (
                    stack.enter_context(Process(mine, mine.harnesses[0], name, quick=quick)),
                    stack.enter_context(Process(other, harness, name, quick=quick)),
                )
                return _take_turns(processes, what, rounds=1 if quick else rounds, only=only, tell=tell)
        except SideFailed as failed:
            if str(failed) == mine.name:
                raise CannotCompare(f"{name} failed here, see above") from None
            tell(f"{name} failed on {other.name} with {what} benchmarks")
    raise CannotCompare(f"{name} can't be measured on {other.name}, see above")


def _take_turns(
    processes: Sequence[Process], harness: str, *, rounds: int | None, only: str, tell: Callable[[str], None]
) -> Comparison:
    mine, other = processes
    results = Results({"harness": harness})
    for each in processes:
        hello = each.hear()
        if not Path(hello["asyncwb"]).is_relative_to(each.side.source):
            raise CannotCompare(f"{each.side.name} would measure {hello['asyncwb']}")
        # Benchmarks that were lent to a commit would tell the one that they are of.
        commit = {"commit": each.side.commit[:12]} if each.side.commit else {}
        results.machine[each.side.name] = hello["machine"] | commit
    done = Comparison(results=results, sides=(mine.side.name, other.side.name), harness=harness)
    while True:
        offers = [each.hear() for each in processes]
        if offers == [None, None]:
            return done
        if None in offers:
            raise CannotCompare(f"the question has more parts on one side: {offers}")
        names = [each for each in offers[0]["names"] if each in offers[1]["names"] and fnmatch(each, only)]
        for offer, side in zip(offers, done.sides, strict=True):
            done.lacking.update({each: side for each in offer["names"] if fnmatch(each, only) and each not in names})
        done.names.extend(names)
        for number in range(rounds or max(_LEAST_ROUNDS, *(each["rounds"] for each in offers))):
            tell(f"{offers[0]['title']}, round {number + 1}")
            _round(processes, results, names, number)
        for each in processes:
            each.say(None)


def _round(processes: Sequence[Process], results: Results, names: Sequence[str], number: int) -> None:
    """Each contestant on both sides; another one begins in each round, and the other side in each pair."""
    first = number % max(len(names), 1)
    for place, name in enumerate([*names[first:], *names[:first]]):
        turns = processes if (number + place) % 2 == 0 else processes[::-1]
        for each in turns:
            series = f"{name}, {each.side.name}"
            sample = each.sample(name)
            results.series.setdefault(series, Series(series, {"side": each.side.name}, [])).samples.append(sample)
