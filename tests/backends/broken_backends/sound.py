"""The sound backends that the broken ones are made of, and the contract of each."""

import base64
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from asyncwb import Backend, Limits, Record, takes_place
from asyncwb.plugins.succession import with_server
from asyncwb.testing import MemoryBackend
from asyncwb.testing.contract import BackendContract


class InMemory(BackendContract):
    cannot = {
        "persistence": "what is in memory ends with its process",
        "sharing": "what is in memory belongs to one object",
    }
    made: ClassVar[Any] = MemoryBackend

    @pytest.fixture
    def url(self) -> str:
        return "memory://"

    def make_backend(self, url: str) -> Backend:
        made: Backend = self.made()
        return made


class TestSoundInMemory(InMemory):
    pass


class OneFile:
    """A sound backend: everything is in one JSON file, which is replaced as a whole under a lock."""

    limits = Limits(max_batch=100, max_value_bytes=2**20)
    supports_based_on = True

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / "all.json"
        self.lock = Path(folder) / "lock"

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        self.lock.touch()
        self.namespace = namespace
        with self.locked():
            held = self.read()
            if takes_place(held["owner"], namespace, former=former, place=str(self.path)):
                held["owner"] = namespace
                held["epoch"] += former is not None
            self.write(held)

    async def close(self) -> None:
        pass

    async def new_epoch(self, at_least: int) -> int:
        with self.locked():
            held = self.read()
            takes_place(held["owner"], self.namespace, former=None, place=str(self.path))
            if at_least:
                held["epoch"] = max(held["epoch"] + 1, at_least)
                self.write(held)
            epoch: int = held["epoch"]
            return epoch

    async def save(self, records: Sequence[Record]) -> int:
        stale = 0
        with self.locked():
            held = self.read()
            for each in records:
                version = held["records"].get(each.key, [0])[0]
                if version >= each.version if each.based_on is None else version != each.based_on:
                    stale += 1
                    continue
                payload = base64.b64encode(each.payload).decode()
                held["records"][each.key] = [each.version, payload, each.codec, each.deleted]
            self.write(held)
        return stale

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        held = self.read()["records"]
        return {
            key: Record(key, held[key][0], base64.b64decode(held[key][1]), codec=held[key][2], deleted=held[key][3])
            for key in keys
            if key in held
        }

    async def note_server(self, partition: int, epoch: int, server: str) -> list[tuple[int, str]]:
        with self.locked():
            held = self.read()
            noted = held.setdefault("servers", {}).setdefault(str(partition), [])
            noted[:] = with_server(map(tuple, noted), epoch, server)
            self.write(held)
        return [tuple(each) for each in noted]

    async def highest_version(self) -> int | None:
        return max((each[0] for each in self.read()["records"].values()), default=None)

    @contextmanager
    def locked(self) -> Iterator[None]:
        with self.lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def read(self) -> Any:
        try:
            return json.loads(self.path.read_text())
        except FileNotFoundError:
            return {"epoch": 0, "owner": None, "records": {}}

    def write(self, held: Any) -> None:
        draft = self.path.with_name(f"draft-{os.getpid()}-{id(held)}")
        draft.write_text(json.dumps(held))
        draft.rename(self.path)


class OnDisk(BackendContract):
    cannot: ClassVar[Mapping[str, str]] = {"progress": "a frozen process keeps its lock"}
    made: ClassVar[Any] = OneFile

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path)

    def make_backend(self, url: str) -> Backend:
        made: Backend = self.made(url)
        return made


class TestSoundOnDisk(OnDisk):
    pass
