"""The documents speak of what there is: tests, files, functions and commands that they name, and the example."""

import asyncio
import re
import runpy
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, generate_latest

from asyncwb import (
    Bisected,
    Buffer,
    CircuitChanged,
    ConnectionChanged,
    DeadLetter,
    EpochChanged,
    Event,
    FlusherCrashed,
    FullChanged,
    Retried,
    Saved,
    SuitabilityChanged,
)
from asyncwb.testing import MemoryBackend

ROOT = Path(__file__).parents[2]
CI = [line.removeprefix("step ") for line in (ROOT / ".ci/run").read_text().splitlines() if line.startswith("step ")]
LINTERS = list(takewhile(lambda command: not command.startswith("uv run python"), CI))


def recipe(*arguments: str) -> list[str]:
    """The commands that a recipe of the justfile would run."""
    just = Path(sys.executable).with_name("just")
    done = subprocess.run([just, "--dry-run", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return [line.strip() for line in done.stderr.splitlines()]


@pytest.mark.parametrize("document", ["README.md", "docs/failures.md", "docs/security.md"])
def test_tests_that_a_document_names_exist(document: str) -> None:
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", (ROOT / document).read_text()))
    folders = {"tests": "test_*.py", "examples": "test_*.py", "asyncwb/testing/contract": "*.py"}
    paths = (path for folder, pattern in folders.items() for path in (ROOT / folder).rglob(pattern))
    sources = "\n".join(path.read_text() for path in paths)
    missing = {name for name in named if not re.search(rf"def {name}\(", sources)}
    assert named
    assert not missing


def test_every_failure_has_a_test() -> None:
    rows = [line for line in (ROOT / "docs/failures.md").read_text().splitlines() if line.startswith("| ")]
    failures = [row for row in rows if not row.startswith(("| failure", "| ---"))]
    assert len(failures) > 20
    assert all("`test_" in row and row.count(" | ") == 5 for row in failures)


def test_recipes_and_hooks_run_what_ci_runs() -> None:
    assert len(LINTERS) == 4
    assert recipe("check") == LINTERS
    assert re.findall(r"entry: (.+)", (ROOT / ".pre-commit-config.yaml").read_text()) == LINTERS
    assert recipe("test") == [CI[-1]]
    assert recipe("proofs", "--ci")[0] in CI
    assert any(command.startswith(recipe("bench")[0]) for command in CI)


def test_exporter_is_short() -> None:
    assert len((ROOT / "examples/prometheus_exporter.py").read_text().splitlines()) < 70


async def test_exporter_counts_every_event(valkey_url: str, namespace: str) -> None:
    metrics = runpy.run_path(str(ROOT / "examples/prometheus_exporter.py"))["Metrics"]("users")
    async with Buffer[int](valkey_url, backend=MemoryBackend(), namespace=namespace, observer=metrics) as buffer:
        await buffer.set("a", 1)
        await buffer.drain(timeout=5)
        await asyncio.sleep(0.05)
    events: list[Event] = [
        Retried("a", "odd", 1, 0.1),
        Bisected(8, 1, 7),
        DeadLetter("a", "odd", 10),
        FlusherCrashed(0, ValueError(), 1.0),
        CircuitChanged(open=True, reason="down"),
        ConnectionChanged(up=False, reason="gone"),
        SuitabilityChanged(suitable=False, reason="evicts"),
        FullChanged(0, full=True, limit="bytes"),
        EpochChanged(0, 7),
        Saved(5, 1, 2, 0.1),
    ]
    for event in events:
        metrics(event)
    text = generate_latest(REGISTRY).decode()
    for line in (
        'asyncwb_saved_records_total{namespace="users"} 6.0', 'asyncwb_stale_records_total{namespace="users"} 1.0',
        'asyncwb_conflicts_total{namespace="users"} 2.0', 'asyncwb_retries_total{namespace="users"} 1.0',
        'asyncwb_bisected_batches_total{namespace="users"} 1.0', 'asyncwb_dead_letters_total{namespace="users"} 1.0',
        'asyncwb_flusher_crashes_total{namespace="users"} 1.0', 'asyncwb_backend_outage{namespace="users"} 1.0',
        'asyncwb_redis_up{namespace="users"} 0.0', 'asyncwb_full{namespace="users",partition="0"} 1.0',
        'asyncwb_epoch{namespace="users",partition="0"} 7.0', 'asyncwb_redis_suitable{namespace="users"} 0.0',
    ):  # fmt: skip
        assert line in text
