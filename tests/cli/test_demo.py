"""`asyncwb demo` and `asyncwb backends`: what they print, and that a loss would not go unnoticed."""

import json
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from asyncwb.cli import main
from asyncwb.cli.counting import Visits
from asyncwb.cli.demo import _Demo
from asyncwb.cli.workload import TABLE, Ledger, Verdict
from asyncwb.codecs import Codec
from asyncwb.plugins.registry import backend_from_url
from asyncwb.records import Record

ROOT = Path(__file__).parents[2]

KEYS = [
    "acknowledged", "distinct_keys", "persisted", "lost", "stale", "visits", "visits_by_other_process",
    "miscounted", "sets_per_second", "flushed_per_second", "direct_sets_per_second", "seconds",
]  # fmt: skip


def test_demo_proves_that_nothing_is_lost() -> None:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "asyncwb", "demo", "--json", "--seconds", "1.5", "--writers", "60"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert time.monotonic() - started < 1.5 + 20
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert list(report) == KEYS
    assert (report["lost"], report["stale"]) == (0, 0)
    assert report["persisted"] == report["distinct_keys"] > 100
    assert report["acknowledged"] > 1000
    assert report["visits"] > report["visits_by_other_process"] > 10
    assert report["miscounted"] == 0
    assert report["sets_per_second"] > report["direct_sets_per_second"] > 0
    assert 1.5 < report["seconds"] < 21.5


def test_demo_shows_its_verdict_to_people() -> None:
    result = CliRunner().invoke(main, ["demo", "--seconds", "0.5", "--writers", "20"])
    assert result.exit_code == 0, result.output
    assert "nothing acknowledged was lost, and each visit was counted once" in result.stdout


@pytest.mark.parametrize("wrong", [{"lost": 1}, {"stale": 1}, {"miscounted": 1}])
def test_loss_is_an_exit_status(monkeypatch: pytest.MonkeyPatch, wrong: dict[str, int]) -> None:
    async def run(self: _Demo) -> dict[str, int]:
        return {**dict.fromkeys(KEYS, 0), **wrong}

    monkeypatch.setattr(_Demo, "run", run)
    assert CliRunner().invoke(main, ["demo", "--json"]).exit_code == 1


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        ([("a", 7, '{"n":1}', None), ("b", 8, None, 1)], Verdict(persisted=2, lost=0, stale=0)),
        ([("a", 7, '{"n":1}', None)], Verdict(persisted=1, lost=1, stale=0)),
        ([("a", 6, '{"n":0}', None), ("b", 8, None, 1)], Verdict(persisted=1, lost=0, stale=1)),
        ([("a", 7, '{"n":2}', None), ("b", 8, "{}", None)], Verdict(persisted=0, lost=2, stale=0)),
        ([], Verdict(persisted=0, lost=2, stale=0)),
    ],
)
def test_verdict_compares_versions_values_and_deletes(tmp_path: Path, rows: list[Any], verdict: Verdict) -> None:
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute("CREATE TABLE demo (key, version, value, deleted_at)")
    connection.executemany("INSERT INTO demo VALUES (?, ?, ?, ?)", rows)
    connection.commit()
    connection.close()
    ledger = Ledger()
    ledger.note("a", 7, {"n": 1})
    ledger.note("a", 5, {"n": 5})
    ledger.note("b", 8, None)
    assert ledger.verdict(tmp_path / "a.db") == verdict
    assert (ledger.acknowledged, ledger.keys) == (3, 2)


@pytest.mark.parametrize(
    ("held", "wrong"),
    [
        ({"page:1": 5, "page:2": 2}, 0),
        ({"page:1": 8, "page:2": 2}, 0),  # what was unknown has arrived
        ({"page:1": 4, "page:2": 2}, 1),
        ({"page:1": 9, "page:2": 2}, 1),
        ({"page:1": 5}, 1),
        ({"page:1": 5, "page:2": 3, "page:3": 1}, 2),
        ({}, 2),
    ],
)
def test_each_visit_has_to_be_counted_once(tmp_path: Path, held: dict[str, int], wrong: int) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection, connection:
        connection.execute("CREATE TABLE demo (key, version, value, deleted_at)")
        rows = [(page, json.dumps({"visits": visits})) for page, visits in held.items()]
        connection.executemany("INSERT INTO demo VALUES (?, 1, ?, NULL)", [*rows, ("user:1", "{}")])
    here, there = Visits(), Visits()
    here.added.update({"page:1": 2, "page:2": 2})
    there.added.update({"page:1": 3})
    there.unknown.update({"page:1": 3})
    there.count = 2
    here.include(there.as_json())
    assert here.miscounted(tmp_path / "a.db", TABLE) == wrong
    assert (here.count, here.by_others) == (2, 2)


def documented_columns() -> list[tuple[str, str, bool]]:
    """Name, type and whether NOT NULL, of the columns that docs/backends.md describes."""
    section = (ROOT / "docs/backends.md").read_text().partition("\n## SQLite\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (?:`([A-Z ]+)`)? ?\|", section, re.MULTILINE)
    return [(name, kind.removesuffix(" NOT NULL"), kind.endswith(" NOT NULL")) for name, kind in rows]


async def test_check_reads_what_the_backend_documents_and_stores(tmp_path: Path) -> None:
    ledger = Ledger()
    backend = backend_from_url(f"sqlite:///{tmp_path}/a.db?table={TABLE}", codec=Codec())
    await backend.open(namespace="any")
    try:
        await backend.save([Record("a", 7, b'{"n":1}'), Record("b", 8, deleted=True)])
    finally:
        await backend.close()
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        stored = [(row[1], row[2], bool(row[3])) for row in connection.execute(f"PRAGMA table_info({TABLE})")]
    assert documented_columns() == stored
    ledger.note("a", 7, {"n": 1})
    ledger.note("b", 8, None)
    assert ledger.verdict(tmp_path / "a.db") == Verdict(persisted=2, lost=0, stale=0)


def test_backends_are_listed() -> None:
    result = CliRunner().invoke(main, ["backends"])
    assert result.exit_code == 0
    assert "sqlite" in result.stdout
    report = json.loads(CliRunner().invoke(main, ["backends", "--json"]).stdout)
    (sqlite,) = (row for row in report["backends"] if row["scheme"] == "sqlite")
    assert sqlite["usable"] is True
    assert sqlite["distribution"].startswith("asyncwb ")


def test_version_and_help() -> None:
    assert "asyncwb" in CliRunner().invoke(main, ["--version"]).stdout
    for command in ("demo", "ingest", "worker", "backends"):
        assert CliRunner().invoke(main, [command, "--help"]).exit_code == 0
