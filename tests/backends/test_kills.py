"""The flushing process is killed in the middle of its saves, 50 times for each backend: nothing is lost, stale or torn,
and every update is applied once.

uv run pytest -m long -s tests/backends/test_kills.py
"""

import asyncio
import contextlib
import os
import random
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from asyncwb import Add, Backend, Buffer, Codec, Version
from asyncwb.cli.workload import Ledger, Value, Verdict
from asyncwb.plugins.registry import backend_from_url
from tests.harness.servers import Server

KILLS: Final = 50
FEW_KILLS: Final = 3
COUNTERS: Final = 20
KEYS: Final = 400
LEASE_SECONDS: Final = 0.3
PROGRAM: Final = str(Path(__file__).with_name("killed_flusher.py"))


class WatchedLedger(Ledger):
    """A ledger that is compared with the backend while writes go on.

    Attributes:
        values: key and version -> value of every acknowledged write; None is a delete.
        lowest: key -> the version that the backend has been seen to hold.
    """

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[tuple[str, Version], Value | None] = {}
        self.lowest: dict[str, Version] = {}

    def note(self, key: str, version: Version, value: Value | None) -> None:
        super().note(key, version, value)
        self.values[key, version] = value

    async def check(self, backend: Backend) -> None:
        """Every record that is there can be read, is exactly what was written under its version, and never goes back.

        A record whose acknowledgement is on its way isn't noted yet; it is checked the next time.
        """
        for key, record in (await backend.load(list(self.newest))).items():
            assert record.version >= self.lowest.get(key, 0), f"{key} went back"
            self.lowest[key] = record.version
            if (key, record.version) in self.values:
                assert (None if record.deleted else record.value) == self.values[key, record.version], f"{key} is torn"


class Writer:
    """Writes and deletes until it is stopped, and notes what was acknowledged."""

    def __init__(self, buffer: Buffer[Any], ledger: WatchedLedger) -> None:
        self._buffer = buffer
        self._ledger = ledger
        self._rng = random.Random(20261123)
        self._number = 0
        self.writes = 0
        self.stopped = False

    async def run(self) -> None:
        while not self.stopped:
            values: dict[str, Any] = {}
            for number in self._rng.sample(range(KEYS), 40):
                self._number += 1
                values[str(number)] = {"n": self._number, "text": str(self._number) * self._rng.randrange(400)}
            for key, version in (await self._buffer.set_many(values)).items():
                self._ledger.note(key, version, values[key])
            gone = [str(number) for number in self._rng.sample(range(KEYS), 3)]
            for key, version in (await self._buffer.delete_many(gone)).items():
                self._ledger.note(key, version, None)
            self.writes += len(values) + len(gone)
            await asyncio.sleep(0.005)


class Adder:
    """Adds to some numbers until it is stopped, and notes what was acknowledged."""

    def __init__(self, buffer: Buffer[Any]) -> None:
        self._buffer = buffer
        self._rng = random.Random(20261127)
        self.sums: Counter[str] = Counter()
        self.updates = 0
        self.stopped = False

    async def run(self) -> None:
        while not self.stopped:
            amounts = {str(number): self._rng.randrange(1, 1000) for number in self._rng.sample(range(COUNTERS), 6)}
            changes = {key: {"n": Add(amount)} for key, amount in amounts.items()}
            await self._buffer.update_many(changes, default={"n": 0, "text": ""})
            self.sums.update(amounts)
            self.updates += len(amounts)
            await asyncio.sleep(0.002)


class Flushers:
    """The processes, one at a time."""

    def __init__(self, forker: asyncio.subprocess.Process) -> None:
        assert forker.stdin is not None
        assert forker.stdout is not None
        self._requests, self._lines = forker.stdin, forker.stdout
        self._pid = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, *arguments: str) -> AsyncIterator["Flushers"]:
        pipe = asyncio.subprocess.PIPE
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
        forker = await asyncio.create_subprocess_exec(
            sys.executable, PROGRAM, *arguments, stdin=pipe, stdout=pipe, env=environment
        )
        flushers = cls(forker)
        try:
            yield flushers
        finally:
            if flushers._pid:
                os.kill(flushers._pid, signal.SIGKILL)
            forker.kill()
            await forker.communicate()

    async def start(self) -> None:
        self._requests.write(b".")
        while not (line := await self.line()).startswith("ready"):
            continue
        self._pid = int(line.split()[1])

    async def line(self) -> str:
        async with asyncio.timeout(20):
            line = (await self._lines.readline()).decode().strip()
        assert line not in ("", "ended"), "the flusher has ended by itself"
        return line

    async def kill(self) -> bool:
        """After a line that said `save`. Whether the process was in the middle of one."""
        os.kill(self._pid, signal.SIGKILL)
        self._pid = 0
        last = "save"
        async with asyncio.timeout(20):
            while (line := (await self._lines.readline()).decode().strip()) != "ended":
                last = line
        return last == "save"


