"""Backends with faults whose location the contract has to report; `test_contract_messages.py` checks the reports."""

import asyncio
import base64
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from asyncwb import Record
from asyncwb.testing import MemoryBackend
from asyncwb.testing.contract import child, timelimit

from .keys import FoldsCase
from .sound import InMemory, OnDisk, OneFile

timelimit._GRACE_SECONDS = timelimit._RESPONSE_SECONDS = child._TELL_SECONDS = 0.3  # type: ignore[misc]


class Hangs(MemoryBackend):
    async def save(self, records: Sequence[Record]) -> int:
        await asyncio.Event().wait()  # here it waits
        return 0


class TestHangs(InMemory):
    made = Hangs
    time_limit_seconds = 0.3


class Blocks(MemoryBackend):
    async def save(self, records: Sequence[Record]) -> int:
        time.sleep(30)  # here it blocks
        return 0


class TestBlocks(InMemory):
    made = Blocks
    time_limit_seconds = 0.3


class HangsInAThread(MemoryBackend):
    async def save(self, records: Sequence[Record]) -> int:
        await asyncio.to_thread(self.work)
        return 0

    def work(self) -> None:
        time.sleep(1)  # here a thread hangs


class TestHangsInAThread(InMemory):
    made = HangsInAThread
    time_limit_seconds = 0.3


class Never(MemoryBackend):
    """Its `save` hangs and ignores that it is cancelled."""

    async def save(self, records: Sequence[Record]) -> int:
        for _ in range(3):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(30)  # here it ignores that it is cancelled
        return 0


class TestNever(InMemory):
    made = Never
    time_limit_seconds = 0.3


class Elsewhere(OneFile):
    """Works in the process of the tests, but not in others."""

    async def save(self, records: Sequence[Record]) -> int:
        if not (Path(self.path.parent) / f"tests-{os.getpid()}").exists():
            raise LookupError("no such table here")
        return await super().save(records)


class TestElsewhere(OnDisk):
    made: ClassVar[Any] = Elsewhere

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        (tmp_path / f"tests-{os.getpid()}").touch()
        return str(tmp_path)


class CannotBeOpenedElsewhere(OneFile):
    async def open(self, *, namespace: str, former: str | None = None) -> None:
        if not (Path(self.path.parent) / f"tests-{os.getpid()}").exists():
            raise LookupError("no such file here")
        await super().open(namespace=namespace, former=former)


class TestCannotBeOpenedElsewhere(TestElsewhere):
    made = CannotBeOpenedElsewhere


class HangsElsewhere(OneFile):
    async def save(self, records: Sequence[Record]) -> int:
        if not (Path(self.path.parent) / f"tests-{os.getpid()}").exists():
            await asyncio.sleep(30)  # elsewhere it waits
        return await super().save(records)


class TestHangsElsewhere(TestElsewhere):
    made = HangsElsewhere

    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(child, "_SECONDS", 0.5)


class LooksThenWrites(OneFile):
    async def save(self, records: Sequence[Record]) -> int:
        stale = 0
        for each in records:
            held = self.read()["records"].get(each.key, [-1])
            if held[0] >= each.version:
                stale += 1
            else:
                self.put(each)
        return stale

    def put(self, record: Record) -> None:
        with self.locked():
            held, payload = self.read(), base64.b64encode(record.payload).decode()
            held["records"][record.key] = [record.version, payload, record.codec, record.deleted]
            self.write(held)  # too late


class TestLooksThenWrites(OnDisk):
    made = LooksThenWrites


class CountsWrong(MemoryBackend):
    async def save(self, records: Sequence[Record]) -> int:
        return await super().save(records) * 7


class TestCountsWrong(InMemory):
    made = CountsWrong


class GivesTheWrongValue(MemoryBackend):
    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        found = await super().load(keys)
        return {key: Record(key, each.version, b'{"n":77}', deleted=each.deleted) for key, each in found.items()}


class TestGivesTheWrongValue(InMemory):
    made = GivesTheWrongValue


class TestCollides(InMemory):
    made: ClassVar[Any] = FoldsCase


class TestSaysNothing(InMemory):
    """Declares nothing, and has nothing to test."""
