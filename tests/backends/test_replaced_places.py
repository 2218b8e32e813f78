"""A file, folder or table that is deleted or replaced while open: noticed before a save counts, and opened anew."""

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from asyncwb import Backend, BackendReplaced, BackendUnavailable, Buffer
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.testing.contract import put
from asyncwb_backends.filesystem import FileBackend
from asyncwb_backends.filesystem.saving import Saving
from asyncwb_backends.sqlite import SQLiteBackend
from asyncwb_backends.sqlite import backend as sqlite_backend


def guarded(backend: Backend) -> BackendAdapter:
    """Returns the backend as the core uses it, which opens it anew."""
    return BackendAdapter(backend, name="test", namespace="asyncwb", connect_timeout_seconds=5, save_timeout_seconds=5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[BackendAdapter]:
    """Makes a database with the key `old` in it, and a copy of it, `copy.db`."""
    backend = guarded(SQLiteBackend(path))
    await backend.open()
    await backend.save([put("old", 1)])
    restored(path).close()
    yield backend
    await backend.close()


def restored(path: Path) -> sqlite3.Connection:
    """Copies the database as backup programs do."""
    copy = sqlite3.connect(path.with_name("copy.db"))
    with sqlite3.connect(path) as source:
        source.backup(copy)
    source.close()
    return copy


def replace(path: Path) -> None:
    os.replace(path.with_name("copy.db"), path)


def move_away(path: Path) -> None:
    path.rename(path.with_name("away.db"))


def delete(path: Path) -> None:
    path.unlink()


def delete_log(path: Path) -> None:
    Path(f"{path}-wal").unlink()


def delete_shared_memory(path: Path) -> None:
    Path(f"{path}-shm").unlink()


def keys(path: Path) -> set[str]:
    """Returns the keys that another program finds in the file of that name."""
    connection = sqlite3.connect(path)
    try:
        return {row[0] for row in connection.execute("SELECT key FROM asyncwb WHERE version > 0")}
    finally:
        connection.close()


CHANGES = [replace, move_away, delete, delete_log, delete_shared_memory]


@pytest.mark.parametrize("change", CHANGES)
async def test_save_into_a_file_without_its_name_does_not_count_and_the_next_one_is_found(
    database: BackendAdapter, path: Path, change: Callable[[Path], None]
) -> None:
    change(path)
    with pytest.raises(BackendReplaced, match=r"a\.db"):
        await database.save([put("new", 2)])
    await database.save([put("new", 2)])
    assert "new" in keys(path)
    assert set(await database.load(["new"])) == {"new"}


@pytest.mark.parametrize("change", CHANGES)
async def test_file_that_is_replaced_between_writing_and_the_commit_is_noticed(
    database: BackendAdapter, path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    apply = sqlite_backend._apply

    async def apply_and_change(*arguments: Any) -> int:
        applied = await apply(*arguments)
        change(path)
        return applied

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_backend, "_apply", apply_and_change)
        with pytest.raises(BackendReplaced):
            await database.save([put("new", 2)])
    await database.save([put("new", 2)])
    assert "new" in keys(path)


async def test_nothing_is_read_from_a_file_that_was_replaced(database: BackendAdapter, path: Path) -> None:
    await database.save([put("later", 2)])
    replace(path)
    with pytest.raises(BackendReplaced):
        await database.load(["old", "later"])
    assert set(await database.load(["old", "later"])) == {"old"}


async def test_no_epoch_is_allotted_by_a_file_that_was_replaced(database: BackendAdapter, path: Path) -> None:
    replace(path)
    with pytest.raises(BackendReplaced):
        await database.new_epoch(7)
    assert await database.new_epoch(7) == 7
    replacement = sqlite3.connect(path)
    assert replacement.execute("SELECT value FROM asyncwb_meta WHERE name = 'epoch'").fetchone() == (7,)
    replacement.close()


@pytest.mark.parametrize("change", [replace, move_away])
async def test_log_of_a_file_that_lost_its_name_is_kept_and_not_applied_to_another(
    database: BackendAdapter, path: Path, change: Callable[[Path], None]
) -> None:
    """It holds what was committed last; SQLite itself would apply it to the new file, or delete it."""
    await database.save([put("later", 2)])
    os.link(path, path.with_name("former.db"))
    change(path)
    with pytest.raises(BackendReplaced, match="is kept as") as caught:
        await database.save([put("new", 3)])
    await database.save([put("new", 3)])
    assert "later" not in keys(path)
    Path(str(caught.value).partition("is kept as ")[2]).rename(path.with_name("former.db-wal"))
    assert {"old", "later"} <= keys(path.with_name("former.db"))


async def test_file_behind_a_link_is_the_one_that_the_link_leads_to(tmp_path: Path) -> None:
    one, two, link = tmp_path / "one.db", tmp_path / "two.db", tmp_path / "link.db"
    link.symlink_to(one)
    backend = guarded(SQLiteBackend(link))
    await backend.open()
    try:
        await backend.save([put("a", 1)])
        link.unlink()
        link.symlink_to(two)
        with pytest.raises(BackendReplaced):
            await backend.save([put("b", 1)])
        await backend.save([put("b", 1)])
        assert keys(two) == {"b"}
    finally:
        await backend.close()


async def test_relative_path_stays_where_it_was_when_the_process_changes_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    backend = guarded(SQLiteBackend("a.db"))
    await backend.open()
    try:
        monkeypatch.chdir("/")
        await backend.save([put("a", 1)])
        assert keys(tmp_path / "a.db") == {"a"}
    finally:
        await backend.close()


async def test_what_flush_calls_saved_is_in_the_file_that_has_the_name(
    valkey_url: str, namespace: str, path: Path
) -> None:
    async with Buffer[int](valkey_url, backend=f"sqlite:///{path}?table=asyncwb", namespace=namespace) as buffer:
        await buffer.set("old", 1)
        await buffer.flush("old")
        for number in range(5):
            restored(path).close()
            replace(path)
            await buffer.set(str(number), number)
            await buffer.flush(str(number), timeout=10)
            assert str(number) in keys(path)


# Folders


async def test_folder_that_is_replaced_is_prepared_before_it_is_used(tmp_path: Path) -> None:
    backend = guarded(FileBackend(tmp_path / "data", fanout=0))
    await backend.open()
    try:
        await backend.save([put("old", 1)])
        shutil.copytree(tmp_path / "data", tmp_path / "copy")
        await backend.save([put("later", 1)])
        shutil.rmtree(tmp_path / "copy" / ".asyncwb" / "drafts")
        (tmp_path / "data").rename(tmp_path / "away")
        (tmp_path / "copy").rename(tmp_path / "data")
        with pytest.raises(BackendReplaced, match="not the one that was opened"):
            await backend.load(["old"])
        assert set(await backend.load(["old", "later"])) == {"old"}
        assert await backend.save([put("later", 1)]) == 0
    finally:
        await backend.close()


@pytest.mark.parametrize("put_back", [False, True])
async def test_folder_that_is_moved_during_a_save_has_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put_back: bool
) -> None:
    backend = guarded(FileBackend(tmp_path / "data"))
    await backend.open()
    run = Saving.run

    def run_and_move(*arguments: Any) -> int:
        stale = run(*arguments)
        (tmp_path / "data").rename(tmp_path / "away")
        if put_back:
            shutil.copytree(tmp_path / "away", tmp_path / "data")
        return stale

    try:
        with monkeypatch.context() as patch:
            patch.setattr(Saving, "run", run_and_move)
            with pytest.raises(BackendUnavailable, match="moved, replaced or unmounted"):
                await backend.save([put("a", 1)])
        with pytest.raises(BackendUnavailable):
            await backend.save([put("a", 1)])
        assert (tmp_path / "data").exists() is put_back, "an empty place to mount something isn't the folder"
    finally:
        await backend.close()


# The core


async def test_backend_that_was_replaced_is_closed_and_opened_before_its_next_call() -> None:
    calls: list[str] = []

    class Replaced(SQLiteBackend):
        async def open(self, *, namespace: str, former: str | None = None) -> None:
            calls.append("open")

        async def close(self) -> None:
            calls.append("close")

        async def highest_version(self) -> None:
            """Nothing is stored."""

        async def load(self, keys: Any) -> Any:
            calls.append("load")
            if calls.count("load") == 1:
                raise BackendReplaced("dropped")
            return {}

    backend = guarded(Replaced("unused.db"))
    await backend.open()
    with pytest.raises(BackendReplaced):
        await backend.load([])
    assert calls == ["open", "load"], "other calls may be under way"
    await backend.load([])
    await backend.load([])
    assert calls == ["open", "load", "close", "open", "load", "load"]
