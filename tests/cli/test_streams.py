"""Standard streams that are closed, or that nobody reads any more: every command ends as it would with all of them."""

import asyncio
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import click
import pytest

from asyncwb import Buffer, DeadLettered, RecordRejected
from asyncwb.cli import main
from asyncwb.cli.shared import EXIT_PIPE
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness.commands import leaves
from tests.harness.servers import Server

COMMANDS = list(leaves(main))
QUICK = {("backends",), ("ingest",), ("status",), ("worker",)}
"""One of each kind; the others are run with the long tests."""
CLOSED = {"stdin": "<&-", "stdout": ">&-", "stderr": "2>&-"}
ROWS = '{"id": 1}\n{"id": 2}\n'

#: Output is buffered, as usual.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}

#: What commands need to be told besides; a new command that needs something else is to be added.
VALUES = {"key": "k", "keys": "k", "former": "from", "namespace": "to", "file": "-"}
BESIDES = {
    ("demo",): ["--seconds", "0.5", "--writers", "5"],
    ("dead", "drop"): ["--yes"],
    ("dead", "retry"): ["--all"],
    ("flush",): ["--all"],
    ("hand-over",): ["--wait", "0"],
    ("ingest",): ["--key", "id", "--format", "jsonl", "-"],
}


def words(path: tuple[str, ...], command: click.Command, given: dict[str, str]) -> list[str]:
    """Returns a complete command line for a command."""
    line = [*path, *BESIDES.get(path, ())]
    for param in command.params:
        if isinstance(param, click.Option) and param.name in given:
            line += [param.opts[0], given[param.name]]
        elif param.required and path != ("ingest",):
            line += (
                [VALUES[str(param.name)]]
                if isinstance(param, click.Argument)
                else [param.opts[0], VALUES[str(param.name)]]
            )
    return line


def shell(line: list[str], redirections: str) -> subprocess.Popen[str]:
    program = shlex.join([sys.executable, "-m", "asyncwb", *line])
    return subprocess.Popen(
        ["/bin/sh", "-c", f"exec {program} {redirections}"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip


def ended(process: subprocess.Popen[str], text: str = ROWS) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(text, timeout=60)
    finally:
        process.kill()
        process.wait()
    return process.returncode, out, err


def run(line: list[str], redirections: str = "") -> tuple[int, str, str]:
    return ended(shell(line, redirections))


def without_reader(line: list[str], stream: str) -> tuple[int, str, str]:
    """Runs a command with a pipe as the given stream, whose reader has gone."""
    read, write = os.pipe()
    os.close(read)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "asyncwb", *line],
            stdin=subprocess.PIPE, stdout=write if stream == "stdout" else subprocess.PIPE,
            stderr=write if stream == "stderr" else subprocess.PIPE, text=True, env=ENVIRONMENT,
        )  # fmt: skip
    finally:
        os.close(write)
    return ended(process)


@pytest.fixture
def given(valkey_server: Server, namespace: str, tmp_path: Path) -> dict[str, str]:
    """The URLs and the name of a namespace with a saved and an unsaved record."""
    found = {"redis": valkey_server.url, "namespace": namespace, "backend": f"sqlite:///{tmp_path / 'a.db'}?table=rows"}

    async def write() -> None:
        async with Buffer[int](found["redis"], backend=found["backend"], namespace=namespace) as buffer:
            await buffer.set("k", 1)
        async with Buffer[int](found["redis"], backend=found["backend"], namespace=namespace, flushers=0) as buffer:
            await buffer.set("unsaved", 2)

    asyncio.run(write())
    return found


def worker(line: list[str], redirections: str, given: dict[str, str]) -> tuple[int, str, str]:
    """Runs a worker until it has saved something, and ends it with SIGTERM."""
    process = shell(line, redirections)

    async def wait() -> None:
        async with Buffer[int](
            given["redis"], backend=given["backend"], namespace=given["namespace"], flushers=0
        ) as buffer:
            await buffer.set("k", 3)
            await buffer.flush("k", timeout=30)

    try:
        asyncio.run(wait())
    except BaseException:
        process.kill()
        process.communicate()
        raise
    process.send_signal(signal.SIGTERM)
    return ended(process, "")


@pytest.mark.parametrize(
    ("path", "command"),
    [
        pytest.param(*each, id=" ".join(each[0]), marks=() if each[0] in QUICK else pytest.mark.long)
        for each in COMMANDS
    ],
)
def test_command_ends_alike_with_a_closed_stream(
    path: tuple[str, ...], command: click.Command, given: dict[str, str]
) -> None:
    if path == ("hand-over",):
        del given["namespace"]
    line = words(path, command, given)

    def once(redirections: str) -> tuple[int, str, str]:
        return worker(line, redirections, given) if path == ("worker",) else run(line, redirections)

    usual, out, err = once("")
    assert "Traceback" not in err
    assert usual != 2 or path == ("hand-over",), err
    for stream, redirection in CLOSED.items():
        status, shown, told = once(redirection)
        assert "Traceback" not in told, told
        if (path, stream) == (("ingest",), "stdin"):
            assert (status, shown) == (2, "")
            assert "stdin is closed" in told
            continue
        assert status == usual, (stream, shown, told)
        assert bool(shown) == (bool(out) and stream != "stdout"), (stream, shown)
        assert bool(told) == (bool(err) and stream != "stderr"), (stream, told)


