"""The flushing process is killed in the middle of its saves, 50 times for each backend; nothing is lost, stale or torn.

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
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from asyncwb import Backend, Buffer, Codec, Version
from asyncwb.cli.workload import Ledger, Value, Verdict
from asyncwb.plugins.registry import backend_from_url
from tests.harness.servers import Server

pytestmark = pytest.mark.long

KILLS: Final = 50
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
    kind: str = request.param
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
        return f"{request.getfixturevalue('postgresql').url}?table=users"
    url: str = request.getfixturevalue("mongods")(kind.endswith("set")).url("kills")
    return url


async def test_flusher_killed_in_the_middle_of_saves(
    backend_url: str, valkey_server: Server, request: pytest.FixtureRequest
) -> None:
    reader = backend_from_url(backend_url, codec=Codec())
    ledger, rng, seconds = WatchedLedger(), random.Random(1), [0.002]
    kills = attempts = 0
    try:
        buffer = Buffer[Any](
            valkey_server.url, backend=backend_url, namespace="kills", flushers=0, lease_seconds=LEASE_SECONDS
        )
        async with buffer:
            await reader.open(namespace="kills")
            writer = Writer(buffer, ledger)
            writing = asyncio.create_task(writer.run())
            try:
                async with Flushers.started(valkey_server.url, backend_url, "kills", str(LEASE_SECONDS)) as flushers:
                    while kills < KILLS:
                        attempts += 1
                        assert attempts < 8 * KILLS, f"only {kills} of {attempts} kills hit a save"
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
                        kills += await flushers.kill()
                        assert not writing.done()
                        await ledger.check(reader)
                writer.stopped = True
            finally:
                if not writer.stopped:
                    writing.cancel()
                await asyncio.wait([writing])
            await writing
        async with Buffer[Any](
            valkey_server.url, backend=backend_url, namespace="kills", lease_seconds=LEASE_SECONDS
        ) as heir:
            await heir.drain(timeout=30)
        await ledger.check(reader)
        held = await reader.load(list(ledger.newest))
    finally:
        await reader.close()
    verdict = ledger.compare({key: (each.version, None if each.deleted else each.value) for key, each in held.items()})
    print(
        f"\n{request.node.callspec.id}: {kills} kills in the middle of a save ({attempts} kills), "
        f"{writer.writes} acknowledged writes to {ledger.keys} keys: {verdict}"
    )
    assert verdict == Verdict(persisted=KEYS, lost=0, stale=0)
