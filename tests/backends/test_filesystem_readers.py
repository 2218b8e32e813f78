"""The filesystem backend: a listing is no snapshot, and yet whoever reads finds every key that has a value."""

import asyncio
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from asyncwb import Record
from asyncwb.testing.contract import put, tombstone, version
from asyncwb_backends.filesystem import FileBackend, disk, readers

LONG = "k" * 500
"""A key whose name is hashed, so that it has two files."""


@pytest.fixture(params=[True, False], ids=["locks", "flock"])
def kind_of_lock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The locks of Linux, and those of every other system."""
    monkeypatch.setattr(readers, "_HAS_OFD", request.param)


@pytest.fixture
async def other(file_backend: FileBackend) -> AsyncIterator[FileBackend]:
    """Another process's, as it were: all that the two share is the folder."""
    other = FileBackend(file_backend.path, fanout=0)
    await other.open(namespace="one")
    yield other
    await other.close()


def names(backend: FileBackend) -> set[str]:
    return {path.name for path in backend.path.iterdir() if path.name != ".asyncwb"}


def change_during_a_listing(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object], *, skip: int = 0) -> None:
    """Makes the next listing one that shows as little as it may: only what was there from its beginning to its end.

    Args:
        skip: how many listings are as usual before.
    """
    real = os.listdir
    coming = iter(range(skip, -1, -1))

    def listdir(folder: int) -> list[str]:
        if next(coming):
            return real(folder)
        monkeypatch.setattr(os, "listdir", real)
        before = real(folder)
        change()
        after = set(real(folder))
        return [name for name in before if name in after]

    monkeypatch.setattr(os, "listdir", listdir)


