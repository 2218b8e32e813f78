"""Admission: what is refused at a limit is told, waits in its order, or is written through."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from asyncwb.errors import BackendError, BufferFull, OutcomeUnknown, RecordRejected, RedisOutOfMemory, UsageError
from asyncwb.events import FullChanged
from asyncwb.protocol.messages import Write
from asyncwb.protocol.queue import Queue
from asyncwb.records import Version
from asyncwb.redis.connection import RedisLink
from asyncwb.testing import FaultyBackend, MemoryBackend
from asyncwb.writing.admission import Admission, Answer
from asyncwb.writing.producer import Producer
from asyncwb.writing.waitingroom import WaitingWrites
from tests.harness.partition import Parts
from tests.harness.proxy import open_proxy
from tests.harness.rig import Rig, body, open_rig
from tests.harness.servers import Server


def group(keys: str, value: bytes = b"1") -> list[Write]:
    """Returns the writes of one caller; each letter is a key."""
    return [(key.encode(), body(value)) for key in keys]


class Desk:
    """Admission to a partition that is full of three records, until one is saved."""

    def __init__(self, rig: Rig, *, queue: Queue | None = None, **options: Any) -> None:
        self.rig = rig
        self.memory = MemoryBackend()
        self.backend = FaultyBackend(self.memory)
        options = {"max_dirty": 3, "low_watermark": 1.0, "full_timeout_seconds": 60.0, **options}
        self.parts = parts = Parts(rig, self.backend, queue=queue, **options)
        self.admission = Admission(
            Producer(parts.queue, parts.epochs, parts.settings, rng=parts.rng, wake=parts.wake, on_long=lambda _: None),
            parts.queue,
            parts.epochs,
            parts.adapter,
            parts.settings,
            acknowledged=parts.acknowledged,
            totals=parts.totals,
            rng=parts.rng,
            emit=parts.events.append,
        )
        self.serving = asyncio.create_task(self.admission.serve())

    async def put(self, *groups: Sequence[Write]) -> "list[Answer | asyncio.Future[Version]]":
        """Puts writes as a batch of the partition does; a caller that has to wait gets a future."""
        answers: list[Answer | asyncio.Future[Version]] = []
        for answer in await self.admission.put(groups):
            if isinstance(answer, WaitingWrites):
                future: asyncio.Future[Version] = asyncio.get_running_loop().create_future()
                answer.answer_to(future)
                answers.append(future)
            else:
                answers.append(answer)
        return answers

    async def waiting(self, *groups: Sequence[Write]) -> "list[asyncio.Future[Version]]":
        futures = [each for each in await self.put(*groups) if isinstance(each, asyncio.Future)]
        assert len(futures) == len(groups)
        return futures

    async def written(self, *groups: Sequence[Write]) -> list[Version]:
        versions = [each for each in await self.put(*groups) if isinstance(each, Version)]
        assert len(versions) == len(groups)
        return versions

    async def make_room(self, records: int) -> None:
        """Makes room as a flusher does when it saves some records."""
        claim = await self.rig.claim(records=records)
        assert len(claim.records) == records
        await self.rig.queue.ack(claim)

    @property
    def told(self) -> list[tuple[bool, str]]:
        return [(each.full, each.limit) for each in self.parts.events if isinstance(each, FullChanged)]


MakeDesk = Callable[..., Desk]


@pytest.fixture
async def make_desk(redis_server: Server) -> AsyncIterator[MakeDesk]:
    desks: list[Desk] = []
    async with open_rig(redis_server) as rig:

        def make(**options: Any) -> Desk:
            desks.append(Desk(rig, **options))
            return desks[-1]

        yield make
        for desk in desks:
            desk.admission.close(UsageError("closed"), under_way=OutcomeUnknown("closed"))
            desk.serving.cancel()
            with suppress(asyncio.CancelledError):
                await desk.serving


async def test_write_that_is_taken_is_remembered_and_counted(make_desk: MakeDesk) -> None:
    desk = make_desk()
    first, second = await desk.written(group("ab"), group("c"))
    assert desk.parts.acknowledged.unsaved() == {b"a": first, b"b": first + 1, b"c": second}
    assert desk.parts.totals.acknowledged == 3
    assert desk.told == []


async def test_write_that_is_refused_takes_no_neighbour_along_and_is_neither_remembered_nor_counted(
    make_desk: MakeDesk,
) -> None:
    desk = make_desk()
    await desk.written(group("ab"))
    refused, written = await desk.put(group("cd"), group("a", b"2"))
    assert isinstance(refused, BufferFull)
    assert "max_dirty=3" in str(refused)
    assert isinstance(written, Version)
    assert {*desk.parts.acknowledged.unsaved()} == {b"a", b"b"}
    assert desk.parts.totals.acknowledged == 3
    assert await desk.rig.where("c") == set()


async def test_beginning_and_end_of_a_limit_are_told_once(make_desk: MakeDesk) -> None:
    desk = make_desk()
    await desk.written(group("abc"))
    for _ in range(3):
        assert isinstance((await desk.put(group("d")))[0], BufferFull)
    assert desk.told == [(True, "records")]
    await desk.make_room(2)
    await desk.written(group("d"))
    await desk.written(group("d"))
    assert desk.told == [(True, "records"), (False, "")]


async def test_write_that_is_refused_waits_in_its_order(make_desk: MakeDesk) -> None:
    desk = make_desk(on_full="wait")
    await desk.written(group("abc"))
    first, second = await desk.waiting(group("d"), group("e"))
    (third,) = await desk.waiting(group("f"))
    await desk.make_room(2)
    assert await first < await second
    assert not third.done()
    await desk.make_room(1)
    assert await second < await third
    await asyncio.wait_for(desk.admission.join(), 5)
    assert desk.parts.totals.acknowledged == 6
    assert desk.parts.acknowledged.version_of(b"f") == third.result()


async def test_write_that_needs_no_room_passes_those_that_wait_but_not_one_of_its_key(make_desk: MakeDesk) -> None:
    desk = make_desk(on_full="wait")
    await desk.written(group("abc"))
    (waiting,) = await desk.waiting(group("da", b"2"))
    passed, behind = await desk.put(group("b", b"3"), group("a", b"3"))
    assert isinstance(passed, Version)
    assert isinstance(behind, asyncio.Future)
    await desk.make_room(3)
    assert passed < await waiting < await behind
    assert (await desk.rig.read("a") or (0, b""))[1] == b"3"


async def test_write_whose_time_is_over_was_not_written_and_hears_what_it_waited_for(make_desk: MakeDesk) -> None:
    desk = make_desk(on_full="wait", full_timeout_seconds=0.0)
    await desk.written(group("abc"))
    (waiting,) = await desk.waiting(group("d"))
    with pytest.raises(BufferFull, match=r"nothing was written.*max_dirty=3"):
        await asyncio.wait_for(waiting, 5)
    assert await desk.rig.where("d") == set()
    await asyncio.wait_for(desk.admission.join(), 5)


async def test_server_at_maxmemory_is_a_limit_like_any_other(make_desk: MakeDesk) -> None:
    desk = make_desk(on_full="wait", max_dirty=None)
    await desk.written(group("a"))
    await desk.rig.fill_memory()
    (waiting,) = await desk.waiting(group("b"))
    assert desk.told == [(True, "maxmemory")]
    await desk.rig.free_memory()
    assert await asyncio.wait_for(waiting, 5)
    refusing = make_desk(max_dirty=None)
    await refusing.written(group("a"))
    await desk.rig.fill_memory()
    assert isinstance((await refusing.put(group("c")))[0], RedisOutOfMemory)


async def test_closing_tells_what_was_sent_from_what_still_waited(redis_server: Server) -> None:
    async with open_rig(redis_server) as rig, open_proxy(redis_server) as proxy:
        link = RedisLink.from_url(proxy.url, timeout_seconds=5)
        desk = Desk(rig, queue=Queue(link, "rig", 0, 1), on_full="wait", batch_bytes=1)  # one write a request
        await desk.written(group("abc"))
        sent, waiting = await desk.waiting(group("d"), group("e"))
        held = proxy.fault("hold reply", b"pj1")
        await asyncio.wait_for(held.caught.wait(), 5)
        desk.serving.cancel()
        with suppress(asyncio.CancelledError):
            await desk.serving
        desk.admission.close(UsageError("closed"), under_way=OutcomeUnknown("closed"))
        held.release()
        with pytest.raises(OutcomeUnknown):
            await sent
        with pytest.raises(UsageError):
            await waiting
        await link.close()


# Written through


async def test_what_is_written_through_is_newer_than_what_redis_had_of_its_key_which_leaves(
    make_desk: MakeDesk,
) -> None:
    desk = make_desk(on_full="write-through")
    (older,) = await desk.written(group("a", b"1"))
    await desk.written(group("bc"))
    through, passed = await desk.written(group("ad", b"2"), group("b", b"3"))
    assert {key: (each.version, each.value) for key, each in desk.memory.records.items()} == {
        "a": (through, 2),
        "d": (through + 1, 2),
    }
    assert older < through
    assert await desk.rig.where("a") == set()
    assert {*desk.parts.acknowledged.unsaved()} == {b"b", b"c"}, "what is saved can't be lost"
    assert await desk.rig.where("b") == {"dirty"}
    assert passed
    (next_one,) = await desk.written(group("a", b"4"))
    assert next_one > through + 1


async def test_write_through_that_is_refused_is_told_to_its_callers_alone(make_desk: MakeDesk) -> None:
    desk = make_desk(on_full="write-through")
    await desk.written(group("abc"))
    desk.backend.poison["d"] = RecordRejected("odd")
    refused, saved = await desk.put(group("d"), group("e"))
    assert isinstance(refused, BackendError)
    assert "odd" in str(refused)
    assert isinstance(saved, Version)
    assert desk.memory.values == {"e": 1}
    assert desk.parts.totals.acknowledged == 4


async def test_write_through_while_the_backend_is_away_is_no_acknowledgement(make_desk: MakeDesk) -> None:
    desk = make_desk(on_full="write-through")
    await desk.written(group("abc"))
    desk.backend.fail_saves_after = 1
    (unknown,) = await desk.put(group("d"))
    assert isinstance(unknown, OutcomeUnknown), "as here, it may be there all the same"
    assert desk.parts.totals.acknowledged == 3
