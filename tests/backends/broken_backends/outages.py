"""Backends that are wrong when their storage is stopped or frozen, or comes back; and a sound one.

Their storage is a server process, so that it can be.
"""

import asyncio
import base64
import json
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from asyncwb import BackendUnavailable, ConfigurationError, Limits, Record, SaveError, takes_place
from asyncwb.testing.contract import BackendContract, Outage
from tests.harness.servers import ServerProcess

CONNECT_SECONDS = 1.0
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class StorageServer(ServerProcess):
    def __init__(self) -> None:
        super().__init__()
        self.start()

    def start(self) -> None:
        program = str(Path(__file__).with_name("storage_server.py"))
        self._run(sys.executable, "-S", program, str(self.port), ready=self._ping)

    def _ping(self) -> None:
        socket.create_connection(("127.0.0.1", self.port), 1).close()


class Served:
    """A sound backend: a client with a pool, which drops all idle connections when one has failed."""

    limits = Limits(max_value_bytes=2**20, concurrent_saves=4)

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.url = url
        self.address = parts.hostname, parts.port
        self.file = f"{parts.path}/all.json"
        self.namespace = ""
        self.idle: list[Connection] = []
        self.open_ones: set[asyncio.StreamWriter] = set()

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        self.namespace = namespace
        while True:
            owner = await self.ask("owner")
            if not takes_place(owner, namespace, former=former, place=self.file):
                return
            if await self.ask("own", owner, namespace, int(former is not None)):
                return

    async def close(self) -> None:
        for writer in self.open_ones:
            writer.transport.abort()
        self.open_ones.clear()
        self.idle.clear()
        await asyncio.sleep(0)

    async def new_epoch(self, at_least: int) -> int:
        takes_place(await self.ask("owner"), self.namespace, former=None, place=self.file)
        return int(await self.ask("epoch", at_least))

    async def save(self, records: Sequence[Record]) -> int:
        rows = [[r.key, r.version, base64.b64encode(r.payload).decode(), r.codec, r.deleted] for r in records]
        return int(await self.ask("save", rows))

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        return {
            key: Record(key, version, base64.b64decode(payload), codec=codec, deleted=deleted)
            for key, version, payload, codec, deleted in await self.ask("load", list(keys))
        }

    async def highest_version(self) -> Any:
        return await self.ask("highest")

    async def note_server(self, partition: int, epoch: int, server: str) -> list[tuple[int, str]]:
        return [(began, name) for began, name in await self.ask("servers", partition, epoch, server)]

    async def ask(self, call: str, *arguments: Any) -> Any:
        reader, writer = await self.connection()
        try:
            writer.write(json.dumps([self.file, call, arguments]).encode() + b"\n")
            line = await self.answer(reader)
            if not line:
                raise ConnectionResetError("it has closed the connection")
        except BaseException as error:
            self.open_ones.discard(writer)
            writer.transport.abort()
            self.drop()
            if isinstance(error, OSError):
                raise self.unavailable(error) from error
            raise
        self.idle.append((reader, writer))
        return json.loads(line)

    async def answer(self, reader: asyncio.StreamReader) -> bytes:
        return await reader.readline()

    async def connection(self) -> Connection:
        if self.idle:
            return self.idle.pop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(*self.address, limit=2**26)
        except (OSError, TimeoutError) as error:
            raise self.unavailable(error) from error
        self.open_ones.add(writer)
        return reader, writer

    def drop(self) -> None:
        for _, writer in self.idle:
            self.open_ones.discard(writer)
            writer.transport.abort()
        self.idle.clear()

    def unavailable(self, error: Exception) -> Exception:
        return BackendUnavailable(f"the storage at port {self.address[1]} can't be reached: {error}")


class OnAServer(BackendContract):
    cannot = {"progress": "it is one file under a lock"}
    made: Any = Served

    @pytest.fixture(scope="module")
    @classmethod
    def server(cls) -> Iterator[StorageServer]:
        server = StorageServer()
        yield server
        server.stop()

    @pytest.fixture
    def url(self, server: StorageServer, tmp_path: Path) -> str:
        return f"served://ada:pass-w0rd@127.0.0.1:{server.port}{tmp_path}"

    @pytest.fixture
    def outage(self, server: StorageServer) -> Outage:
        return Outage(stop=server.kill, start=server.start, freeze=server.freeze, thaw=server.thaw)

    def make_backend(self, url: str) -> Any:
        return self.made(url)


class TestSoundOnAServer(OnAServer):
    pass


class SwallowsErrors(Served):
    async def save(self, records: Sequence[Record]) -> int:
        try:
            return await super().save(records)
        except BackendUnavailable:
            return 0


class TestSwallowsErrors(OnAServer):
    made = SwallowsErrors


class FindsNothingThen(Served):
    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        try:
            return await super().load(keys)
        except BackendUnavailable:
            return {}


class TestFindsNothingThen(OnAServer):
    made = FindsNothingThen


class RemembersItsEpoch(Served):
    """Answers `new_epoch(0)` from memory, so it seems available whatever has become of its storage."""

    epoch = 0

    async def new_epoch(self, at_least: int) -> int:
        if at_least:
            self.epoch = await super().new_epoch(at_least)
        return self.epoch


class TestRemembersItsEpoch(OnAServer):
    made = RemembersItsEpoch


class BlamesItsRecords(Served):
    async def save(self, records: Sequence[Record]) -> int:
        try:
            return await super().save(records)
        except BackendUnavailable as error:
            raise SaveError({record.key: error for record in records}) from error


class TestBlamesItsRecords(OnAServer):
    made = BlamesItsRecords


class SaysThatItIsForGood(Served):
    async def open(self, *, namespace: str, former: str | None = None) -> None:
        try:
            await super().open(namespace=namespace, former=former)
        except BackendUnavailable as error:
            raise ConfigurationError(f"no such server: {error}") from error


class TestSaysThatItIsForGood(OnAServer):
    made = SaysThatItIsForGood


class StaysBroken(Served):
    broken: Exception | None = None

    async def connection(self) -> Connection:
        if self.broken is not None:
            raise self.broken
        return await super().connection()

    def unavailable(self, error: Exception) -> Exception:
        self.broken = super().unavailable(error)
        return self.broken


class TestStaysBroken(OnAServer):
    made = StaysBroken


class KeepsDeadConnections(Served):
    """Keeps connections that the server has closed; each of them fails one call."""

    def drop(self) -> None:
        pass


class TestKeepsDeadConnections(OnAServer):
    made = KeepsDeadConnections


class WaitsInSpiteOfCancellation(Served):
    async def answer(self, reader: asyncio.StreamReader) -> bytes:
        reading = asyncio.ensure_future(reader.readline())
        while not reading.done():
            try:
                await asyncio.wait((reading,), timeout=10)
            except asyncio.CancelledError:
                continue
        return reading.result()


class TestWaitsInSpiteOfCancellation(OnAServer):
    made = WaitsInSpiteOfCancellation


class SaysGoodbye(Served):
    """Says goodbye to its server when it is closed, and waits for an answer."""

    async def close(self) -> None:
        if self.idle:
            await self.ask("owner")
        await super().close()


class TestSaysGoodbye(OnAServer):
    made = SaysGoodbye


class TellsItsPassword(Served):
    def unavailable(self, error: Exception) -> Exception:
        return BackendUnavailable(f"{self.url} can't be reached: {error}")


class TestTellsItsPassword(OnAServer):
    made = TellsItsPassword
