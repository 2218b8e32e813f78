"""The SQLite backend: the contract, the table that users see, sharing, crashes and bad input."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from asyncwb import Backend, BackendUnavailable, Codec, ConfigurationError, Record
from asyncwb.plugins.registry import backend_from_url
from asyncwb.testing.contract import BackendContract, Outage, put, tombstone, version
from asyncwb_backends.sqlite import SQLiteBackend, from_url
from asyncwb_backends.sqlite import connection as sqlite_connection

CODEC: Codec[Any] = Codec("json")


def live_through(backend: SQLiteBackend, seconds: float) -> None:
    """Advances both clocks of the backend's process, and makes it check them at the next save."""
    wall, monotonic = backend._clock._wall, backend._clock._monotonic
    backend._clock._wall = lambda: wall() + seconds
    backend._clock._monotonic = lambda: monotonic() + seconds
    backend._purge_timer.again()


class TestSQLiteBackend(BackendContract):
    cannot = {"progress": "SQLite has one writer at a time, and one that is frozen keeps the file's lock"}

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        (tmp_path / "disk").mkdir()
        return f"sqlite:///{tmp_path}/disk/a.db?table=asyncwb"

    @pytest.fixture
    def outage(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outage]:
        """Acts as if the disk were unmounted, or another program held the file's lock."""
        monkeypatch.setattr(sqlite_connection, "_CLOSE_SECONDS", 1.0)  # to be quick
        disk, away = tmp_path / "disk", tmp_path / "away"
        with closing(sqlite3.connect(disk / "a.db", isolation_level=None, check_same_thread=False)) as other:
            yield Outage(
                stop=lambda: disk.rename(away),
                start=lambda: away.rename(disk),
                freeze=lambda: other.execute("BEGIN IMMEDIATE"),
                thaw=lambda: other.execute("ROLLBACK"),
            )

    async def let_time_pass(self, backend: Backend, url: str, seconds: float) -> None:
        assert isinstance(backend, SQLiteBackend)
        live_through(backend, seconds)

    async def add_unversioned(self, backend: Backend, url: str, key: str) -> None:
        with closing(sqlite3.connect(url.removeprefix("sqlite://").partition("?")[0])) as other, other:
            other.execute("INSERT INTO asyncwb (key, value, codec, version) VALUES (?, '1', 'json', 0)", (key,))

    def poison(self) -> list[Record]:
        return [Record("poison", version(1), b"\xff is not UTF-8"), Record("\ud800", version(1), b"1")]


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[SQLiteBackend]:
    backend = SQLiteBackend(tmp_path / "a.db")
    await backend.open(namespace="asyncwb")
    yield backend
    await backend.close()


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


async def test_json_values_can_be_queried_in_sql(backend: SQLiteBackend) -> None:
    await backend.save([put("42", 1, b'{"name":"Ada","visits":3}'), put("43", 2, b'{"name":"Bob"}')])
    assert query(backend.path, "SELECT key, value->>'name' FROM asyncwb ORDER BY key") == [("42", "Ada"), ("43", "Bob")]


async def test_file_is_durable_on_commit(backend: SQLiteBackend) -> None:
    await backend.save([put("a", 1)])
    assert query(backend.path, "PRAGMA journal_mode") == [("wal",)]
    for connection in (backend._database._writer, backend._database._reader):
        assert connection is not None
        assert list(await connection.execute_fetchall("PRAGMA synchronous")) == [(2,)]


async def test_old_tombstones_are_purged(tmp_path: Path) -> None:
    backend = SQLiteBackend(tmp_path / "a.db", tombstone_seconds=0.0)
    await backend.open(namespace="asyncwb")
    try:
        await backend.save([tombstone(f"k{number}", 1) for number in range(2500)])
        backend._purge_timer.again()
        await asyncio.sleep(1.1)  # tombstones are dated in whole seconds
        for seq in range(2, 6):
            await backend.save([put("live", seq)])
        assert query(backend.path, "SELECT key FROM asyncwb") == [("live",)]
    finally:
        await backend.close()


async def test_tombstones_within_their_time_are_kept(backend: SQLiteBackend) -> None:
    await backend.save([tombstone("a", 1)])
    backend._purge_timer.again()
    await backend.save([put("b", 1)])
    assert set(await backend.load(["a", "b"])) == {"a", "b"}


async def test_tables_in_one_file_are_apart(tmp_path: Path) -> None:
    one, two = SQLiteBackend(tmp_path / "a.db", table="one"), SQLiteBackend(tmp_path / "a.db", table="two")
    for backend in (one, two):
        await backend.open(namespace="asyncwb")
    try:
        await one.save([put("a", 9)])
        assert await two.load(["a"]) == {}
        assert (await one.new_epoch(5), await two.new_epoch(1)) == (5, 1)
    finally:
        for backend in (one, two):
            await backend.close()


