"""`asyncwb ingest`: files as they come, from the command line into a backend, and the status that it ends with."""

import gzip
import json
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from asyncwb.cli import main
from tests.harness.servers import Server


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def saved() -> dict[str, Any]:
    if not Path("a.db").exists():
        return {}
    with closing(sqlite3.connect("a.db")) as connection:
        return {key: json.loads(value) for key, value in connection.execute("SELECT key, value FROM rows")}


def ingest(server: Server, *arguments: str) -> Result:
    base = ["ingest", "--redis", server.url, "--backend", "sqlite:///a.db?table=rows", "--key", "id"]
    return CliRunner().invoke(main, [*base, *arguments])


def test_header_in_another_encoding_ends_it_also_where_lines_are_skipped(valkey_server: Server) -> None:
    Path("a.csv").write_bytes("id,prénom\n1,Ada\n2,Bob\n".encode("latin-1"))
    for arguments in ([], ["--on-error", "skip"]):
        result = ingest(valkey_server, "a.csv", *arguments)
        assert result.exit_code == 2, result.output
        assert result.stderr == (
            "Error: a.csv: the header isn't UTF-8: name the encoding of the file, as in --encoding windows-1252\n"
        )
        assert saved() == {}
    assert ingest(valkey_server, "a.csv", "--encoding", "windows-1252").exit_code == 0
    assert saved()["1"] == {"id": "1", "prénom": "Ada"}


@pytest.mark.parametrize("content", [b"id,v\n1,a\n2\n3,c\n", b"id,v\n1,a\n2,\xff\n3,c\n", b"id,v\n1,a\n,b\n3,c\n"])
def test_skipped_line_makes_the_status_1_and_is_counted(valkey_server: Server, content: bytes) -> None:
    Path("a.csv").write_bytes(content)
    result = ingest(valkey_server, "a.csv", "--on-error", "skip", "--json")
    assert result.exit_code == 1, result.output
    assert json.loads(result.stdout)["skipped"] == 1
    assert set(saved()) == {"1", "3"}


def test_value_over_a_limit_is_skipped_and_makes_the_status_1(valkey_server: Server) -> None:
    Path("a.csv").write_bytes(b"id,v\n1,a\n2," + b"x" * (17 * 2**20) + b"\n3,c\n")
    result = ingest(valkey_server, "a.csv", "--on-error", "skip")
    assert result.exit_code == 1, result.output
    assert "skipped: a.csv, line 3: value of key '2' has" in result.stderr
    assert set(saved()) == {"1", "3"}


def test_order_of_a_key_stands_over_several_files(valkey_server: Server) -> None:
    names = []
    for number in range(5):
        rows = [(f"k{row % 7}", f"{number}.{row}") for row in range(300)]
        name = f"{number}.jsonl" if number % 2 else f"{number}.csv.gz"
        text = "id,v\n" + "".join(f"{key},{value}\n" for key, value in rows)
        if number % 2:
            text = "".join(json.dumps({"id": key, "v": value}) + "\n" for key, value in rows)
        Path(name).write_bytes(text.encode() if number % 2 else gzip.compress(text.encode()))
        names.append(name)
    result = ingest(valkey_server, *names, "--json", "--writers", "13")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rows"] == 1500
    last = {f"k{row % 7}": f"4.{row}" for row in range(300)}
    assert {key: value["v"] for key, value in saved().items()} == last


def test_nothing_of_the_first_file_is_taken_if_a_later_one_has_no_such_column(valkey_server: Server) -> None:
    Path("a.csv").write_text("id\n1\n")
    Path("b.csv").write_text("key\n1\n")
    result = ingest(valkey_server, "a.csv", "b.csv")
    assert result.exit_code == 2, result.output
    assert "b.csv: no column 'id'" in result.stderr
    assert not Path("a.db").exists()


