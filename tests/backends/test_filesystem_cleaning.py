"""The filesystem backend: older files, tombstones and drafts are removed in time."""

import os
import time
from pathlib import Path

from asyncwb.testing.contract import put, tombstone, version
from asyncwb_backends.filesystem import FileBackend
from tests.harness.filesystem import V1, files


async def test_what_a_frozen_writer_published_late_is_collected(file_backend: FileBackend) -> None:
    await file_backend.save([put("42", 5)])
    late = file_backend.path / f"42.{version(3)}.json"
    late.write_bytes(b"3")
    assert (await file_backend.load(["42"]))["42"].version == version(5)
    file_backend._purge_timer.again()
    await file_backend.save([put("other", 1)])
    assert not late.exists()


async def test_old_tombstones_are_purged_and_nothing_comes_back(tmp_path: Path) -> None:
    backend = FileBackend(tmp_path / "data", fanout=0, tombstone_seconds=100)
    await backend.open(namespace="one")
    try:
        await backend.save([tombstone("old", 5), tombstone("new", 5)])
        then = time.time() - 101
        os.utime(backend.path / f"old.{version(5)}.deleted", (then, then))
        (backend.path / f"old.{version(3)}.json").write_bytes(b"3")
        backend._purge_timer.again()
        await backend.save([put("live", 1)])
        assert set(files(backend)) == {f"new.{version(5)}.deleted", f"live.{V1}.json"}
    finally:
        await backend.close()


async def test_sweep_comes_to_every_bucket(tmp_path: Path) -> None:
    backend = FileBackend(tmp_path / "data", fanout=1, tombstone_seconds=0.0)
    await backend.open(namespace="one")
    try:
        await backend.save([tombstone(str(number), 1) for number in range(100)])
        for seq in range(17):
            backend._purge_timer.again()
            await backend.save([put("live", seq + 1)])
        assert len(files(backend)) == 1
    finally:
        await backend.close()


async def test_drafts_of_a_killed_process_are_removed(file_backend: FileBackend) -> None:
    drafts = file_backend.path / ".asyncwb" / "drafts"
    old, new = drafts / "1-old", drafts / "2-new"
    for draft in (old, new):
        draft.write_bytes(b"half a val")
    os.utime(old, (time.time() - 4000, time.time() - 4000))
    await file_backend.close()
    await file_backend.open(namespace="one")
    assert [path.name for path in drafts.iterdir()] == ["2-new"], "somebody may be writing that"
    await file_backend.save([put(str(number), 1) for number in range(20)])
    assert [path.name for path in drafts.iterdir()] == ["2-new"]
