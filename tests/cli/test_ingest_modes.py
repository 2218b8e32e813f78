"""`asyncwb ingest --mode`: rows that update, add and insert, on real servers."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from asyncwb.cli import main
from tests.harness.commands import run
from tests.harness.proxy import open_proxy
from tests.harness.servers import Server


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


def saved(database: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT key, value FROM asyncwb").fetchall()
    return {key: None if value is None else json.loads(value) for key, value in rows}


def arguments(url: str, database: Path, *args: str) -> list[str]:
    return ["ingest", "--redis", url, "--backend", f"sqlite:///{database}?table=asyncwb", *args]


def ingest(server: Server, database: Path, *args: str, status: int = 0, **options: Any) -> Result:
    result = CliRunner().invoke(main, arguments(server.url, database, *args), **options)
    assert result.exit_code == status, result.output
    return result


def test_update_changes_only_the_fields_that_rows_have(valkey_server: Server, database: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "a", "name": "Ada", "visits": 5, "seen": 3, "first": 3, "big": 1}\n')
    ingest(valkey_server, database, str(tmp_path / "a.jsonl"), "--key", "id")
    (tmp_path / "b.jsonl").write_text(
        '{"id": "a", "visits": 2, "seen": 9, "first": 9}\n'
        '{"id": "a", "visits": 1, "seen": 7, "first": 1, "name": "Bob"}\n'
        '{"id": "b", "visits": 1}\n'
        '{"id": "a", "visits": null, "seen": null, "big": null}\n'
    )
    update = [str(tmp_path / "b.jsonl"), "--key", "id", "--mode", "update"]
    ingest(valkey_server, database, *update, "--add", "visits", "--max", "seen", "--min", "first")
    assert saved(database) == {
        "a": {"id": "a", "name": "Bob", "visits": 8, "seen": 9, "first": 1, "big": None},
        "b": {"id": "b", "visits": 1},
    }


def test_rows_without_a_value_are_left_out_if_asked(valkey_server: Server, database: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,n\na,1\n")
    ingest(valkey_server, database, str(tmp_path / "a.csv"), "--key", "id", "--types", "n=int")
    (tmp_path / "b.csv").write_text("id,n\na,2\nb,2\n")
    for mode in ("update", "add"):
        ingest(valkey_server, database, str(tmp_path / "b.csv"), "--key", "id", "--mode", mode, "--no-upsert",
               "--types", "n=int")  # fmt: skip
    assert {key: value for key, value in saved(database).items() if value} == {"a": {"id": "a", "n": 4}}


def test_types_tell_how_values_are_added_and_compared(valkey_server: Server, database: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "id,cost,day,at,n\n"
        "a,0.10,2026-01-31,2026-01-31T12:00:00+02:00,1\n"
        "a,0.20,2026-02-01,2026-01-31T11:00:00Z,2.5\n"
        "a,,2026-01-01,2026-01-31T12:30:00+02:00,\n"
    )
    command = [str(tmp_path / "a.csv"), "--key", "id", "--mode", "update", "--add", "cost,n", "--max", "day,at"]
    ingest(valkey_server, database, *command, "--types", "cost=decimal?,day=date,at=datetime")
    assert saved(database) == {
        "a": {"id": "a", "cost": "0.30", "day": "2026-02-01", "at": "2026-01-31T11:00:00Z", "n": 3.5}
    }


def test_add_counts_and_a_second_run_counts_twice(valkey_server: Server, database: Path, tmp_path: Path) -> None:
    rows = [(f"p{number % 7}", f"d{number % 2}", number, number % 3) for number in range(2000)]
    text = "".join(f"{page},{day},{views},{errors or ''}\n" for page, day, views, errors in rows)
    (tmp_path / "a.csv").write_text(f"page,day,views,errors\n{text}")
    expected: dict[str, dict[str, Any]] = {}
    for page, day, views, errors in rows:
        each = expected.setdefault(f"{page}:{day}", {"page": page, "day": day, "views": 0, "errors": 0})
        each["views"] += views
        each["errors"] += errors
    command = [str(tmp_path / "a.csv"), "--key", "page,day", "--mode", "add", "--json", "--writers", "9"]
    report = json.loads(ingest(valkey_server, database, *command).stdout)
    assert (report["acknowledged"], report["unknown"], report["distinct_keys"]) == (2000, 0, 14)
    assert saved(database) == expected
    ingest(valkey_server, database, *command)
    assert saved(database)["p3:d1"]["views"] == 2 * expected["p3:d1"]["views"]


def test_columns_of_a_table_are_added_to(valkey_server: Server, database: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE pages (id TEXT PRIMARY KEY, views INTEGER NOT NULL, title TEXT)")
        connection.execute("INSERT INTO pages VALUES ('a', 40, 'Home')")
    (tmp_path / "a.csv").write_text("id,views\na,2\nb,1\na,1\n")
    table = f"sqlite:///{database}?table=pages&key=id&columns=id,views,title&add_version=1"
    command = [str(tmp_path / "a.csv"), "--key", "id", "--mode", "add", "--backend", table]
    ingest(valkey_server, database, *command)
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT id, views, title FROM pages ORDER BY id").fetchall()
    assert rows == [("a", 43, "Home"), ("b", 1, None)]


def test_inserted_rows_get_keys_that_increase(valkey_server: Server, database: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n\n" + "".join(f"{number}\n" for number in range(500)))
    for _ in range(2):
        ingest(valkey_server, database, str(tmp_path / "a.csv"), "--mode", "insert", "--types", "n=int")
    found = saved(database)
    assert len(found) == 1000
    assert [found[key]["n"] for key in sorted(found)] == [*range(500)] * 2
    assert {uuid.UUID(key).version for key in found} == {7}
    (tmp_path / "b.jsonl").write_text('{"x": 1}\n')
    ingest(valkey_server, database, str(tmp_path / "b.jsonl"), "--mode", "insert")
    assert len(saved(database)) == 1001


@pytest.mark.parametrize("skip", [False, True])
def test_what_cant_be_added_is_malformed(valkey_server: Server, database: Path, tmp_path: Path, skip: bool) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "a", "n": 1}\n{"id": "a", "n": true}\n{"id": "a", "n": 4}\n')
    more = ["--on-error", "skip"] if skip else []
    command = [str(tmp_path / "a.jsonl"), "--key", "id", "--mode", "add", "--writers", "1", *more]
    result = ingest(valkey_server, database, *command, status=1)
    assert "line 2: field 'n': Add takes an int, a float or a Decimal, not True" in result.stderr
    assert ("would be applied twice by another run" in result.stderr) is not skip
    assert saved(database)["a"]["n"] in ((5,) if skip else (1, 5))
    (tmp_path / "b.csv").write_text("id,n\na,x\n")
    result = ingest(valkey_server, database, str(tmp_path / "b.csv"), "--key", "id", "--mode", "add", status=1)
    assert "line 2: field 'n' has to be a number" in result.stderr


def test_dry_run_checks_updates_and_writes_nothing(valkey_server: Server, database: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "a", "n": 1}\n{"id": "a", "n": "x"}\n{"id": "b", "n": [1]}\n')
    command = [str(tmp_path / "a.jsonl"), "--key", "id", "--dry-run"]
    report = json.loads(ingest(valkey_server, database, *command, "--mode", "add", "--json", status=1).stdout)
    assert report == {"rows": 3, "malformed": 2, "refused": 0, "distinct_keys": 2, "backend_asked": False}
    result = ingest(valkey_server, database, *command, "--mode", "update")
    assert "unknown, since that depends on what it holds; nothing was written" in result.stdout
    inserted = [str(tmp_path / "a.jsonl"), "--dry-run", "--mode", "insert", "--json"]
    report = json.loads(ingest(valkey_server, database, *inserted).stdout)
    assert report == {"rows": 3, "malformed": 0, "refused": 0, "distinct_keys": 3, "backend_asked": True}
    assert not database.exists()


def test_updates_that_cant_be_applied_are_told(valkey_server: Server, database: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "a", "n": "text"}\n{"id": "b", "n": 1}\n')
    ingest(valkey_server, database, str(tmp_path / "a.jsonl"), "--key", "id")
    (tmp_path / "b.jsonl").write_text('{"id": "a", "n": 1}\n{"id": "b", "n": 1}\n')
    command = [str(tmp_path / "b.jsonl"), "--key", "id", "--mode", "add", "--json"]
    first = ingest(valkey_server, database, *command, status=1)
    assert json.loads(first.stdout)["dead"] == 1
    assert "field 'n' holds a text" in first.stderr
    second = ingest(valkey_server, database, *command, status=1)
    report = json.loads(second.stdout)
    assert (report["acknowledged"], report["blocked"], report["dead"]) == (1, 1, 0)
    assert "1 row(s) weren't taken, since an earlier update of their key can't be applied" in second.stderr
    assert saved(database)["b"]["n"] == 3


async def test_a_row_of_unknown_outcome_is_told_and_not_added_again(
    valkey_server: Server, database: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "a", "n": 1}\n{"id": "b", "marked": 5}\n{"id": "c", "n": 1}\n')
    async with open_proxy(valkey_server) as proxy:
        # Only the request that writes the second row contains the name of its field.
        fault = proxy.fault("drop reply", b"marked", times=10**6)
        command = arguments(proxy.url, database, str(tmp_path / "a.jsonl"), "--key", "id", "--mode", "add", "--json")
        result = await run(*command, "--writers", "1", "--redis-retry-seconds", "0.5", status=1)
    assert fault.happened > 1, "the same request is repeated, which is safe"
    report = json.loads(result.stdout)
    assert (report["rows"], report["acknowledged"], report["unknown"]) == (3, 2, 1)
    assert "a.jsonl, line 2: it may have been added or not" in result.stderr
    assert "of 1 row(s), listed above, it is unknown whether they were added" in result.stderr
    assert saved(database) == {"a": {"id": "a", "n": 1}, "b": {"id": "b", "marked": 5}, "c": {"id": "c", "n": 1}}


@pytest.mark.parametrize(
    ("mode", "what"), [("set", "run the same command again"), ("add", "the same command would apply them twice")]
)
def test_interrupted_run_says_whether_it_may_be_repeated(
    valkey_server: Server, database: Path, mode: str, what: str
) -> None:
    command = arguments(valkey_server.url, database, "-", "--format", "json", "--key", "id", "--mode", mode)
    with subprocess.Popen(
        [sys.executable, "-m", "asyncwb", *command], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        assert process.stdin is not None
        try:
            # Rows are passed on in chunks, so there are enough for some.
            process.stdin.write('{"id": "a", "n": 1}\n' * 5000)
            process.stdin.flush()
            wait_for_rows(database)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=20)
        finally:
            process.kill()
    assert what in told


def wait_for_rows(database: Path) -> None:
    for _ in range(2000):
        try:
            if saved(database):
                return
        except sqlite3.OperationalError:
            pass  # there is no table yet
        signal.sigtimedwait([], 0.01)
    raise AssertionError("no row was saved within 20 seconds")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--mode", "update"), "name the column of the key by --key"),
        (("--mode", "insert", "--key", "id"), "leave --key out"),
        (("--key", "id", "--add", "n"), "--add is for --mode update, and this is --mode set"),
        (("--key", "id", "--mode", "add", "--max", "n"), "--max is for --mode update, and this is --mode add"),
        (("--key", "id", "--mode", "update", "--add", "id"), "--add names column 'id', which is a part of the key"),
        (("--key", "id", "--mode", "update", "--add", "n", "--min", "n"), "column 'n' is named twice"),
        (("--key", "id", "--mode", "update", "--add", "n,"), "--add 'n,': name one column or several"),
        (("--key", "id", "--mode", "update", "--add", "m"), "--add, --max or --min names column 'm'"),
        (("--key", "id", "--no-upsert"), "--no-upsert is for the modes update and add, and this is --mode set"),
    ],
)
def test_options_that_contradict_each_other_are_told(
    valkey_server: Server, database: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    (tmp_path / "a.csv").write_text("id,n\na,1\n")
    assert message in ingest(valkey_server, database, str(tmp_path / "a.csv"), *options, status=2).stderr
    assert not database.exists()