def test_limit_stops_after_so_many_rows(valkey_server: Server) -> None:
    Path("a.csv").write_text("id\n" + "".join(f"{number}\n" for number in range(3000)))
    result = ingest(valkey_server, "a.csv", "a.csv", "--limit", "1100", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rows"] == 1100
    assert set(saved()) == {str(number) for number in range(1100)}


@pytest.mark.parametrize("delimiter", ["tab", "\t", "\\t", "TAB"])
def test_delimiter_has_names(valkey_server: Server, delimiter: str) -> None:
    Path("a.csv").write_text("id\tv\n1\t'a\tb'\n")
    result = ingest(valkey_server, "a.csv", "--delimiter", delimiter, "--quotechar", "'")
    assert result.exit_code == 0, result.output
    assert saved() == {"1": {"id": "1", "v": "a\tb"}}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["a.csv", "--delimiter", ";;"], "--delimiter ';;': write one character, or one of tab"),
        (["a.csv", "--delimiter", ""], "--delimiter ''"),
        (["a.csv", "--delimiter", "\n"], "--delimiter"),
        (["a.csv", "--quotechar", "ab"], "--quotechar 'ab'"),
        (["a.csv", "--quotechar", ","], "are both ','"),
        (["a.tsv", "--quotechar", "tab"], "are both '\\t'"),
        (["a.csv", "--encoding", "klingon"], "--encoding 'klingon'"),
        (["a.csv", "--key", "id,"], "--key 'id,'"),
        (["a.csv", "--types", "v=whole"], "no type 'whole'"),
        (["-", "-"], "stdin can be read only once"),
        ([], "Missing argument 'FILE...'"),
        (["."], "is a directory"),
        (["nowhere.csv"], "does not exist"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_done(
    valkey_server: Server, arguments: list[str], complaint: str
) -> None:
    Path("a.csv").write_text("id,v\n1,2\n")
    Path("a.tsv").write_text("id\tv\n1\t2\n")
    result = ingest(valkey_server, *arguments)
    assert result.exit_code == 2, result.output
    assert complaint in result.stderr
    assert saved() == {}


def test_gzip_under_another_name_and_from_stdin_is_told_in_plain_text(valkey_server: Server) -> None:
    packed = gzip.compress(b"id,name\n1,a\n")
    Path("a.csv").write_bytes(packed)
    command = [
        sys.executable, "-m", "asyncwb", "ingest", "--redis", valkey_server.url, "--backend", "sqlite:///a.db",
        "--key", "id", "--on-error", "skip",
    ]  # fmt: skip
    for file in ("a.csv", "-"):
        done = subprocess.run([*command, file], input=packed, capture_output=True, check=False)
        assert done.returncode == 2
        assert done.stdout == b""
        name = "stdin" if file == "-" else file
        assert done.stderr.decode() == (
            f"Error: {name} looks like gzip: its name has to end in .gz, or pipe it through `gunzip -c`\n"
        )


def test_rows_through_a_named_pipe(valkey_server: Server) -> None:
    os.mkfifo("a.csv")
    writer = threading.Thread(target=lambda: Path("a.csv").write_bytes(b"id,v\n1,a\n2,b\n"))
    writer.start()
    try:
        result = ingest(valkey_server, "a.csv")
    finally:
        writer.join()
    assert result.exit_code == 0, result.output
    assert set(saved()) == {"1", "2"}


def test_file_that_ends_too_early_makes_the_status_1_and_keeps_what_came_before(valkey_server: Server) -> None:
    Path("a.json").write_text('[{"id": 1},\n{"id": 2},\n{"id": ')
    for arguments in ([], ["--on-error", "skip"]):
        result = ingest(valkey_server, "a.json", *arguments)
        assert result.exit_code == 1, result.output
        assert "a.json, line 3: the array isn't closed: is the file cut off?" in result.stderr
    assert set(saved()) == {"1", "2"}


def test_keys_of_several_columns_are_joined(valkey_server: Server) -> None:
    Path("a.csv").write_text("id,b,c\n1,x:y,2\n1,x,y\n")
    result = ingest(valkey_server, "a.csv", "--key", "id,b")
    assert result.exit_code == 0, result.output
    assert set(saved()) == {"1:x\\:y", "1:x"}
