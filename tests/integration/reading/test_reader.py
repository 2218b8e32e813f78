"""Reader: Redis first, the backend for what isn't there, and the newer of both across epochs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import suppress
from typing import Any, cast

import pytest

from asyncwb.errors import BackendUnavailable, DecodeError
from asyncwb.protocol.wire import unpack_record
from asyncwb.reading.reader import Found, PendingRead, Reader
from asyncwb.records import Record, Version, make_version
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness.partition import Parts
from tests.harness.rig import Rig, open_rig
from tests.harness.servers import Server

Held = tuple[Version, bytes | None] | None


def seen(key: str, found: Found) -> Held:
    """Returns the version and value that a read has found, or None if there is none."""
    if found is None:
        return None
    record = unpack_record(key, found) if isinstance(found, bytes) else found
    return record.version, None if record.deleted else record.payload


class Desk:
    """Reads as a partition's batches do: a group of keys for each caller."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.memory = MemoryBackend()
        self.backend = FaultyBackend(self.memory)
        parts = Parts(rig, self.backend)
        self.reader = Reader(parts.queue, parts.epochs, parts.adapter, parts.settings, parts.rng)
        self.loads: list[Sequence[str]] = []
        load = self.backend.load

        async def counted(keys: Sequence[str]) -> dict[str, Record]:
            self.loads.append([*keys])
            return await load(keys)

        self.backend.load = counted  # type: ignore[method-assign]

    def store(self, key: str, version: Version, payload: bytes = b'"stored"', *, deleted: bool = False) -> None:
        self.memory.records[key] = Record(key, version, b"" if deleted else payload, deleted=deleted)

    async def begin_epoch(self, epoch: int) -> None:
        """Begins an epoch as another process does when the server's history has changed."""
        assert await self.rig.queue.install_epoch(await self.rig.queue.read_meta(), epoch, codec="json")
        self.rig.epoch = epoch
        await self.memory.new_epoch(epoch)

    async def ask(self, *groups: Sequence[str]) -> list[Awaitable[Sequence[Found]]]:
        answers = await self.reader.read([[key.encode() for key in group] for group in groups])
        futures: list[asyncio.Future[Sequence[Found]]] = []
        for answer in answers:
            future: asyncio.Future[Sequence[Found]] = asyncio.get_running_loop().create_future()
            if isinstance(answer, PendingRead):
                answer.answer_to(future)
            elif isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
            futures.append(future)
        return cast("list[Awaitable[Sequence[Found]]]", futures)

    async def read(self, *groups: Sequence[str]) -> list[list[Held] | BaseException]:
        """Returns what each caller gets."""
        outcomes = await asyncio.gather(*await self.ask(*groups), return_exceptions=True)
        return [
            outcome
            if isinstance(outcome, BaseException)
            else [seen(key, found) for key, found in zip(group, outcome, strict=True)]
            for group, outcome in zip(groups, outcomes, strict=True)
        ]


@pytest.fixture
async def desk(redis_server: Server) -> AsyncIterator[Desk]:
    async with open_rig(redis_server) as rig:
        desk = Desk(rig)
        for _ in range(5):
            await rig.put("of before")  # so that the backend may hold versions of this epoch
        serving = asyncio.create_task(desk.reader.loader.serve())
        yield desk
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def test_record_of_the_present_epoch_is_read_without_the_backend(desk: Desk) -> None:
    desk.backend.fail_with = OSError("away")
    written, deleted = await desk.rig.put("a", b"1"), await desk.rig.put("b", None)
    desk.store("b", make_version(1, 1))
    assert await desk.read(["a"], ["b"]) == [[(written, b"1")], [(deleted, None)]]
    assert await desk.read(["a", "b"]) == [[(written, b"1"), (deleted, None)]]
    assert not desk.loads


async def test_what_redis_has_not_is_the_backends_and_each_caller_gets_its_own(desk: Desk) -> None:
    written = await desk.rig.put("a", b"1")
    desk.store("b", make_version(1, 1))
    desk.store("c", make_version(1, 2), deleted=True)
    stored, gone = (make_version(1, 1), b'"stored"'), (make_version(1, 2), None)
    assert await desk.read(["a", "b", "nowhere"], ["c"], ["a"], ["nowhere", "b"]) == [
        [(written, b"1"), stored, None],
        [gone],
        [(written, b"1")],
        [None, stored],
    ]
    assert desk.loads == [["b", "nowhere", "c"]], "all at once, and each key once"


async def test_reading_puts_nothing_into_redis(desk: Desk) -> None:
    """What was read could be older than a write that arrives meanwhile."""
    desk.store("a", make_version(1, 1))
    before = await desk.rig.link.command("DBSIZE")
    assert await desk.read(["a"]) == [[(make_version(1, 1), b'"stored"')]]
    assert await desk.rig.link.command("DBSIZE") == before


async def test_record_of_an_earlier_epoch_counts_unless_the_backend_has_a_newer_one(desk: Desk) -> None:
    """A newer one may have been saved from a server that was in use meanwhile."""
    old = [await desk.rig.put(key, b"1") for key in ("newer", "older", "none", "gone")]
    await desk.begin_epoch(3)
    desk.store("newer", make_version(2, 1))
    desk.store("older", old[1] - 1)
    desk.store("gone", make_version(2, 2), deleted=True)
    assert await desk.read(["newer", "older", "none", "gone"]) == [
        [(make_version(2, 1), b'"stored"'), (old[1], b"1"), (old[2], b"1"), (make_version(2, 2), None)]
    ]


async def test_version_that_no_history_has_made_is_older_than_what_redis_has(desk: Desk) -> None:
    """Data copied into the place are read only for keys that Redis doesn't have."""
    written = await desk.rig.put("a", b"1")
    await desk.begin_epoch(3)
    for key in ("a", "b"):
        desk.store(key, make_version(40, 1))
    assert await desk.read(["a", "b"]) == [[(written, b"1"), (0, b'"stored"')]]


async def test_record_that_another_program_overwrote_fails_its_callers_alone(desk: Desk) -> None:
    written = await desk.rig.put("a", b"1")
    await desk.rig.link.command("SET", desk.rig.keys.record(b"bad"), "x")
    desk.store("bad", make_version(1, 1))
    good, bad, mixed = await desk.read(["a"], ["bad"], ["a", "bad", "nowhere"])
    assert good == [(written, b"1")]
    assert isinstance(bad, DecodeError)
    assert isinstance(mixed, DecodeError)


async def test_backend_that_is_away_fails_those_alone_who_need_it(desk: Desk) -> None:
    written = await desk.rig.put("a", b"1")
    await desk.read(["warm"])
    desk.backend.fail_with = OSError("away")
    here, away = await desk.read(["a"], ["a", "nowhere"])
    assert here == [(written, b"1")]
    assert isinstance(away, BackendUnavailable)


async def test_read_during_a_change_of_epochs_is_made_again(desk: Desk) -> None:
    await desk.read(["a"])
    await desk.begin_epoch(2)
    await desk.rig.queue.register("w")
    written = await desk.rig.put("a", b"2")
    await desk.rig.link.command("HSET", desk.rig.keys.meta, "identity", "of another server")
    found: Any = await desk.read(["a"])
    assert found == [[(written, b"2")]]
    assert (await desk.rig.queue.read_meta()).epoch == 3, "the next one has begun"
