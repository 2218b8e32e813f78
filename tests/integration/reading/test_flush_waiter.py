"""Waiter: a wait ends by the backend's word alone, and Redis only tells that a write is still on its way."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress

import pytest

from asyncwb.errors import BackendUnavailable, DeadLettered, OutcomeUnknown, UsageError, WriteLost
from asyncwb.protocol.acknowledged import Acknowledged
from asyncwb.protocol.messages import Failure, Look
from asyncwb.protocol.queue import Queue
from asyncwb.reading.flush_waiter import Waiter
from asyncwb.records import Record, Version, make_version
from asyncwb.redis.link import Link
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness.partition import Parts
from tests.harness.rig import Rig, open_rig
from tests.harness.servers import Server


class WatchedQueue(Queue):
    """A queue that reports when it has been queried."""

    def __init__(self, link: Link) -> None:
        super().__init__(link, "rig", 0, 1)
        self.looked = asyncio.Event()
        self.looks: list[Sequence[bytes]] = []

    async def look(self, keys: Sequence[bytes], *, epoch: int, hasten: bool) -> Look | None:
        self.looks.append([*keys])
        look = await super().look(keys, epoch=epoch, hasten=hasten)
        self.looked.set()
        return look


class Desk:
    """A waiter on a partition without flushers; a test decides what becomes of each write."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.memory = MemoryBackend()
        self.backend = FaultyBackend(self.memory)
        self.queue = WatchedQueue(rig.link)
        self.parts = parts = Parts(rig, self.backend, queue=self.queue)
        self.loads: list[Sequence[str]] = []
        self.clock = 0.0
        self.waits = parts.waits
        self.waits.acknowledged = Acknowledged(100, lambda: self.clock)
        self.waiter = Waiter(
            parts.queue, parts.epochs, self._load, self.waits, parts.settings, rng=parts.rng, wake=parts.wake
        )
        self.serving = asyncio.create_task(self.waiter.serve())

    async def _load(self, keys: Sequence[str]) -> Mapping[str, Record]:
        self.loads.append([*keys])
        return await self.parts.adapter.load_durable(keys)

    async def put(self, key: str) -> Version:
        """Acknowledges a write of this process."""
        version = await self.rig.put(key)
        self.waits.acknowledged.add([[(key.encode(), b"")]], [version])
        return version

    async def end(self, key: str, *, dead: str = "", saved: bool = True) -> None:
        """Ends a write in Redis, as a dead letter if `dead` gives a reason; the backend gets it if `saved` is true."""
        claim = await self.rig.claim()
        assert [each.key for each in claim.records] == [key]
        if saved:
            await self.memory.save(claim.records)
        failed = {key: Failure(dead, "dead")} if dead else {}
        await self.rig.queue.ack(claim, failed=failed)

    def flush(self, key: str, version: Version | None = None) -> "asyncio.Task[None]":
        return asyncio.create_task(self.waiter.wait(key.encode(), version))

    async def still_waits(self, flush: "asyncio.Task[None]") -> None:
        """Checks that a wait goes on even after Redis has been asked once more and has answered."""
        for _ in range(2):
            self.queue.looked.clear()
            await asyncio.wait_for(self.queue.looked.wait(), 5)
        assert not flush.done()


@pytest.fixture
async def desk(redis_server: Server) -> AsyncIterator[Desk]:
    async with open_rig(redis_server) as rig:
        desk = Desk(rig)
        yield desk
        desk.waiter.close(UsageError("closed"))
        desk.serving.cancel()
        with suppress(asyncio.CancelledError):
            await desk.serving


async def test_write_that_redis_has_is_on_its_way_and_nobody_asks_the_backend(desk: Desk) -> None:
    desk.backend.fail_with = OSError("away")
    version = await desk.put("a")
    named, newest = desk.flush("a", version), desk.flush("a")
    await desk.still_waits(named)
    assert not newest.done()
    assert desk.loads == []
    assert {tuple(keys) for keys in desk.queue.looks} == {(b"a",)}, "both share each question"
    desk.waits.saved([(b"a", version)])  # as a flusher of this process tells
    await named
    await newest


