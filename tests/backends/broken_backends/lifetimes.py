"""Backends that leave something behind, or lose it, when they are closed."""

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, TextIO

from asyncwb.testing import MemoryBackend

from .sound import InMemory, OnDisk, OneFile


class LeavesATask(MemoryBackend):
    async def open(self, *, namespace: str, former: str | None = None) -> None:
        await super().open(namespace=namespace, former=former)
        self._task = asyncio.create_task(asyncio.sleep(1000))


class TestLeavesATask(InMemory):
    made = LeavesATask


class LeavesAThread(MemoryBackend):
    async def open(self, *, namespace: str, former: str | None = None) -> None:
        await super().open(namespace=namespace, former=former)
        threading.Thread(target=threading.Event().wait, daemon=True).start()


class TestLeavesAThread(InMemory):
    made = LeavesAThread


class LeavesAFile(MemoryBackend):
    async def open(self, *, namespace: str, former: str | None = None) -> None:
        await super().open(namespace=namespace, former=former)
        os.open("/dev/null", os.O_RDONLY)


class TestLeavesAFile(InMemory):
    made = LeavesAFile


class ForgetsItsEpoch(OneFile):
    epoch = 0

    async def new_epoch(self, at_least: int) -> int:
        if at_least:
            self.epoch = max(self.epoch + 1, at_least)
        return self.epoch


class TestForgetsItsEpoch(OnDisk):
    made = ForgetsItsEpoch


class ClosesForAll(OneFile):
    """One handle for all objects of the process; whoever closes first closes it."""

    handles: ClassVar[dict[str, TextIO]] = {}

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        self.lock.touch()
        if (handle := self.handles.get(str(self.lock))) is None or handle.closed:
            self.handles[str(self.lock)] = self.lock.open("r+")
        await super().open(namespace=namespace, former=former)

    async def close(self) -> None:
        if handle := self.handles.get(str(self.lock)):
            handle.close()

    @contextmanager
    def locked(self) -> Iterator[None]:
        with super().locked():
            self.handles[str(self.lock)].fileno()
            yield


class TestClosesForAll(OnDisk):
    made = ClosesForAll
