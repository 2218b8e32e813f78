"""`asyncwb ingest`: rows in order, malformed lines, interruption and what it prints."""

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from asyncwb.cli import main
from tests.harness.servers import Server

JSON_KEYS = [
    "rows", "acknowledged", "skipped", "unknown", "blocked", "distinct_keys", "saved", "coalesced", "dead", "seconds",
]  # fmt: skip


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


def saved(database: Path) -> dict[str, Any]:
    connection = sqlite3.connect(database)
    try:
        return {key: json.loads(value) for key, value in connection.execute("SELECT key, value FROM asyncwb")}
    finally:
        connection.close()


def ingest(server: Server, database: Path, *args: str, **options: Any) -> Result:
    base = ["ingest", "--redis", server.url, "--backend", f"sqlite:///{database}?table=asyncwb"]
    return CliRunner().invoke(main, [*base, *args], **options)


def test_last_row_of_a_key_wins(valkey_server: Server, database: Path, tmp_path: Path) -> None:
    rng = random.Random(1)
    rows = [(f"k{int(20 * rng.random() ** 2)}", str(number)) for number in range(3000)]
    (tmp_path / "a.csv").write_text("key,n\n" + "".join(f"{key},{number}\n" for key, number in rows))
    result = ingest(valkey_server, database, str(tmp_path / "a.csv"), "--key", "key", "--json", "--writers", "17")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert list(report) == JSON_KEYS
    last = {key: {"key": key, "n": number} for key, number in rows}
    assert (report["rows"], report["acknowledged"], report["skipped"]) == (3000, 3000, 0)
    assert report["distinct_keys"] == len(last)
    assert report["saved"] + report["coalesced"] == 3000
    assert saved(database) == last


def test_rows_that_the_backend_refuses_are_told(valkey_server: Server, database: Path, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")
    (tmp_path / "a.jsonl").write_text('{"id": 1, "name": "Ada"}\n{"id": "two", "name": "Bob"}\n')
    table = f"sqlite:///{database}?table=users&key=id&columns=id,name&add_version=1"
    result = ingest(valkey_server, database, str(tmp_path / "a.jsonl"), "--key", "id", "--json", "--backend", table)
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["acknowledged"], report["saved"], report["coalesced"], report["dead"]) == (2, 1, 0, 1)
    assert "1 record(s) were dead-lettered, but stay readable" in result.stderr


TABLE = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT CHECK (name = 'good'))"