def test_command_without_any_stream_works(given: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ROWS + "garbage\n" * 50 + '{"id": 3}\n')
    where = [f"--{name}={value}" for name, value in given.items()]
    line = ["ingest", str(tmp_path / "rows.jsonl"), "--key", "id", "--on-error", "skip", *where]
    usual = run([*line, "--json"])
    assert '"acknowledged": 3, "skipped": 50' in usual[1]
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.execute("DELETE FROM rows")
        connection.commit()
        assert run(line, "<&- >&- 2>&-") == (usual[0], "", "")
        # Not even a byte of what it says about garbage is in the database.
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = connection.execute("SELECT key FROM rows ORDER BY key").fetchall()
        assert rows == [("1",), ("2",), ("3",)]


def test_question_that_cant_be_answered_is_an_error(given: dict[str, str]) -> None:
    async def refuse() -> None:
        backend = FaultyBackend(MemoryBackend())
        backend.poison = {"bad": RecordRejected("odd")}
        async with Buffer[int](given["redis"], backend=backend, namespace=given["namespace"]) as buffer:
            await buffer.set("bad", 1)
            with pytest.raises(DeadLettered):
                await buffer.drain(timeout=5)

    asyncio.run(refuse())
    where = [f"--{name}={given[name]}" for name in ("redis", "namespace")]
    status, _, told = run(["dead", "drop", "bad", *where], "<&-")
    assert status == 2
    assert "Error: stdin is closed" in told
    assert run(["dead", "list", *where])[1].count("odd") == 1, "nothing was dropped"


@pytest.mark.parametrize(
    "line",
    [["--help"], ["--version"], ["worker", "--help"], ["backends"], ["backends", "--json"], ["status"], ["keys"]],
    ids=" ".join,
)
def test_output_that_nobody_reads_ends_a_command_quietly(given: dict[str, str], line: list[str]) -> None:
    if line[0] in ("status", "keys"):
        line = [*line, "--redis", given["redis"], "--namespace", given["namespace"]]
    status, _, told = without_reader(line, "stdout")
    assert (status, told) == (EXIT_PIPE, "")


def test_watch_ends_when_its_reader_does(given: dict[str, str]) -> None:
    line = shlex.join(
        [
            sys.executable,
            "-m",
            "asyncwb",
            "status",
            "--watch",
            "--redis",
            given["redis"],
            "--namespace",
            given["namespace"],
        ]
    )
    done = subprocess.run(
        ["bash", "-c", f"{line} | head -1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "namespace" in done.stdout
    assert done.stdout.splitlines()[-1] == str(EXIT_PIPE)
    assert done.stderr == ""


def test_ingest_goes_on_though_nobody_hears_what_it_skips(given: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("garbage\n" * 3000 + ROWS)
    where = [f"--{name}={value}" for name, value in given.items()]
    line = ["ingest", str(tmp_path / "rows.jsonl"), "--key", "id", "--on-error", "skip", "--json", *where]
    usual = run(line)
    status, shown, _ = without_reader(line, "stderr")
    assert status == usual[0]
    assert '"acknowledged": 2, "skipped": 3000' in shown


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
@pytest.mark.parametrize("line", [["backends"], ["backends", "--json"]], ids=" ".join)
def test_output_that_cant_be_written_is_an_error(line: list[str]) -> None:
    status, _, told = run(line, ">/dev/full")
    assert status == 2
    assert told == "Error: stdout can't be written: No space left on device\n"


def test_unbuffered_output_stays_so() -> None:
    code = (
        "import os; from asyncwb.cli.streams import standard_streams\n"
        "with standard_streams(): print(1, end=''); os._exit(0)"
    )
    for options, seen in (["-u"], "1"), ([], ""):
        done = subprocess.run(
            [sys.executable, *options, "-c", code], capture_output=True, text=True, check=True, env=ENVIRONMENT
        )
        assert done.stdout == seen


def test_descriptors_are_handed_on_to_children() -> None:
    code = (
        "import subprocess, sys; from asyncwb.cli.streams import standard_streams\n"
        "with standard_streams(): sys.exit(subprocess.run(['/bin/sh', '-c', 'echo x']).returncode)"
    )
    done = subprocess.run(["/bin/sh", "-c", f"exec {shlex.join([sys.executable, '-c', code])} >&-"], check=False)
    assert done.returncode == 0