async def test_write_that_has_left_redis_is_saved_if_the_backend_says_so(desk: Desk) -> None:
    version = await desk.put("a")
    flush = desk.flush("a", version)
    await desk.still_waits(flush)
    await desk.end("a")
    await flush
    assert desk.loads == [["a"]]
    assert desk.waits.acknowledged.unsaved() == {}


async def test_write_that_neither_has_is_lost(desk: Desk) -> None:
    version = await desk.put("a")
    await desk.end("a", saved=False)
    for wanted in (version, None):
        with pytest.raises(WriteLost, match="'a'"):
            await desk.flush("a", wanted)
    await desk.flush("never written")
    assert desk.loads == [["a"], ["a"]]


async def test_older_version_in_the_backend_is_not_the_write(desk: Desk) -> None:
    first = await desk.put("a")
    await desk.end("a")
    second = await desk.put("a")
    await desk.end("a", saved=False)
    await desk.flush("a", first)
    with pytest.raises(WriteLost):
        await desk.flush("a", second)


async def test_write_that_was_written_again_is_confirmed_by_the_backend_while_the_next_is_on_its_way(
    desk: Desk,
) -> None:
    first = await desk.put("a")
    await desk.memory.save([Record("a", first, b"1")])
    second = await desk.put("a")
    await desk.flush("a", first)
    flush = desk.flush("a", second)
    await desk.still_waits(flush)
    await desk.end("a")
    await flush


async def test_dead_letter_is_told_with_its_reason_unless_the_backend_has_the_write(desk: Desk) -> None:
    version = await desk.put("a")
    await desk.end("a", dead="too odd", saved=False)
    with pytest.raises(DeadLettered, match="too odd") as caught:
        await desk.flush("a", version)
    assert caught.value.reasons == {"a": "too odd"}
    assert desk.waits.acknowledged.dead == {b"a": version}
    await desk.memory.save([Record("a", version, b"1")])  # its last attempt was applied, and the answer lost
    await desk.flush("a", version)


async def test_loss_is_not_claimed_where_a_tombstone_may_have_been_purged(desk: Desk) -> None:
    version = await desk.put("a")
    await desk.end("a", saved=False)
    desk.clock = 4000.0
    with pytest.raises(OutcomeUnknown, match="deleted"):
        await desk.flush("a", version)


async def test_stored_version_of_a_later_epoch_confirms_a_write_once_the_server_is_in_that_epoch(desk: Desk) -> None:
    """Until then the version may come from another server, which never had this write."""
    version = await desk.put("a")
    await desk.end("a", saved=False)
    desk.memory.records["a"] = Record("a", make_version(2, 1), b"9")
    flush = desk.flush("a", version)
    await desk.still_waits(flush)
    await desk.parts.adapter.new_epoch(2)
    await desk.parts.epochs.check()
    await flush


async def test_backend_that_cannot_tell_fails_those_alone_whose_write_may_be_gone(desk: Desk) -> None:
    first = await desk.put("a")
    await desk.end("a")
    await desk.put("a")
    await desk.parts.adapter.open()
    desk.backend.fail_with = OSError("away")
    on_its_way = desk.flush("a", first)
    await desk.still_waits(on_its_way)
    gone = desk.flush("b", make_version(1, 1))
    with pytest.raises(BackendUnavailable):
        await gone
    assert not on_its_way.done()
    desk.backend.fail_with = None
    await on_its_way


async def test_what_is_waited_for_is_due_at_once(desk: Desk) -> None:
    await desk.rig.put("a", delay=60.0)
    assert not (await desk.rig.claim()).records
    flush = desk.flush("a")
    await desk.still_waits(flush)
    assert desk.parts.wakes
    await desk.end("a")
    await flush


