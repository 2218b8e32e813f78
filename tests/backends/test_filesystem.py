"""The filesystem backend: the contract, the files that users see, planted traps, left-overs and durability."""

import errno
import os
import time
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwb import Backend, BackendUnavailable, Codec, ConfigurationError, Record, RecordRejected, SaveError
from asyncwb.plugins.registry import backend_from_url
from asyncwb.testing.contract import KEYS, BackendContract, Outage, put, tombstone, version
from asyncwb_backends.filesystem import FileBackend, disk, from_url
from asyncwb_backends.filesystem.names import Names

CODEC: Codec[Any] = Codec("json")
V1 = version(1)


class TestFileBackend(BackendContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        (tmp_path / "disk").mkdir()
        return f"file://{tmp_path}/disk/data"

    @pytest.fixture
    def outage(self, tmp_path: Path) -> Outage:
        """The disk is unmounted, so to speak."""
        disk, away = tmp_path / "disk", tmp_path / "away"
        return Outage(stop=lambda: disk.rename(away), start=lambda: away.rename(disk))

    async def let_time_pass(self, backend: Backend, url: str, seconds: float) -> None:
        assert isinstance(backend, FileBackend)
        for _, _, names, descriptor in os.fwalk(backend.path):
            for name in names:
                written = os.stat(name, dir_fd=descriptor).st_mtime
                os.utime(name, (written - seconds, written - seconds), dir_fd=descriptor)
        # All buckets at once.
        backend._sweep_buckets = len(backend._names.buckets())
        backend._purge_timer.again()

    def poison(self) -> list[Record]:
        return [Record("\ud800", V1, b"1")]


@pytest.mark.long
class TestFlatFileBackend(BackendContract):
    """Without sub-folders, each file synced for itself."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"file://{tmp_path}/data?fanout=0&sync=file&suffix=.txt"


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[FileBackend]:
    backend = FileBackend(tmp_path / "data", fanout=0)
    await backend.open(namespace="one")
    yield backend
    await backend.close()


def files(backend: FileBackend) -> dict[str, bytes]:
    """What a user sees."""
    return {
        str(path.relative_to(backend.path)): path.read_bytes()
        for path in backend.path.rglob("*")
        if path.is_file() and ".asyncwb" not in path.parts
    }


# What a user sees


async def test_file_is_exactly_the_value(backend: FileBackend) -> None:
    await backend.save([put("42", 1, b'{"name": "Ada"}'), Record("logo", V1, b"\x89PNG\0", codec="bytes")])
    assert files(backend) == {f"42.{V1}.json": b'{"name": "Ada"}', f"logo.{V1}.bin": b"\x89PNG\0"}
    await backend.save([put("42", 2, b"7"), tombstone("logo", 2)])
    assert files(backend) == {f"42.{version(2)}.json": b"7", f"logo.{version(2)}.deleted": b""}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("42", "42"),
        ("user:42", "user%3a42"),
        ("ada@example.org", "ada@example.org"),
        ("file.txt", "file.txt"),
        ("N10156", "N10156~1"),
        ("Ada", "Ada~1"),
        ("ADA", "ADA~7"),
        ("../../etc/passwd", "%2e.%2f..%2fetc%2fpasswd"),
        (".", "%2e"),
        ("-rf", "%2drf"),
        ("con", "%63on"),
        ("nul.txt", "%6eul.txt"),
        ("console", "console"),
        ("a b", "a%20b"),
        ("\0", "%00"),
        ("é", "%c3%a9"),
    ],
)
async def test_name_is_recognised_and_safe(backend: FileBackend, key: str, name: str) -> None:
    await backend.save([put(key, 1)])
    assert set(files(backend)) == {f"{name}.{V1}.json"}


async def test_buckets_hold_the_files(tmp_path: Path) -> None:
    backend = FileBackend(tmp_path / "data", fanout=2)
    await backend.open(namespace="one")
    try:
        await backend.save([put(str(number), 1) for number in range(1000)])
        found = files(backend)
        assert len(found) == 1000
        assert len({Path(name).parent for name in found}) > 200
        assert all(len(str(Path(name).parent)) == 2 for name in found)
    finally:
        await backend.close()


async def test_key_that_is_too_long_for_a_name_is_kept_beside_its_value(backend: FileBackend) -> None:
    megabyte, other = "k" * 2**20, "k" * (2**20 - 1) + "K"
    await backend.save([put(megabyte, 1, b"1"), put(other, 1, b"2")])
    found = files(backend)
    assert sorted(found.values()) == sorted([b"1", b"2", megabyte.encode(), other.encode()])
    assert all(len(name) < 255 for name in found)
    assert {key: record.payload for key, record in (await backend.load([megabyte, other])).items()} == {
        megabyte: b"1", other: b"2",
    }  # fmt: skip
    await backend.save([put(megabyte, 2, b"3"), tombstone(other, 2)])
    assert len(files(backend)) == 4, "what is older was collected"


def quoted(names: Names, key: str) -> str:
    return names.file(names.stem(key), V1, "json")


def folded(name: str) -> str:
    """As the most forgetful file system sees it."""
    return unicodedata.normalize("NFKD", name).casefold()


@given(st.lists(st.one_of(st.sampled_from(KEYS), st.text(min_size=1)), min_size=2, max_size=30, unique=True))
def test_two_keys_never_have_the_same_name(keys: list[str]) -> None:
    names = Names(fanout=0, codec="json", suffix=None)
    sound = [key for key in keys if not any("\ud800" <= character <= "\udfff" for character in key)]
    found = [quoted(names, key) for key in sound]
    assert len({folded(name) for name in found}) == len(sound)
    for name in found:
        assert len(name.encode()) <= 255
        assert not set(name) & set('/\\\0:*?"<>| \n')
        assert not name.startswith((".", "-"))
        parsed = names.parse(name)
        assert parsed is not None
        assert (parsed.version, parsed.kind) == (V1, "json")


@given(st.text(alphabet="aAbB.~%", min_size=1, max_size=4), st.text(alphabet="aAbB.~%", min_size=1, max_size=4))
def test_names_are_injective_where_it_is_tight(one: str, two: str) -> None:
    names = Names(fanout=0, codec="json", suffix=None)
    assert (folded(quoted(names, one)) == folded(quoted(names, two))) == (one == two)


# Traps


async def test_hash_collision_is_refused_and_loses_nothing(
    backend: FileBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Same:
        def hexdigest(self) -> str:
            return "0" * 64

    monkeypatch.setattr("asyncwb_backends.filesystem.names.hashlib.sha256", lambda raw: Same())
    one, two = "x" * 500 + "1", "x" * 500 + "2"
    await backend.save([put(one, 1, b"1")])
    with pytest.raises(SaveError, match="same hash") as caught:
        await backend.save([put(two, 2, b"2"), put("other", 1)])
    assert set(caught.value.failed) == {two}
    assert isinstance(caught.value.failed[two], RecordRejected)
    assert set(await backend.load([one, two, "other"])) == {one, "other"}


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


async def test_planted_link_to_a_file_is_neither_read_nor_written(backend: FileBackend, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b'"secret"')
    (backend.path / f"42.{version(9)}.json").symlink_to(secret)
    assert await backend.load(["42"]) == {}
    assert await backend.save([put("42", 1)]) == 0, "the link makes nothing stale"
    assert (await backend.load(["42"]))["42"].version == V1
    with pytest.raises(SaveError, match="stands in the place"):
        await backend.save([put("42", 9)])
    assert secret.read_bytes() == b'"secret"'


@pytest.mark.parametrize("what", ["fifo", "folder", "dangling"])
async def test_planted_thing_that_is_no_file_is_ignored(backend: FileBackend, what: str) -> None:
    trap = backend.path / f"42.{version(9)}.json"
    if what == "fifo":
        os.mkfifo(trap)
    elif what == "folder":
        trap.mkdir()
    else:
        trap.symlink_to("nowhere")
    assert await backend.save([put("42", 1)]) == 0
    assert (await backend.load(["42"]))["42"].version == V1


async def test_own_folder_replaced_by_a_link_is_not_followed(tmp_path: Path) -> None:
    data, outside = tmp_path / "data", tmp_path / "outside"
    data.mkdir()
    outside.mkdir()
    (data / ".asyncwb").symlink_to(outside)
    with pytest.raises(BackendUnavailable):
        await FileBackend(data).open(namespace="one")
    assert list(outside.iterdir()) == []


async def test_other_peoples_files_are_left_alone(backend: FileBackend) -> None:
    others = ["README", "42.json", "42.x.json", ".42.1.json", "notes.5.txt"]
    for name in others:
        (backend.path / name).write_text("mine")
    await backend.save([put("42", 1)])
    backend._purge_timer.again()
    await backend.save([put("42", 2)])
    assert set(files(backend)) == {*others, f"42.{version(2)}.json"}


# Left-overs


async def test_what_a_frozen_writer_published_late_is_collected(backend: FileBackend) -> None:
    await backend.save([put("42", 5)])
    late = backend.path / f"42.{version(3)}.json"
    late.write_bytes(b"3")
    assert (await backend.load(["42"]))["42"].version == version(5)
    backend._purge_timer.again()
    await backend.save([put("other", 1)])
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


async def test_drafts_of_a_killed_process_are_removed(backend: FileBackend) -> None:
    drafts = backend.path / ".asyncwb" / "drafts"
    old, new = drafts / "1-old", drafts / "2-new"
    for draft in (old, new):
        draft.write_bytes(b"half a val")
    os.utime(old, (time.time() - 4000, time.time() - 4000))
    await backend.close()
    await backend.open(namespace="one")
    assert [path.name for path in drafts.iterdir()] == ["2-new"], "somebody may be writing that"
    await backend.save([put(str(number), 1) for number in range(20)])
    assert [path.name for path in drafts.iterdir()] == ["2-new"]


# Failures and durability


async def test_full_disk_is_temporary_and_leaves_no_drafts(
    backend: FileBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    await backend.save([put("3", 1, b'"old"')])
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
            await backend.save(records)
    assert list((backend.path / ".asyncwb" / "drafts").iterdir()) == []
    assert (await backend.load(["3"]))["3"].payload == b'"old"'
    assert await backend.save(records) == 0


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


async def test_stale_record_is_durable_too(backend: FileBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may have published it and been frozen before it synced the folder."""
    await backend.save([put("42", 1)])
    synced: list[int] = []
    fsync = disk.fsync

    def spy(descriptor: int) -> None:
        synced.append(descriptor)
        fsync(descriptor)

    monkeypatch.setattr(disk, "fsync", spy)
    assert await backend.save([put("42", 1)]) == 1
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


async def test_folder_that_is_no_longer_mounted_is_not_an_empty_one(backend: FileBackend, tmp_path: Path) -> None:
    await backend.save([put("42", 1)])
    backend.path.rename(tmp_path / "away")
    for mounted in (False, True):
        if mounted:
            backend.path.mkdir()
        with pytest.raises(BackendUnavailable, match="is it mounted"):
            await backend.load(["42"])
        with pytest.raises(BackendUnavailable, match="is it mounted"):
            await backend.save([put("42", 2)])
        with pytest.raises(BackendUnavailable, match="is it mounted"):
            await backend.new_epoch(1)


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


# URLs


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///var/lib/app", "/var/lib/app"),
        ("file://localhost/var/lib/app", "/var/lib/app"),
        ("file:data/users", "data/users"),
        ("file:///my%20data", "/my data"),
    ],
)
def test_url_names_the_folder(url: str, path: str) -> None:
    assert from_url(url, codec=CODEC).path == Path(path)
    assert isinstance(backend_from_url(url, codec=CODEC), FileBackend)


