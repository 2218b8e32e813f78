"""One partition on a real server, driven step by step in the way writers and flushers do."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from typing import Final

from asyncwb.protocol.body import update_prefix
from asyncwb.protocol.keys import PartitionKeys
from asyncwb.protocol.messages import Applied, Bounds, Claim, PutReply, Request, Write
from asyncwb.protocol.namespace import Namespace
from asyncwb.protocol.pending import PendingRecord
from asyncwb.protocol.queue import Queue
from asyncwb.protocol.wire import unpack, unpack_record
from asyncwb.records import CodecName, Record, Version, make_version
from asyncwb.redis.connection import RedisLink
from asyncwb.redis.link import Link
from tests.harness.servers import Server

CODEC: Final[CodecName] = "json"


def body(value: bytes | None) -> bytes:
    """Returns the body of a request to put this JSON, or to delete if it is None."""
    return b"dj" if value is None else b"pj" + value


def update_body(payload: bytes = b"+1") -> bytes:
    """Returns the body of a request to add an entry with this payload."""
    return update_prefix(CODEC) + payload


def request_of(groups: Iterable[Sequence[Write]]) -> Request:
    """Returns a request with all writes of these groups, none of them coalesced."""
    several = [*groups]
    writes = [*chain.from_iterable(several)]
    return Request(writes, len(writes), sizes=() if len(writes) == len(several) else [*map(len, several)])


class Rig:
    """A queue with an epoch installed and a writer registered."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.link = queue.link
        self.keys: PartitionKeys = queue.keys
        self.epoch = 1
        self._requests = 0

    async def prepare(self, epoch: int = 1) -> None:
        self.epoch = epoch
        await Namespace(self.link, self.queue.namespace).enter(partitions=self.queue.partitions, codec=CODEC)
        meta = await self.queue.read_meta()
        assert await self.queue.install_epoch(meta, epoch, codec=CODEC)
        await self.queue.register("w")

    async def request(
        self,
        *groups: list[tuple[str, bytes | None]],
        writer: str = "w",
        request: int | None = None,
        repeated: bool = False,
        epoch: int | None = None,
        delay: float = 0.0,
        bounds: Bounds | None = None,
        after: int = 0,
    ) -> PutReply:
        if request is None:
            request = self._requests + 1
        if writer == "w":
            self._requests = max(self._requests, request)
        return await self.queue.put(
            request_of([(key.encode(), body(value)) for key, value in group] for group in groups),
            writer=writer,
            request=request,
            repeated=repeated,
            epoch=self.epoch if epoch is None else epoch,
            delay_seconds=delay,
            bounds=bounds or Bounds(),
            after=after,
        )

    async def send(
        self,
        *writes: tuple[str, bytes],
        numbers: Sequence[tuple[int, int]] | None = None,
        sizes: Sequence[int] = (),
        writer: str = "w",
        request: int | None = None,
        repeated: bool = False,
        epoch: int | None = None,
        bounds: Bounds | None = None,
    ) -> PutReply:
        """Sends writes whose bodies are given, each as a group of its own unless there are sizes."""
        if request is None:
            request = self._requests + 1
        if writer == "w":
            self._requests = max(self._requests, request)
        count = len(writes) if numbers is None else max(last for _, last in numbers)
        sent = Request([(key.encode(), body) for key, body in writes], count, numbers, sizes)
        return await self.queue.put(
            sent,
            writer=writer,
            request=request,
            repeated=repeated,
            epoch=self.epoch if epoch is None else epoch,
            delay_seconds=0.0,
            bounds=bounds or Bounds(),
        )

    async def update(self, key: str, payload: bytes = b"+1") -> Version:
        """Adds an entry, whose payload has no meaning to Redis."""
        reply = await self.send((key, update_body(payload)))
        assert isinstance(reply, Applied), reply
        assert reply == Applied(reply.seq, reply.woken, long=reply.long), "not applied"
        return make_version(self.epoch, reply.seq + 1)

    async def record(self, key: str) -> Record | PendingRecord | None:
        """What Redis holds of a key."""
        packed = await self.queue.packed(key.encode())
        return None if packed is None else unpack(key, packed)

    async def pending(self, key: str) -> PendingRecord:
        record = await self.record(key)
        assert isinstance(record, PendingRecord)
        return record

    async def put(self, key: str, value: bytes | None = b"1", *, delay: float = 0.0) -> Version:
        reply = await self.request([(key, value)], delay=delay)
        assert isinstance(reply, Applied), reply
        return make_version(self.epoch, reply.seq + 1)

    async def claim(self, *, records: int = 100, size: int = 10**6, lease: float = 30.0) -> Claim:
        """Claims as a flusher does: a record whose lease has expired may have to be claimed alone."""
        claim = await self.queue.claim(records=records, bytes=size, lease_seconds=lease)
        if claim.suspect_waits and not claim.records:
            claim = await self.queue.claim(records=records, bytes=size, lease_seconds=lease, alone=True)
        return claim

    async def read(self, key: str) -> tuple[Version, bytes | None] | None:
        """Returns the version and value of a record (None for a delete), or None if there is no record."""
        packed = await self.link.command("GET", self.keys.record(key.encode()))
        if packed is None:
            return None
        record = unpack_record(key, packed)
        return record.version, None if record.deleted else record.payload

    async def where(self, key: str) -> set[str]:
        """Returns the sets that contain a record (by invariant I1, exactly one)."""
        raw = key.encode()
        found = set()
        if await self.link.command("ZSCORE", self.keys.dirty, raw) is not None:
            found.add("dirty")
        if await self.link.command("ZSCORE", self.keys.lease, raw) is not None:
            found.add("leased")
        if await self.link.command("HEXISTS", self.keys.dead, raw):
            found.add("dead")
        return found

    async def keys_left(self) -> set[bytes]:
        """Returns the keys that a drained partition mustn't have: all but meta, writers and that of the namespace."""
        found = set(await self.link.command("KEYS", "*"))
        return {name for name in found if not name.endswith((b":meta", b":namespace")) and b":writer:" not in name}

    async def fill_memory(self) -> None:
        """Sets maxmemory below what is used, so that the server refuses writes."""
        await self.link.command("CONFIG", "SET", "maxmemory", "1")

    async def free_memory(self) -> None:
        await self.link.command("CONFIG", "SET", "maxmemory", "0")


@asynccontextmanager
async def open_rig(server: Server | Link, namespace: str = "rig") -> AsyncIterator[Rig]:
    link = RedisLink.from_url(server.url, timeout_seconds=5.0) if isinstance(server, Server) else server
    rig = Rig(Queue(link, namespace, 0, 1))
    await rig.prepare()
    try:
        yield rig
    finally:
        await link.command("CONFIG", "SET", "maxmemory", "0")
        await link.close()
