"""The filesystem backend: the contract, the files that users see, and its URLs."""

import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwb import Backend, Codec, ConfigurationError, Record
from asyncwb.plugins.registry import backend_from_url
from asyncwb.testing.contract import KEYS, BackendContract, Outage, put, tombstone, version
from asyncwb_backends.filesystem import FileBackend, from_url
from asyncwb_backends.filesystem.names import Names
from tests.harness.filesystem import V1, files

CODEC: Codec[Any] = Codec("json")


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

    async def add_unversioned(self, backend: Backend, url: str, key: str) -> None:
        assert isinstance(backend, FileBackend)
        stem = backend._names.stem(key)
        (backend.path / stem.bucket).mkdir(exist_ok=True)
        (backend.path / stem.bucket / backend._names.file(stem, 0, "json")).write_text("1")

    def poison(self) -> list[Record]:
        return [Record("\ud800", V1, b"1")]


@pytest.mark.long
class TestFlatFileBackend(BackendContract):
    """Without sub-folders, each file synced for itself."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"file://{tmp_path}/data?fanout=0&sync=file&suffix=.txt"


# What a user sees


async def test_file_is_exactly_the_value(file_backend: FileBackend) -> None:
    await file_backend.save([put("42", 1, b'{"name": "Ada"}'), Record("logo", V1, b"\x89PNG\0", codec="bytes")])
    assert files(file_backend) == {f"42.{V1}.json": b'{"name": "Ada"}', f"logo.{V1}.bin": b"\x89PNG\0"}
    await file_backend.save([put("42", 2, b"7"), tombstone("logo", 2)])
    assert files(file_backend) == {f"42.{version(2)}.json": b"7", f"logo.{version(2)}.deleted": b""}


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
async def test_name_is_recognised_and_safe(file_backend: FileBackend, key: str, name: str) -> None:
    await file_backend.save([put(key, 1)])
    assert set(files(file_backend)) == {f"{name}.{V1}.json"}


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


async def test_key_that_is_too_long_for_a_name_is_kept_beside_its_value(file_backend: FileBackend) -> None:
    megabyte, other = "k" * 2**20, "k" * (2**20 - 1) + "K"
    await file_backend.save([put(megabyte, 1, b"1"), put(other, 1, b"2")])
    found = files(file_backend)
    assert sorted(found.values()) == sorted([b"1", b"2", megabyte.encode(), other.encode()])
    assert all(len(name) < 255 for name in found)
    assert {key: record.payload for key, record in (await file_backend.load([megabyte, other])).items()} == {
        megabyte: b"1", other: b"2",
    }  # fmt: skip
    await file_backend.save([put(megabyte, 2, b"3"), tombstone(other, 2)])
    assert len(files(file_backend)) == 4, "what is older was collected"


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