async def test_suffix_is_for_the_codec_of_the_buffer(tmp_path: Path) -> None:
    backend = from_url(f"file://{tmp_path}/data?suffix=.png&fanout=0", codec=Codec("bytes"))
    await backend.open(namespace="one")
    try:
        await backend.save([Record("logo", V1, b"\x89PNG", codec="bytes")])
        assert files(backend) == {f"logo.{V1}.png": b"\x89PNG"}
    finally:
        await backend.close()


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("file://data/users", "mind the slashes"),
        ("file://user:hunter2@host/data", "mind the slashes"),
        ("file:///", "name a folder"),
        ("file:", "name a folder"),
        ("file:///a%00b", "name a folder"),
        ("file:///data?sufix=.json", "'sufix'"),
        ("file:///data?suffix=json", "write for example"),
        ("file:///data?suffix=.5", "write for example"),
        ("file:///data?suffix=/../x", "write for example"),
        ("file:///data?suffix=.deleted", "taken"),
        ("file:///data?suffix=.bin", "taken"),
        ("file:///data?fanout=4", "use 0, 1, 2 or 3"),
        ("file:///data?sync=never", "use batch or file"),
        ("file:///data?tombstone_seconds=soon", "number of seconds"),
    ],
)
def test_bad_url_is_explained(url: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        from_url(url, codec=CODEC)
    assert "hunter2" not in str(caught.value)
