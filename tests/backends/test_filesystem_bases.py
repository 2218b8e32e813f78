"""The filesystem backend: the lock that records with a base need, and what a process that keeps it does to others."""

import fcntl
from collections.abc import Iterator

import pytest

from asyncwb import BackendUnavailable
from asyncwb.testing.contract import put
from asyncwb.testing.contract.records import on
from asyncwb_backends.filesystem import FileBackend, publishing


@pytest.fixture
def locked(file_backend: FileBackend, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A descriptor of the lock's file; others wait for it only briefly."""
    monkeypatch.setattr(publishing, "_WAIT_SECONDS", 0.1)
    with (file_backend.path / ".asyncwb" / "lock").open("w") as file:
        yield file.fileno()


async def test_saves_without_a_base_share_the_lock_and_one_with_a_base_waits(
    file_backend: FileBackend, locked: int
) -> None:
    fcntl.flock(locked, fcntl.LOCK_SH)
    assert await file_backend.save([put("1", 1)]) == 0
    with pytest.raises(BackendUnavailable, match=r"another process has held \.asyncwb/lock in it for 0\.1 s: is one"):
        await file_backend.save([put("2", 1), on(1, put("1", 2))])
    assert set(await file_backend.load(["1", "2"])) == {"1"}, "nothing of that batch was published"
    fcntl.flock(locked, fcntl.LOCK_UN)
    assert await file_backend.save([put("2", 1), on(1, put("1", 2))]) == 0


async def test_save_fails_while_another_process_keeps_the_lock_and_reads_go_on(
    file_backend: FileBackend, locked: int
) -> None:
    await file_backend.save([put("1", 1)])
    fcntl.flock(locked, fcntl.LOCK_EX)
    with pytest.raises(BackendUnavailable, match="End it, or let it go on"):
        await file_backend.save([put("2", 1)])
    assert set(await file_backend.load(["1", "2"])) == {"1"}
    assert await file_backend.save([put("1", 1)]) == 1, "a stale record needs no lock"
    assert list((file_backend.path / ".asyncwb" / "drafts").iterdir()) == []
    fcntl.flock(locked, fcntl.LOCK_UN)
    assert await file_backend.save([put("2", 1)]) == 0


async def test_record_with_another_base_removes_no_older_file(file_backend: FileBackend) -> None:
    await file_backend.save([put("1", 1)])
    assert await file_backend.save([on(0, put("1", 5)), on(3, put("1" * 300, 5))]) == 2
    names = {path.name for path in file_backend.path.rglob("1*")}
    assert names == {f"1.{put('1', 1).version}.json"}, "neither a value nor the name of a long key"