def refusing_table(database: Path) -> str:
    """Makes a table that accepts only good rows; returns the backend's URL for it."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute(TABLE)
    return f"sqlite:///{database}?table=users&key=id&columns=id,name&add_version=1"


def test_it_stops_when_too_many_rows_are_refused_and_the_next_run_works(
    valkey_server: Server, database: Path, tmp_path: Path
) -> None:
    table, total = refusing_table(database), 20_000
    (tmp_path / "bad.jsonl").write_text("".join(f'{{"id": {number}, "name": "bad"}}\n' for number in range(total)))
    arguments = [str(tmp_path / "bad.jsonl"), "--key", "id", "--json", "--backend", table, "--max-refused", "50"]
    result = ingest(valkey_server, database, *arguments)
    assert result.exit_code == 1, result.output
    report = json.loads(result.stdout)
    assert 50 <= report["dead"] == report["acknowledged"] < 4000, "and not the whole file"
    assert "CHECK constraint failed" in result.stderr
    assert "were dead-lettered, but stay readable" in result.stderr
    assert "--max-refused 50" in result.stderr
    (tmp_path / "good.jsonl").write_text('{"id": 900001, "name": "good"}\n')
    result = ingest(valkey_server, database, str(tmp_path / "good.jsonl"), "--key", "id", "--backend", table)
    assert result.exit_code == 0, result.output


def test_dead_letters_that_leave_no_room_end_it_with_what_to_do(
    valkey_server: Server, database: Path, tmp_path: Path
) -> None:
    table = refusing_table(database)
    (tmp_path / "bad.csv").write_text("id,name\n" + "".join(f"{number},bad\n" for number in range(100)))
    arguments = [str(tmp_path / "bad.csv"), "--key", "id", "--backend", table, "--max-dirty", "20"]
    for _ in range(2):  # "and so does every later ingest"
        result = ingest(valkey_server, database, *arguments)
        assert result.exit_code == 2, result.output
        assert "20 dead letter(s) alone leave no room" in result.stderr
        assert "asyncwb dead drop" in result.stderr


def test_csv_as_people_write_it(valkey_server: Server, database: Path, tmp_path: Path) -> None:
    text = '\ufeff"key","te,xt"\r\nä,"two\nlines"\r\n\r\n"q""uote",\r\nNA,x'
    (tmp_path / "a.csv").write_bytes(text.encode())
    result = ingest(valkey_server, database, str(tmp_path / "a.csv"), "--key", "key")
    assert result.exit_code == 0, result.output
    assert saved(database) == {
        "ä": {"key": "ä", "te,xt": "two\nlines"},
        'q"uote': {"key": 'q"uote', "te,xt": ""},
        "NA": {"key": "NA", "te,xt": "x"},
    }


def test_json_lines_from_stdin(valkey_server: Server, database: Path) -> None:
    lines = b'{"id": 1, "x": [1, null]}\n\n{"id": "b"}\n{"id": 1, "x": 2}\n'
    command = [sys.executable, "-m", "asyncwb", "ingest", "-", "--key", "id", "--format", "jsonl", "--json"]
    options = ["--redis", valkey_server.url, "--backend", f"sqlite:///{database}?table=asyncwb"]
    done = subprocess.run([*command, *options], input=lines, capture_output=True, check=True)
    assert json.loads(done.stdout)["rows"] == 3
    assert done.stderr == b""
    assert saved(database) == {"1": {"id": 1, "x": 2}, "b": {"id": "b"}}


BAD_CSV = 'k,v\na,1\nb,2,3\n,4\nc,"5\n'
BAD_JSONL = b'{"k": "a"}\n{"k": \n[1]\n{"x": 1}\n{"k": null}\n{"k": true}\n{"k": "\xff"}\n{"k": "b"}\n'


def test_malformed_line_stops_with_its_number(valkey_server: Server, database: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(BAD_CSV)
    result = ingest(valkey_server, database, str(tmp_path / "a.csv"), "--key", "k", "--json")
    assert result.exit_code == 1
    assert "line 3: 3 fields, but the header has 2" in result.stderr
    assert json.loads(result.stdout)["acknowledged"] == 1
    assert saved(database) == {"a": {"k": "a", "v": "1"}}, "what stood before it is saved"


def test_malformed_lines_are_skipped_and_counted(valkey_server: Server, database: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(BAD_CSV)
    result = ingest(valkey_server, database, str(tmp_path / "a.csv"), "--key", "k", "--json", "--on-error", "skip")
    assert result.exit_code == 1, result.output
    where = [f"skipped: {tmp_path / 'a.csv'}, line {number}" for number in (3, 4, 5)]
    assert [":".join(line.split(":")[:2]) for line in result.stderr.splitlines()] == where
    assert json.loads(result.stdout)["skipped"] == 3
    (tmp_path / "a.jsonl").write_bytes(BAD_JSONL)
    result = ingest(
        valkey_server, tmp_path / "b.db", str(tmp_path / "a.jsonl"), "--key", "k", "--json", "--on-error", "skip",
        "--namespace", "other",
    )  # fmt: skip
    assert result.exit_code == 1, result.output
    assert json.loads(result.stdout)["skipped"] == 6, result.stderr
    assert saved(tmp_path / "b.db") == {"a": {"k": "a"}, "b": {"k": "b"}}


def test_bytes_that_are_no_utf8_spoil_their_row_alone(valkey_server: Server, database: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"k,v\na,1\nb,\xff\nc,3\n")
    result = ingest(valkey_server, database, str(tmp_path / "a.csv"), "--key", "k", "--on-error", "skip")
    assert result.exit_code == 1
    assert "line 3: not UTF-8" in result.stderr
    assert set(saved(database)) == {"a", "c"}


@pytest.mark.parametrize(
    ("content", "key", "complaint"),
    [("a,b\n1,2\n", "c", "no column 'c' in the header; there are 'a', 'b'"), ("a,a\n1,2\n", "a", "twice")],
)
def test_header_that_cannot_work(
    valkey_server: Server, database: Path, tmp_path: Path, content: str, key: str, complaint: str
) -> None:
    (tmp_path / "a.csv").write_text(content)
    result = ingest(valkey_server, database, str(tmp_path / "a.csv"), "--key", key)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr


def test_empty_file_is_fine(valkey_server: Server, database: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("")
    result = ingest(valkey_server, database, str(tmp_path / "a.csv"), "--key", "k", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["rows"] == 0


def test_options_come_from_the_environment(valkey_server: Server, database: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("k\na\n")
    environment = {
        "ASYNCWB_REDIS": valkey_server.url,
        "ASYNCWB_BACKEND": f"sqlite:///{database}?table=asyncwb",
        "ASYNCWB_NAMESPACE": "from-the-environment",
    }
    result = CliRunner().invoke(main, ["ingest", str(tmp_path / "a.csv"), "--key", "k"], env=environment)
    assert result.exit_code == 0, result.output
    assert saved(database) == {"a": {"k": "a"}}


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--redis", "redis://u:hunter2@127.0.0.1:1/0", "can't be reached"),
        ("--backend", "sqlit:///a.db", "Did you mean 'sqlite'"),
        ("--backend", "sqlite:////no/such/folder/a.db", "make it first"),
    ],
)
@pytest.mark.usefixtures("impatient")
def test_error_is_one_clear_line(
    valkey_server: Server, database: Path, tmp_path: Path, option: str, value: str, complaint: str
) -> None:
    (tmp_path / "a.csv").write_text("k\na\n")
    result = ingest(valkey_server, database, str(tmp_path / "a.csv"), "--key", "k", option, value)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "hunter2" not in result.stderr


def test_interrupted_run_loses_nothing_and_a_rerun_completes_it(
    valkey_server: Server, database: Path, tmp_path: Path
) -> None:
    total = 60_000
    with (tmp_path / "a.csv").open("w") as file:
        file.write("k,n\n")
        file.writelines(f"k{number % 5000},{number}\n" for number in range(total))
    command = [
        sys.executable, "-m", "asyncwb", "ingest", str(tmp_path / "a.csv"), "--key", "k", "--json",
        "--redis", valkey_server.url, "--backend", f"sqlite:///{database}?table=asyncwb",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if database.exists() and "asyncwb" in _tables(database) and len(saved(database)) > 100:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, errors
    assert out == ""
    acknowledged = int(errors.split()[0])
    assert 0 < acknowledged < total
    assert "run the same command again" in errors
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["acknowledged"] == total
    assert saved(database) == {
        f"k{number % 5000}": {"k": f"k{number % 5000}", "n": str(number)} for number in range(total - 5000, total)
    }


def _tables(database: Path) -> set[str]:
    connection = sqlite3.connect(database)
    try:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    finally:
        connection.close()


def test_pipe_that_never_ends_can_be_interrupted(valkey_server: Server, database: Path) -> None:
    reading, writing = os.pipe()
    command = [
        sys.executable, "-m", "asyncwb", "ingest", "-", "--key", "k",
        "--redis", valkey_server.url, "--backend", f"sqlite:///{database}?table=asyncwb",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdin=reading, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        os.write(writing, b"k\na\n")
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not (database.exists() and "asyncwb_meta" in _tables(database)):
            time.sleep(0.01)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
        assert process.returncode == 130
    finally:
        os.close(writing)
        os.close(reading)
        process.kill()
        process.communicate()
