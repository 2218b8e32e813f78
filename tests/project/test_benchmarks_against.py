"""Comparisons of two environments: who measures when, what is compared, and what is told instead."""

import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.harness.against import Comparison, compare
from benchmarks.harness.sides import CannotCompare, Side, other
from tests.harness.environments import REPOSITORY

QUESTION = """
from pathlib import Path
from types import SimpleNamespace
from benchmarks.harness.rounds import Contestant
from benchmarks.questions.question import Question

def contestant(name):
    async def run():
        with Path(LOG).open("a") as log:
            log.write(f"{SIDE}{name} ")
        return {"writes_per_s": SPEED[name], "lost": 0}
    return Contestant(name=name, run=run)

def run(bench):
    bench.measure("first part", [contestant(name) for name in SPEED if name != "z"], rounds=ROUNDS)
    bench.measure("second part", [contestant("z")], rounds=1)
    assert bench.results["z"].values("writes_per_s"), "what is compared is there for what comes next"

QUESTION = Question(name="tiny", title="Tiny", asks="?", run=run)
"""

Make = Callable[..., Side]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def side(tmp_path: Path, log: Path) -> Make:
    """Makes sides of this asyncwb whose only question has contestants with the given speeds."""

    def make(name: str, *, rounds: int = 2, source: Path = REPOSITORY, **speed: float) -> Side:
        folder = tmp_path / name
        for part in ("benchmarks", "tests"):
            shutil.copytree(REPOSITORY / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        constants = f"LOG, SIDE, SPEED, ROUNDS = {str(log)!r}, {name!r}, { ({**speed, 'z': 1.0})!r}, {rounds}\n"
        (folder / "benchmarks/questions/tiny.py").write_text(constants + QUESTION)
        return Side(name, sys.executable, source, (folder,))

    return make


def tiny(mine: Side, theirs: Side, *, only: str = "*", rounds: int | None = None) -> Comparison:
    return compare("tiny", mine, theirs, quick=False, rounds=rounds, only=only, tell=lambda _line: None)


def test_sides_take_turns_and_the_other_begins_in_each_pair(side: Make, log: Path) -> None:
    tiny(side("1", x=1.0, y=1.0), side("2", x=1.0, y=1.0), rounds=2)
    assert log.read_text() == "1x 2x 2y 1y " + "2y 1y 1x 2x " + "1z 2z " + "2z 1z "


@pytest.mark.long
def test_as_many_rounds_as_the_question_has_and_three_at_least(side: Make, log: Path) -> None:
    tiny(side("1", rounds=5, x=1.0), side("2", rounds=5, x=1.0))
    assert [log.read_text().split().count(each) for each in ("1x", "2x", "1z", "2z")] == [5, 5, 3, 3]


def test_ratio_is_of_pairs_and_shown_with_its_spread(side: Make) -> None:
    done = tiny(side("1", x=300.0), side("2", x=200.0))
    for number, series in enumerate((done.results["x, 1"], done.results["x, 2"])):
        series.samples[-1]["writes_per_s"] *= (2, 4)[number]
    _, _, speed, lost, *_ = done.table().splitlines()
    assert re.findall(r"[\d.]+", speed) == ["300", "200", "1.500", "0.750", "1.500"]
    assert re.findall(r"[\d.]+", lost) == ["0", "0"], "nothing over nothing is no ratio"


@pytest.mark.long
def test_each_side_is_told_with_what_differs(side: Make) -> None:
    done = tiny(side("1", x=1.0), replace(side("2", x=1.0), commit="0123456789abcdef"))
    mine, theirs = done.origins()
    assert mine.startswith("1: commit ")
    assert theirs == f"2: commit 0123456789ab, Python {platform.python_version()}"
    done.results.machine["2"]["packages"]["redis"] = "0.1"
    assert done.origins()[1].endswith(", redis 0.1")


@pytest.mark.long
def test_contestant_that_one_side_lacks_is_told(side: Make, log: Path) -> None:
    done = tiny(side("1", x=1.0, new=1.0), side("2", x=1.0, old=1.0))
    assert (done.names, done.lacking) == (["x", "z"], {"new": "1", "old": "2"})
    assert "new" not in log.read_text()


@pytest.mark.long
def test_only_what_was_asked_for_is_measured(side: Make, log: Path) -> None:
    done = tiny(side("1", xa=1.0, xb=1.0, y=1.0), side("2", xa=1.0, xb=1.0, y=1.0), only="[xz]*", rounds=1)
    assert (done.names, done.lacking) == (["xa", "xb", "z"], {})
    assert "y" not in log.read_text()


@pytest.mark.long
def test_benchmarks_that_do_not_fit_give_way_to_the_commits_own(side: Make, tmp_path: Path) -> None:
    mine, fitting, unfit = side("1", x=1.0), side("2", x=2.0), side("unfit", x=1.0)
    (unfit.harnesses[0] / "benchmarks/questions/tiny.py").write_text("from asyncwb import WhatItHasNot")
    theirs = Side("2", sys.executable, REPOSITORY, (*unfit.harnesses, *fitting.harnesses))
    assert tiny(mine, theirs).names == ["x", "z"]
    with pytest.raises(CannotCompare, match="tiny can't be measured on 2"):
        tiny(mine, Side("2", sys.executable, REPOSITORY, unfit.harnesses))


def test_failure_of_this_side_is_told_as_such(side: Make) -> None:
    mine = side("1", x=-1.0)
    with pytest.raises(CannotCompare, match="failed here"):
        tiny(mine, side("2", x=1.0))


def test_another_asyncwb_than_the_one_meant_is_not_measured(side: Make, tmp_path: Path) -> None:
    with pytest.raises(CannotCompare, match=r"2 would measure .*asyncwb"):
        tiny(side("1", x=1.0), side("2", x=1.0, source=tmp_path / "elsewhere"))


def test_commit_and_python_that_do_not_exist_are_told() -> None:
    with pytest.raises(CannotCompare, match="no such commit"):
        other("no-such-commit", None)
    with pytest.raises(CannotCompare, match="/no/such/python"):
        other(None, "/no/such/python")


@pytest.mark.long
def test_commit_is_installed_and_compared(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "idle", "--quick", "--against", "HEAD", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| a lone set | arrived_ms |" in (tmp_path / "idle-against.md").read_text("utf-8")
    machines = json.loads((tmp_path / "idle-against.json").read_text("utf-8"))["machine"]
    assert set(machines) == {"this", "HEAD"}