@pytest.mark.usefixtures("kind_of_lock")
async def test_epoch_that_is_replaced_during_a_listing_is_found(
    file_backend: FileBackend, other: FileBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first listing is for the owner, whose files are never removed.
    allot = partial(other._folder.new_epoch, namespace="one")
    assert await file_backend.new_epoch(1) == 1
    change_during_a_listing(monkeypatch, lambda: [allot(at_least) for at_least in (1, 7)], skip=1)
    assert await file_backend.new_epoch(0) == 1
    assert await file_backend.new_epoch(0) == 7
    change_during_a_listing(monkeypatch, lambda: [allot(1), allot(1)], skip=1)
    assert await file_backend.new_epoch(1) == 10
    assert os.listdir(file_backend.path / ".asyncwb").count("epoch.10") == 1


@pytest.mark.usefixtures("kind_of_lock")
@pytest.mark.parametrize("newer", [put, tombstone])
@pytest.mark.parametrize("key", ["42", LONG])
async def test_key_that_is_replaced_during_a_listing_is_found(
    file_backend: FileBackend,
    other: FileBackend,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    newer: Callable[[str, int], Record],
) -> None:
    await file_backend.save([put(key, 1)])
    change_during_a_listing(monkeypatch, lambda: [other._folder.save([newer(key, seq)]) for seq in (2, 3)])
    assert (await file_backend.load([key]))[key].version == version(1)
    assert (await file_backend.load([key]))[key].version == version(3)
    await other.save([])
    assert all(str(version(3)) in name for name in names(file_backend)), "what is older goes once the reader has left"


@pytest.mark.usefixtures("kind_of_lock")
@pytest.mark.parametrize("key", ["42", LONG])
async def test_save_that_lists_while_the_key_is_replaced_knows_that_it_is_stale(
    file_backend: FileBackend, other: FileBackend, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    await file_backend.save([put(key, 2)])
    change_during_a_listing(monkeypatch, lambda: other._folder.save([put(key, 3)]))
    assert await file_backend.save([put(key, 1)]) == 1
    assert (await file_backend.load([key]))[key].version == version(3)


async def test_sweep_that_lists_while_a_key_is_replaced_removes_only_what_is_older(
    file_backend: FileBackend, other: FileBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    await file_backend.save([tombstone("42", 5)])
    then = time.time() - 200_000
    os.utime(file_backend.path / f"42.{version(5)}.deleted", (then, then))
    (file_backend.path / f"42.{version(3)}.json").write_bytes(b"3")
    change_during_a_listing(monkeypatch, lambda: other._folder.save([put("42", 6)]))
    file_backend._folder.sweep([""])
    assert (await file_backend.load(["42"]))["42"].version == version(6)


async def test_tombstone_stays_while_something_older_waits_for_its_readers(file_backend: FileBackend) -> None:
    await file_backend.save([tombstone("42", 5)])
    then = time.time() - 200_000
    os.utime(file_backend.path / f"42.{version(5)}.deleted", (then, then))
    (file_backend.path / f"42.{version(3)}.json").write_bytes(b"3")
    with disk.opened(str(file_backend.path)) as folder, readers.reading(folder):
        file_backend._folder.sweep([""])
        assert len(names(file_backend)) == 2
    file_backend._folder.sweep([""])
    assert names(file_backend) == set()


async def test_reader_that_is_frozen_holds_up_nobody_and_neither_does_one_that_comes_later(
    file_backend: FileBackend,
) -> None:
    await file_backend.save([put("42", 1), put("43", 1)])
    with disk.opened(str(file_backend.path)) as frozen, readers.reading(frozen):
        await file_backend.save([put("42", 2)])
        assert f"42.{version(1)}.json" in names(file_backend), "it may be looking for it"
        with disk.opened(str(file_backend.path)) as later, readers.reading(later):
            readers._lock(frozen, fcntl.F_UNLCK, 0, readers._END)
            await file_backend.save([put("43", 2)])
            assert f"42.{version(1)}.json" not in names(file_backend), "who came later finds the newer one"
            assert f"43.{version(1)}.json" in names(file_backend)
    await file_backend.save([])
    assert names(file_backend) == {f"{key}.{version(2)}.json" for key in ("42", "43")}


async def test_what_waits_for_a_reader_is_not_removed_from_a_folder_that_was_restored(
    file_backend: FileBackend, other: FileBackend
) -> None:
    await file_backend.save([put("42", 1)])
    with disk.opened(str(file_backend.path)) as folder, readers.reading(folder):
        await file_backend.save([put("42", 2)])
    (file_backend.path / f"42.{version(2)}.json").unlink()
    await file_backend.save([])
    assert (await other.load(["42"]))["42"].version == version(1)


def test_readers_are_told_apart_and_a_killed_one_is_gone(tmp_path: Path) -> None:
    program = (
        "import sys; from asyncwb_backends.filesystem import disk, readers\n"
        "with disk.opened(sys.argv[1]) as folder, readers.reading(folder): print(flush=True); input()"
    )
    with disk.opened(str(tmp_path)) as mine, disk.opened(str(tmp_path)) as probe:
        assert readers.present(probe) == frozenset()
        with readers.reading(mine):
            first = readers.present(probe)
            child = subprocess.Popen(
                [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            try:
                assert child.stdout is not None
                child.stdout.readline()
                assert len(first) == 1
                assert len(readers.present(probe)) == 2
                assert first < readers.present(probe)
            finally:
                child.kill()
                child.communicate()
            assert readers.present(probe) == first
        assert readers.present(probe) == frozenset()


def test_descriptor_that_a_forked_child_has_as_well_makes_it_no_reader(tmp_path: Path) -> None:
    with disk.opened(str(tmp_path)) as folder, disk.opened(str(tmp_path)) as probe:
        with readers.reading(folder):
            childs = os.dup(folder)  # as fork does it
        assert readers.present(probe) == frozenset()
        os.close(childs)


WRITER = """
import asyncio, sys
from asyncwb.testing.contract import put
from asyncwb_backends.filesystem import FileBackend

async def main(path, offset):
    backend = FileBackend(path, fanout=0)
    await backend.open(namespace="one")
    seq = 2
    while True:
        await backend.save([put(str(number), seq) for number in range(offset, 4000, 80)])
        seq, offset = seq + 1, (offset + 7) % 80

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


@pytest.mark.long
async def test_keys_that_always_have_a_value_are_always_found(file_backend: FileBackend) -> None:
    """Several thousand files in one folder, so that a listing takes several calls of the system."""
    keys = [str(number) for number in range(4000)]
    for start in range(0, len(keys), 1000):
        await file_backend.save([put(key, 1) for key in keys[start : start + 1000]])
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(file_backend.path), str(offset)]) for offset in (0, 40)
    ]
    missing, rounds, end = 0, 0, time.monotonic() + 8
    try:
        while time.monotonic() < end:
            found = await asyncio.gather(*(file_backend.load(keys[start::8]) for start in range(8)))
            missing += len(keys) - sum(map(len, found))
            rounds += 8
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert missing == 0, f"in {rounds} listings"
    assert rounds > 20
    assert all(writer.returncode == -9 for writer in writers), "they wrote all the time"