@pytest.fixture(params=["sqlite", "sqlite-mapped", "file", "mongodb", "mongodb-replica-set", "postgresql"])
def backend_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place of the test's own: updates combine with what is there, so another test's rows would count."""
    kind: str = request.param
    name = f"kills_{uuid4().hex[:12]}"
    if kind == "sqlite":
        return f"sqlite:///{tmp_path}/a.db"
    if kind == "sqlite-mapped":
        import sqlite3  # noqa: PLC0415

        connection = sqlite3.connect(tmp_path / "a.db")
        connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, n INTEGER NOT NULL, text TEXT NOT NULL)")
        connection.close()
        return f"sqlite:///{tmp_path}/a.db?table=users&key=id&columns=n,text&add_version=1"
    if kind == "file":
        return f"file://{tmp_path}/values"
    if kind == "postgresql":
        return f"{request.getfixturevalue('postgresql').url}?table={name}"
    url: str = request.getfixturevalue("mongods")(kind.endswith("set")).url(name)
    return url


@contextlib.asynccontextmanager
async def at_work(worker: Writer | Adder) -> AsyncIterator["asyncio.Task[None]"]:
    """It works during the block."""
    working = asyncio.create_task(worker.run())
    try:
        yield working
        worker.stopped = True
    finally:
        if not worker.stopped:
            working.cancel()
        await asyncio.wait([working])
    await working


async def kill(
    redis: str, backend: str, kills: int, working: "asyncio.Task[None]", look: Callable[[], Awaitable[None]]
) -> int:
    """Kills so many flushers in the middle of a save; returns how many there were. `look` comes after each."""
    rng, seconds = random.Random(1), [0.002]
    hits = attempts = 0
    async with Flushers.started(redis, backend, "kills", str(LEASE_SECONDS)) as flushers:
        while hits < kills:
            attempts += 1
            assert attempts < 8 * kills, f"only {hits} of {attempts} kills hit a save"
            await flushers.start()
            line = ""
            for _ in range(rng.randrange(4, 12)):
                line = await flushers.line()
                if line.startswith("saved"):
                    seconds.append(float(line.split()[1]))
            while line != "save":
                line = await flushers.line()
            # A save may be over in a millisecond, which is all that the event loop's timers can tell.
            time.sleep(rng.random() * statistics.median(seconds[-50:]))
            hits += await flushers.kill()
            assert not working.done()
            await look()
    return attempts


async def drained(redis: str, backend: str) -> None:
    async with Buffer[Any](redis, backend=backend, namespace="kills", lease_seconds=LEASE_SECONDS) as heir:
        await heir.drain(timeout=30)


@contextlib.asynccontextmanager
async def reader_of(url: str) -> AsyncIterator[Backend]:
    reader = backend_from_url(url, codec=Codec())
    await reader.open(namespace="kills")
    try:
        yield reader
    finally:
        await reader.close()


def writing_buffer(redis: str, backend: str) -> Buffer[Any]:
    return Buffer(redis, backend=backend, namespace="kills", flushers=0, lease_seconds=LEASE_SECONDS)


@pytest.mark.long
async def test_flusher_killed_in_the_middle_of_saves(
    backend_url: str, valkey_server: Server, request: pytest.FixtureRequest
) -> None:
    redis, ledger = valkey_server.url, WatchedLedger()
    async with writing_buffer(redis, backend_url) as buffer, reader_of(backend_url) as reader:
        writer = Writer(buffer, ledger)
        async with at_work(writer) as writing:
            attempts = await kill(redis, backend_url, KILLS, writing, lambda: ledger.check(reader))
        await drained(redis, backend_url)
        await ledger.check(reader)
        held = await reader.load(list(ledger.newest))
    verdict = ledger.compare({key: (each.version, None if each.deleted else each.value) for key, each in held.items()})
    print(
        f"\n{request.node.callspec.id}: {KILLS} kills in the middle of a save ({attempts} kills), "
        f"{writer.writes} acknowledged writes to {ledger.keys} keys: {verdict}"
    )
    assert verdict == Verdict(persisted=KEYS, lost=0, stale=0)


@pytest.mark.parametrize("kills", [FEW_KILLS, pytest.param(KILLS, marks=pytest.mark.long)])
async def test_flusher_killed_amid_updates_applies_each_once(
    backend_url: str, valkey_server: Server, request: pytest.FixtureRequest, kills: int
) -> None:
    redis = valkey_server.url
    async with writing_buffer(redis, backend_url) as buffer, reader_of(backend_url) as reader:
        adder = Adder(buffer)

        async def never_too_high() -> None:
            held = await reader.load(list(adder.sums))
            begun = adder.sums.total() + COUNTERS * 1000  # and what is on its way
            assert sum(each.value["n"] for each in held.values()) <= begun

        async with at_work(adder) as adding:
            attempts = await kill(redis, backend_url, kills, adding, never_too_high)
        await drained(redis, backend_url)
        held = await reader.load(list(adder.sums))
    print(
        f"\n{request.node.callspec.id}: {kills} kills in the middle of a save ({attempts} kills), "
        f"{adder.updates} acknowledged updates of {len(adder.sums)} keys"
    )
    assert {key: each.value["n"] for key, each in held.items()} == dict(adder.sums)
