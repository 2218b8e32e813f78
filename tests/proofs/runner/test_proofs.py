"""The runner: units add up, what fails is told, nothing is left behind."""

import asyncio
import sys
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.proofs.runner import catalogue, running
from tests.proofs.runner.catalogue import FIGURES, NAMES
from tests.proofs.runner.report import Proof, Report
from tests.proofs.runner.running import Run
from tests.proofs.runner.table import percentile, shortfalls, total


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A proof whose units do as a file says: where the command that runs a unit leads."""
    program = tmp_path / "unit.py"
    launch = asyncio.create_subprocess_exec

    async def start(*command: str, **options: object) -> asyncio.subprocess.Process:
        return await launch(sys.executable, str(program), command[-1], **options)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    return program


def nothing(_: int) -> Report:
    raise AssertionError("units run in processes of their own")


def proof(**options: object) -> Proof:
    fields = {"name": "fragile", "run": nothing, "quick": 2, "ci": 2, "long": 2, "unit_seconds": 1.0, **options}
    return Proof(**fields)  # type: ignore[arg-type]


async def run(proof: Proof, limit_seconds: float | None = None) -> Run:
    run = Run([proof], "ci", limit_seconds=limit_seconds, jobs=2)
    await run.run(lambda: None)
    return run


def test_every_proof_is_found_and_counts_what_its_figures_ask_for() -> None:
    assert {catalogue.proof(name).name for name in NAMES} == set(NAMES)
    assert {figure.proof for figure in FIGURES} == set(NAMES)


def test_report_survives_its_journey() -> None:
    report = Report(Counter({"a": 2}), 1, 2, 3, ["no"], [0.5])
    assert Report.from_json(report.to_json()) == report


async def test_units_add_up(fragile: Path) -> None:
    report = Report(Counter({"hostile inputs": 3}), recoveries=[0.1])
    fragile.write_text(f"print('noise'); print({report.to_json()!r})")
    done = await run(proof())
    assert total(done).counts == {"hostile inputs": 6}
    assert shortfalls(done, "ci") == []


async def test_time_that_is_left_goes_to_new_units(fragile: Path) -> None:
    fragile.write_text(f"import sys; print({Report(Counter({'unit': 1})).to_json()!r})")
    assert (await run(proof(), limit_seconds=1.0)).progress["fragile"].ended > 2
    assert (await run(proof(endless=False), limit_seconds=1.0)).progress["fragile"].ended == 2


async def test_unit_that_fails_is_a_problem_that_names_its_command(fragile: Path) -> None:
    fragile.write_text("raise SystemExit('broken')")
    problems = shortfalls(await run(proof(quick=1, ci=1)), "ci")
    assert len(problems) == 1
    assert "broken" in problems[0]
    assert problems[0].endswith("uv run python -m tests.proofs.unit fragile 0")


async def test_unit_that_hangs_is_ended_with_its_children(fragile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_GRACE_SECONDS", 1.0)
    pids = fragile.with_name("pids")
    fragile.write_text(
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(60)\n"
    )
    problems = shortfalls(await run(proof(ci=1, unit_seconds=0.0)), "ci")
    assert "did not end" in problems[0]
    async with asyncio.timeout(5):
        while any(_runs(int(pid)) for pid in pids.read_text().split()):
            await asyncio.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_what_is_lost_or_not_reached_is_told() -> None:
    run = Run([catalogue.proof("hostile"), catalogue.proof("chaos")], "ci", limit_seconds=None, jobs=1)
    assert any("hostile inputs: 0 instead of" in problem for problem in shortfalls(run, "ci"))
    assert shortfalls(run, "long") == [], "a long run reports what it has reached"
    run.progress["chaos"].report = Report(lost=1, recoveries=[0.1, 50.0])
    assert [problem.split()[0] for problem in shortfalls(run, "long")] == ["1", "recovery"]


def test_percentile() -> None:
    assert percentile([], 0.99) == 0.0
    assert percentile([float(number) for number in range(1, 101)], 0.99) == 99.0