WRITER = """
import asyncio, sys
from asyncwb import Record
from asyncwb.records import make_version
from asyncwb_backends.sqlite import SQLiteBackend

async def main(path, offset, rounds):
    backend = SQLiteBackend(path)
    await backend.open(namespace="asyncwb")
    try:
        for number in range(rounds):
            version = make_version(1, number * 2 + offset + 1)
            await backend.save([Record(f"k{key}", version, b"%d" % version) for key in range(50)])
            print(number, flush=True)
    finally:
        await backend.close()

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


async def test_processes_share_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, str(path), str(offset), "60",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )
        for offset in (0, 1)
    ]  # fmt: skip
    for process in processes:
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
    highest = version(59 * 2 + 2)
    rows = query(path, "SELECT DISTINCT version, value FROM asyncwb")
    assert rows == [(highest, str(highest))]


def test_killed_process_leaves_whole_batches(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path), "0", "100000"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        for _ in range(20):
            last = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    (found,) = query(path, "SELECT count(*), min(version), max(version) FROM asyncwb")
    assert found[0] == 50
    assert found[1] == found[2], "a batch was saved in part"
    assert found[1] >= version(last * 2 + 1), "a save that had returned was lost"  # type: ignore[operator]


async def test_lock_held_by_another_program_is_waited_for(backend: SQLiteBackend) -> None:
    other = sqlite3.connect(backend.path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        save = asyncio.create_task(backend.save([put("a", 1)]))
        await asyncio.sleep(0.1)
        assert not save.done()
        other.execute("COMMIT")
        assert await save == 0
    finally:
        other.close()


async def test_reading_does_not_wait_for_a_writer(backend: SQLiteBackend) -> None:
    await backend.save([put("a", 1)])
    other = sqlite3.connect(backend.path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        assert set(await backend.load(["a"])) == {"a"}
        assert time.monotonic() - started < 5
    finally:
        other.close()


async def test_missing_folder_is_named(tmp_path: Path) -> None:
    backend = SQLiteBackend(tmp_path / "none" / "a.db")
    with pytest.raises(BackendUnavailable, match="doesn't exist, make it first"):
        await backend.open(namespace="asyncwb")
    await backend.close()


async def test_file_that_is_no_database_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"this is not SQLite" * 100)
    backend = SQLiteBackend(tmp_path / "a.db")
    with pytest.raises(BackendUnavailable, match="not a database"):
        await backend.open(namespace="asyncwb")


async def test_table_of_somebody_else_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute("CREATE TABLE asyncwb (id INTEGER PRIMARY KEY)")
    connection.close()
    with pytest.raises(ConfigurationError, match="other columns"):
        await SQLiteBackend(tmp_path / "a.db").open(namespace="asyncwb")


async def test_use_before_open_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="isn't open"):
        await SQLiteBackend(tmp_path / "a.db").save([put("a", 1)])


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///app.db", "app.db"),
        ("sqlite:////var/lib/app.db", "/var/lib/app.db"),
        ("sqlite:///data/my%20app.db", "data/my app.db"),
    ],
)
def test_url_names_the_file(url: str, path: str) -> None:
    assert from_url(url, codec=CODEC).path == Path(path)


def test_url_options() -> None:
    assert from_url("sqlite:///a.db?table=users", codec=CODEC).table.name == "users"
    assert isinstance(backend_from_url("sqlite:///a.db", codec=CODEC), SQLiteBackend)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("sqlite://app.db", "slashes"),
        ("sqlite:app.db", "slashes"),
        ("sqlite://user:secret@host/app.db", "slashes"),
        ("sqlite:///", "name a file"),
        ("sqlite:///:memory:", "isn't durable"),
        ("sqlite:///a.db?tabel=x", "'tabel'"),
        ("sqlite:///a.db?table=x;drop", "letter"),
        ('sqlite:///a.db?table=x"y', "letter"),
        ("sqlite:///a.db?table=", "letter"),
        ("sqlite:///a.db?tombstone_seconds=soon", "number of seconds"),
    ],
)
def test_bad_url_is_explained(url: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        from_url(url, codec=CODEC)
    assert "secret" not in str(caught.value)


TOO_MANY_FILES = """
import asyncio, os, resource, sys
from asyncwb import Buffer
from asyncwb.testing import MemoryBackend

async def main(path, url):
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    buffer = Buffer(url, backend=f"sqlite:///{path}", namespace="files", connect_timeout_seconds=0.5)
    opened = []
    try:
        while True:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        for _ in range(int(sys.argv[3])):
            os.close(opened.pop())
    try:
        await buffer.open()
    except Exception as error:
        sys.stdout.write(f"{type(error).__name__}: {error}")

asyncio.run(main(*sys.argv[1:3]))
"""


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (0, "RedisUnavailable: redis://127.0.0.1:"),
        (1, "unable to open database file; too many files are open in this process (`ulimit -n` is 64)"),
        (2, "unable to open database file; too many files are open in this process (`ulimit -n` is 64)"),
    ],
)
def test_too_many_open_files_are_told(tmp_path: Path, valkey_url: str, left: int, words: str) -> None:
    command = [sys.executable, "-c", TOO_MANY_FILES, str(tmp_path / "a.db"), valkey_url, str(left)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert words in done.stdout
    assert "oo many" in done.stdout


@pytest.mark.parametrize(
    ("path", "words"),
    [("no/folder/a.db", "no/folder doesn't exist, make it first"), ("", "it is a folder: name a file in it")],
)
async def test_path_that_cannot_be_opened_is_explained(tmp_path: Path, path: str, words: str) -> None:
    backend = SQLiteBackend(tmp_path / path)
    with pytest.raises(BackendUnavailable, match=words):
        await backend.open(namespace="asyncwb")


async def test_file_that_is_no_database_is_explained(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("key,value\n" * 1000)
    with pytest.raises(BackendUnavailable, match="name another file, or restore this one"):
        await SQLiteBackend(tmp_path / "a.db").open(namespace="asyncwb")
