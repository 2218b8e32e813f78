"""The filesystem backend: what is synced and when, and what becomes of a save if the disk is full or away."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from asyncwb import BackendUnavailable, ConfigurationError
from asyncwb.testing.contract import put
from asyncwb_backends.filesystem import FileBackend, disk


async def test_full_disk_is_temporary_and_leaves_no_drafts(
    file_backend: FileBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    await file_backend.save([put("3", 1, b'"old"')])
    written, write = 0, os.write

    def full(descriptor: int, data: Any) -> int:
        nonlocal written
        written += 1
        if written > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    records = [put(str(number), 2) for number in range(10)]
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(BackendUnavailable, match="No space left"):
            await file_backend.save(records)
    assert list((file_backend.path / ".asyncwb" / "drafts").iterdir()) == []
    assert (await file_backend.load(["3"]))["3"].payload == b'"old"'
    assert await file_backend.save(records) == 0


@pytest.mark.parametrize("sync", ["batch", "file"])
async def test_content_is_synced_before_its_name_and_the_name_before_older_files_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: str
) -> None:
    calls: list[str] = []

    def spy(name: str) -> None:
        real = getattr(disk, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(disk, name, call)

    backend = FileBackend(tmp_path / "data", fanout=0, sync=sync)
    await backend.open(namespace="one")
    try:
        await backend.save([put(str(number), 1) for number in range(10)])
        for name in ("create", "fsync", "sync_all_of", "publish", "remove"):
            spy(name)
        await backend.save([put(str(number), 2) for number in range(10)])
    finally:
        await backend.close()
    if sync == "batch" and disk.syncs_in_batches(10):
        assert calls == [*["create"] * 10, "sync_all_of", *["publish"] * 10, "sync_all_of", "remove", "remove"]
    else:
        assert calls == [*["create", "fsync"] * 10, *["publish"] * 10, "fsync", "remove", "remove"]


async def test_stale_record_is_durable_too(file_backend: FileBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may have published it and been frozen before it synced the folder."""
    await file_backend.save([put("42", 1)])
    synced: list[int] = []
    fsync = disk.fsync

    def spy(descriptor: int) -> None:
        synced.append(descriptor)
        fsync(descriptor)

    monkeypatch.setattr(disk, "fsync", spy)
    assert await file_backend.save([put("42", 1)]) == 1
    assert len(synced) == 1


async def test_what_is_shown_as_durable_is_synced_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is seen before its folder is synced; few folders are synced one by one, many with their file system."""
    backend = FileBackend(tmp_path / "data")
    await backend.open(namespace="one")
    records = [put(str(number), 1) for number in range(100)]
    await backend.save(records)
    synced: list[str] = []
    for name in ("fsync", "sync_all_of"):
        real = getattr(disk, name)

        def spy(descriptor: int, name: str = name, real: Any = real) -> None:
            synced.append(name)
            real(descriptor)

        monkeypatch.setattr(disk, name, spy)
    assert set(await backend.load_durable(["1", "2", "1000"])) == {"1", "2"}
    assert synced == ["fsync"] * 3, "two folders, and the one that has their names"
    synced.clear()
    assert set(await backend.load_durable([each.key for each in records])) == {each.key for each in records}
    assert set(synced) == {"sync_all_of" if disk.syncs_in_batches(100) else "fsync"}
    synced.clear()
    assert await backend.load_durable(["1000"]) == {}
    assert not synced
    await backend.close()


async def test_folder_that_is_no_longer_mounted_is_not_an_empty_one(file_backend: FileBackend, tmp_path: Path) -> None:
    await file_backend.save([put("42", 1)])
    file_backend.path.rename(tmp_path / "away")
    for mounted in (False, True):
        if mounted:
            file_backend.path.mkdir()
        with pytest.raises(BackendUnavailable, match="is it mounted"):
            await file_backend.load(["42"])
        with pytest.raises(BackendUnavailable, match="is it mounted"):
            await file_backend.save([put("42", 2)])
        with pytest.raises(BackendUnavailable, match="is it mounted"):
            await file_backend.new_epoch(1)


async def test_missing_parent_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="doesn't exist, make it first"):
        await FileBackend(tmp_path / "none" / "data").open(namespace="one")


async def test_folder_of_other_names_is_refused(tmp_path: Path) -> None:
    await FileBackend(tmp_path / "data", fanout=2).open(namespace="one")
    for other in (FileBackend(tmp_path / "data", fanout=3), FileBackend(tmp_path / "data", suffix=".txt")):
        with pytest.raises(ConfigurationError, match="was made with"):
            await other.open(namespace="one")


async def test_use_before_open_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="isn't open"):
        await FileBackend(tmp_path / "data").save([put("a", 1)])
