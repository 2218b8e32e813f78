"""Backends that are wrong about which namespace owns a place, or about what is noted there."""

import asyncio
from typing import Any

from asyncwb import takes_place
from asyncwb.plugins.succession import with_server
from asyncwb.testing import MemoryBackend

from .sound import InMemory, OnDisk, OneFile


class TakesAnyNamespace(MemoryBackend):
    async def open(self, *, namespace: str, former: str | None = None) -> None:
        self.owner = None
        await super().open(namespace=namespace, former=former)


class TestTakesAnyNamespace(InMemory):
    made = TakesAnyNamespace


class HandsOverToAnybody(MemoryBackend):
    async def open(self, *, namespace: str, former: str | None = None) -> None:
        await super().open(namespace=namespace, former=former and self.owner)


class TestHandsOverToAnybody(InMemory):
    made = HandsOverToAnybody


class OverlooksItsTombstones(MemoryBackend):
    async def highest_version(self) -> int | None:
        return max((each.version for each in self.records.values() if not each.deleted), default=None)


class TestOverlooksItsTombstones(InMemory):
    made = OverlooksItsTombstones


class ForgetsServers(MemoryBackend):
    async def open(self, *, namespace: str, former: str | None = None) -> None:
        self._servers.clear()
        await super().open(namespace=namespace, former=former)


class TestForgetsServers(InMemory):
    made = ForgetsServers


class HasNoLook(MemoryBackend):
    highest_version = None  # type: ignore[assignment]


class TestHasNoLook(InMemory):
    made = HasNoLook


class TellsNobodyOfItsNewOwner(OneFile):
    async def new_epoch(self, at_least: int) -> int:
        with self.locked():
            self.namespace = self.read()["owner"]
        return await super().new_epoch(at_least)


class TestTellsNobodyOfItsNewOwner(OnDisk):
    made = TellsNobodyOfItsNewOwner


class RemembersItsOwnerInMemory(OneFile):
    owner: str | None = None

    def read(self) -> Any:
        return {**super().read(), "owner": self.owner}

    def write(self, held: Any) -> None:
        self.owner = held["owner"]
        super().write(held)


class TestRemembersItsOwnerInMemory(OnDisk):
    made = RemembersItsOwnerInMemory


class TakesTwoAtOnce(OneFile):
    """Looks for an owner and notes its own, but lets others look in between."""

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        self.lock.touch()
        takes_place(self.read()["owner"], namespace, former=former, place="one file")
        await asyncio.sleep(0.01)
        with self.locked():
            self.write({**self.read(), "owner": namespace})
        await super().open(namespace=namespace, former=former)


class TestTakesTwoAtOnce(OnDisk):
    made = TakesTwoAtOnce


class NotesTheLatestServer(MemoryBackend):
    """Overwrites the server of an epoch that has been noted already."""

    async def note_server(self, partition: int, epoch: int, server: str) -> list[tuple[int, str]]:
        others = [each for each in self._servers.get(partition, ()) if each[0] != epoch]
        self._servers[partition] = with_server(others, epoch, server)
        return self._servers[partition]


class TestNotesTheLatestServer(InMemory):
    made = NotesTheLatestServer
