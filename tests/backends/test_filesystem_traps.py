"""The filesystem backend: what others planted or left in its folder is neither followed nor lost."""

import os
from pathlib import Path

import pytest

from asyncwb import BackendUnavailable, RecordRejected, SaveError
from asyncwb.testing.contract import put, version
from asyncwb_backends.filesystem import FileBackend
from tests.harness.filesystem import V1, files


async def test_hash_collision_is_refused_and_loses_nothing(
    file_backend: FileBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Same:
        def hexdigest(self) -> str:
            return "0" * 64

    monkeypatch.setattr("asyncwb_backends.filesystem.names.hashlib.sha256", lambda raw: Same())
    one, two = "x" * 500 + "1", "x" * 500 + "2"
    await file_backend.save([put(one, 1, b"1")])
    with pytest.raises(SaveError, match="same hash") as caught:
        await file_backend.save([put(two, 2, b"2"), put("other", 1)])
    assert set(caught.value.failed) == {two}
    assert isinstance(caught.value.failed[two], RecordRejected)
    assert set(await file_backend.load([one, two, "other"])) == {one, "other"}


async def test_planted_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    backend = FileBackend(tmp_path / "data", fanout=1)
    outside = tmp_path / "outside"
    outside.mkdir()
    await backend.open(namespace="one")
    try:
        buckets = {backend._names.stem(str(number)).bucket for number in range(200)}
        trapped = min(buckets)
        (backend.path / trapped).symlink_to(outside)
        records = [put(str(number), 1) for number in range(200)]
        with pytest.raises(SaveError, match="stands in the place") as caught:
            await backend.save(records)
        inside = {record.key for record in records if backend._names.stem(record.key).bucket == trapped}
        assert set(caught.value.failed) == inside
        assert not any(isinstance(reason, RecordRejected) for reason in caught.value.failed.values()), "may be mended"
        assert list(outside.iterdir()) == []
        with pytest.raises(BackendUnavailable):
            await backend.load(sorted(inside))
        (backend.path / trapped).unlink()
        assert await backend.save(records) == 200 - len(inside)
    finally:
        await backend.close()


async def test_planted_link_to_a_file_is_neither_read_nor_written(file_backend: FileBackend, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b'"secret"')
    (file_backend.path / f"42.{version(9)}.json").symlink_to(secret)
    assert await file_backend.load(["42"]) == {}
    assert await file_backend.save([put("42", 1)]) == 0, "the link makes nothing stale"
    assert (await file_backend.load(["42"]))["42"].version == V1
    with pytest.raises(SaveError, match="stands in the place"):
        await file_backend.save([put("42", 9)])
    assert secret.read_bytes() == b'"secret"'


@pytest.mark.parametrize("what", ["fifo", "folder", "dangling"])
async def test_planted_thing_that_is_no_file_is_ignored(file_backend: FileBackend, what: str) -> None:
    trap = file_backend.path / f"42.{version(9)}.json"
    if what == "fifo":
        os.mkfifo(trap)
    elif what == "folder":
        trap.mkdir()
    else:
        trap.symlink_to("nowhere")
    assert await file_backend.save([put("42", 1)]) == 0
    assert (await file_backend.load(["42"]))["42"].version == V1


async def test_own_folder_replaced_by_a_link_is_not_followed(tmp_path: Path) -> None:
    data, outside = tmp_path / "data", tmp_path / "outside"
    data.mkdir()
    outside.mkdir()
    (data / ".asyncwb").symlink_to(outside)
    with pytest.raises(BackendUnavailable):
        await FileBackend(data).open(namespace="one")
    assert list(outside.iterdir()) == []


async def test_other_peoples_files_are_left_alone(file_backend: FileBackend) -> None:
    others = ["README", "42.json", "42.x.json", ".42.1.json", "notes.5.txt"]
    for name in others:
        (file_backend.path / name).write_text("mine")
    await file_backend.save([put("42", 1)])
    file_backend._purge_timer.again()
    await file_backend.save([put("42", 2)])
    assert set(files(file_backend)) == {*others, f"42.{version(2)}.json"}