async def test_all_are_waited_for_and_those_that_cannot_be_saved_are_named(desk: Desk) -> None:
    versions: dict[bytes, Version | None] = {}
    for key, fate in (("saved", {}), ("dead", {"dead": "odd", "saved": False}), ("lost", {"saved": False})):
        versions[key.encode()] = await desk.put(key)
        await desk.end(key, **fate)
    failed = await desk.waiter.wait_all(versions)
    assert {key: type(each.error) for key, each in failed.items()} == {b"dead": DeadLettered, b"lost": WriteLost}
    assert failed[b"dead"].letter is not None
    assert failed[b"dead"].letter.reason == "odd"
    assert [*desk.waits] == []


async def test_who_gives_up_is_asked_for_no_more(desk: Desk) -> None:
    await desk.put("a")
    await desk.put("b")
    given_up, stays = desk.flush("a"), desk.flush("b")
    await desk.still_waits(given_up)
    given_up.cancel()
    await asyncio.wait([given_up])
    assert [wait.key for wait in desk.waits] == [b"b"]
    await desk.still_waits(stays)
    desk.queue.looks.clear()
    await desk.still_waits(stays)
    assert {tuple(keys) for keys in desk.queue.looks} == {(b"b",)}


async def test_who_waits_is_served_again_after_a_crash(desk: Desk) -> None:
    await desk.put("a")
    flush = desk.flush("a")
    await desk.still_waits(flush)
    desk.serving.cancel()
    await asyncio.wait([desk.serving])
    await desk.end("a")
    desk.serving = asyncio.create_task(desk.waiter.serve())
    await flush


async def test_closing_fails_who_waits_and_who_comes(desk: Desk) -> None:
    await desk.put("a")
    flush = desk.flush("a")
    await desk.still_waits(flush)
    desk.waiter.close(UsageError("the buffer was closed"))
    for each in (flush, desk.flush("a")):
        with pytest.raises(UsageError, match="was closed"):
            await each


async def test_version_of_a_later_epoch_confirms_nothing_where_there_are_updates(desk: Desk) -> None:
    """It may have been built without the write, if the server lost that in between."""
    version = await desk.rig.update("a")
    desk.waits.acknowledged.add([[(b"a", b"")]], [version])
    await desk.rig.queue.ack(await desk.rig.claim())
    await desk.memory.save([Record("a", make_version(2, 1), b"9", codec="json")])
    await desk.parts.adapter.new_epoch(2)
    await desk.parts.epochs.check()
    with pytest.raises(OutcomeUnknown, match=r"'a'.*whether version"):
        await desk.flush("a", version)
    with pytest.raises(OutcomeUnknown):
        await desk.flush("a")
    assert desk.waits.acknowledged.version_of(b"a") == version
    failed = await desk.waiter.wait_all({b"a": version})
    assert failed[b"a"].overtaken


async def test_version_of_its_own_epoch_confirms_a_write_where_there_are_updates(desk: Desk) -> None:
    version = await desk.rig.update("a")
    later = await desk.rig.update("a")
    await desk.rig.queue.ack(await desk.rig.claim())
    await desk.memory.save([Record("a", later, b"2", codec="json")])
    await desk.flush("a", version)
    await desk.flush("a", later)


async def test_update_is_on_its_way_until_the_backend_has_it(desk: Desk) -> None:
    first, second = await desk.rig.update("a"), await desk.rig.update("a")
    flushes = [desk.flush("a", version) for version in (first, second, None)]
    for flush in flushes:
        await desk.still_waits(flush)
    await desk.memory.save([Record("a", first, b"1", codec="json")])
    await flushes[0]
    await desk.still_waits(flushes[1])
    await desk.rig.queue.ack(await desk.rig.claim())
    await desk.memory.save([Record("a", second, b"2", codec="json", based_on=first)])
    await asyncio.gather(*flushes)
