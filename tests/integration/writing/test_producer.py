"""Producer: each request at most once, whatever is lost on the way."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from asyncwb.errors import BackendUnavailable, OutcomeUnknown, RedisOutOfMemory, RedisUnavailable
from asyncwb.protocol import scripts
from asyncwb.protocol.epochs import Epochs
from asyncwb.protocol.messages import Bounds
from asyncwb.protocol.queue import Queue
from asyncwb.records import MAX_SEQ, Version, make_version
from asyncwb.redis.connection import RedisLink
from asyncwb.settings import Settings
from asyncwb.testing import MemoryBackend
from asyncwb.writing.producer import Full, Producer
from tests.harness.proxy import Proxy, open_proxy
from tests.harness.rig import Rig, body, open_rig, request_of
from tests.harness.servers import Server


@dataclass
class Desk:
    """A writer behind a proxy, and a rig that looks at the server past it."""

    writer: Producer
    proxy: Proxy
    rig: Rig
    backend: MemoryBackend
    wakes: list[None]

    async def put(self, key: str, value: bytes = b"1") -> int:
        (outcome,) = await self.writer.put([[(key.encode(), body(value))]])
        assert isinstance(outcome, Version)
        return outcome


MakeDesk = Callable[..., Awaitable[Desk]]


@pytest.fixture
async def make_desk(redis_server: Server) -> AsyncIterator[MakeDesk]:
    """Writers of their own with some settings, on the same partition and behind the same proxy."""
    async with open_rig(redis_server) as rig, open_proxy(redis_server) as proxy, AsyncExitStack() as stack:
        backend = MemoryBackend()
        await backend.new_epoch(1)

        async def make(**options: Any) -> Desk:
            link = RedisLink.from_url(proxy.url, timeout_seconds=0.25)
            stack.push_async_callback(link.close)
            queue = Queue(link, "rig", 0, 1)
            epochs = Epochs([queue], backend.new_epoch, codec="json")
            await epochs.check()
            settings = Settings(**{"redis_retry_seconds": 2.0, **options})
            wakes: list[None] = []
            writer = Producer(
                queue, epochs, settings, rng=random.Random(1), wake=lambda: wakes.append(None), on_long=lambda _: None
            )
            return Desk(writer, proxy, rig, backend, wakes)

        yield make


@pytest.fixture
async def desk(make_desk: MakeDesk) -> Desk:
    return await make_desk()


async def test_writer_registers_itself(desk: Desk) -> None:
    assert await desk.put("a") == make_version(1, 1)
    assert await desk.rig.where("a") == {"dirty"}
    assert desk.wakes


async def test_lost_reply_is_asked_for_again_and_nothing_is_applied_twice(desk: Desk) -> None:
    await desk.put("a", b"0")
    fault = desk.proxy.fault("drop reply", scripts.PUT)
    version = await desk.put("a", b"1")
    assert fault.happened == 1
    assert version == make_version(1, 2)
    assert await desk.rig.read("a") == (version, b"1")
    assert await desk.put("b") == make_version(1, 3)


async def test_lost_request_is_sent_again(desk: Desk) -> None:
    await desk.put("a", b"0")
    fault = desk.proxy.fault("drop request", scripts.PUT)
    assert await desk.put("a", b"1") == make_version(1, 2)
    assert fault.happened == 1


async def test_first_request_of_all_is_known_not_to_be_applied_when_it_is_lost(desk: Desk) -> None:
    """It bears a writer's id that no server knows yet, so the answer WRITER to its repetition settles it."""
    fault = desk.proxy.fault("drop request", scripts.PUT)
    assert await desk.put("a", b"1") == make_version(1, 1)
    assert fault.happened == 1


async def test_reply_that_comes_too_late_is_not_taken_for_another(desk: Desk) -> None:
    await desk.put("a", b"0")
    fault = desk.proxy.fault("hold reply", scripts.PUT)
    version = await desk.put("b", b"1")
    assert fault.happened == 1
    fault.release()
    assert await desk.rig.read("b") == (version, b"1")
    assert await desk.put("c") == make_version(1, 3)


@pytest.mark.parametrize("earlier", [0, 1], ids=["the first of all", "a later one"])
async def test_request_that_arrives_after_its_repetition_is_not_applied(desk: Desk, earlier: int) -> None:
    for _ in range(earlier):
        await desk.put("a", b"0")
    late = desk.proxy.fault("hold request", scripts.PUT)
    version = await desk.put("a", b"1")
    assert late.happened == 1
    newest = await desk.put("a", b"2")
    late.release()
    await desk.proxy.answered()
    assert await desk.rig.read("a") == (newest, b"2")
    assert (version, newest) == (make_version(1, earlier + 1), make_version(1, earlier + 2))


async def test_unreachable_server_is_told_as_not_written(make_desk: MakeDesk) -> None:
    desk = await make_desk(redis_retry_seconds=0.3)
    await desk.put("a", b"0")
    desk.proxy.hide()
    await asyncio.sleep(0.05)  # the connection's end has to arrive, or the write may count as sent
    with pytest.raises(RedisUnavailable):
        await desk.put("a", b"1")
    found = await desk.rig.read("a")
    assert found is not None
    assert found[1] == b"0"


async def test_server_that_comes_back_in_time_gets_the_write(desk: Desk) -> None:
    await desk.put("a", b"0")
    desk.proxy.hide()
    await asyncio.sleep(0.05)  # the connection's end has to arrive, or the write may count as sent
    put = asyncio.create_task(desk.put("a", b"1"))
    await asyncio.sleep(0.3)
    assert not put.done()
    await desk.proxy.listen()
    assert await put == make_version(1, 2)


async def test_outcome_is_unknown_if_no_answer_comes_at_all(make_desk: MakeDesk) -> None:
    desk = await make_desk(redis_retry_seconds=0.3)
    await desk.put("a", b"0")
    fault = desk.proxy.fault("drop reply", scripts.PUT, times=100)
    with pytest.raises(OutcomeUnknown):
        await desk.put("a", b"1")
    assert fault.happened > 1


async def test_outcome_is_unknown_if_the_writer_was_forgotten_meanwhile(desk: Desk) -> None:
    await desk.put("a", b"0")
    held = desk.proxy.fault("hold reply", scripts.PUT)

    async def forget() -> None:
        """Makes the server forget the writer while the first attempt's reply is delayed beyond the timeout."""
        await held.caught.wait()
        (name,) = [name for name in await desk.rig.link.command("KEYS", "*writer:*") if not name.endswith(b":w")]
        await desk.rig.link.command("DEL", name)

    forgetting = asyncio.create_task(forget())
    with pytest.raises(OutcomeUnknown, match="may or may not"):
        await desk.put("a", b"1")
    await forgetting
    assert held.happened == 1
    assert await desk.put("a", b"2") == make_version(1, 3), "the next request registers anew"


async def test_uncertain_request_is_not_applied_in_another_epoch(desk: Desk) -> None:
    await desk.put("a", b"0")
    lost = desk.proxy.fault("drop request", scripts.PUT)
    original = desk.writer._attempt

    async def attempt(*args: object, **options: object) -> object:
        if lost.happened:
            meta = await desk.rig.queue.read_meta()
            await desk.rig.queue.install_epoch(meta, 7, codec="json")
        return await original(*args, **options)  # type: ignore[arg-type]

    desk.writer._attempt = attempt  # type: ignore[assignment,method-assign]
    with pytest.raises(OutcomeUnknown, match="history"):
        await desk.put("a", b"1")
    assert lost.happened == 1
    found = await desk.rig.read("a")
    assert found is not None
    assert found[1] == b"0"


async def test_request_that_overtakes_the_one_before_waits_for_it(desk: Desk) -> None:
    await desk.put("a", b"0")
    lost = desk.proxy.fault("drop request", scripts.PUT)
    versions = [*await asyncio.gather(desk.put("a", b"1"), desk.put("a", b"2"))]
    assert lost.happened == 1
    assert versions == [make_version(1, 2), make_version(1, 3)]
    assert await desk.rig.read("a") == (versions[1], b"2")


async def test_lost_answer_is_remembered_behind_the_next_request(desk: Desk) -> None:
    await desk.put("a", b"0")
    lost = desk.proxy.fault("drop reply", scripts.PUT)
    versions = [*await asyncio.gather(desk.put("a", b"1"), desk.put("a", b"2"))]
    assert lost.happened == 1
    assert versions == [make_version(1, 2), make_version(1, 3)]
    assert await desk.rig.read("a") == (versions[1], b"2")


async def test_request_behind_one_that_failed_is_applied(desk: Desk) -> None:
    await desk.put("a", b"0")
    attempt = desk.writer._attempt

    async def refused(*args: Any, **options: Any) -> object:
        if args[1] == 2:
            await asyncio.sleep(0.05)
            raise RedisOutOfMemory("full")
        return await attempt(*args, **options)

    desk.writer._attempt = refused  # type: ignore[assignment,method-assign]
    first, second = await asyncio.gather(desk.put("a", b"1"), desk.put("a", b"2"), return_exceptions=True)
    assert isinstance(first, RedisOutOfMemory)
    assert second == make_version(1, 2)
    late = await desk.rig.queue.put(
        request_of([[(b"a", body(b"1"))]]), writer=desk.writer._id, request=2, repeated=False, epoch=1, delay_seconds=0,
        bounds=Bounds(),
    )  # fmt: skip
    assert late == "WRITER", "what was refused and arrives late after all doesn't undo what came behind it"
    assert await desk.rig.read("a") == (second, b"2")


async def test_two_requests_of_an_unknown_writer_register_it_once(desk: Desk) -> None:
    versions = [*await asyncio.gather(desk.put("a", b"1"), desk.put("a", b"2"))]
    assert versions == [make_version(1, 1), make_version(1, 2)]
    names = [name for name in await desk.rig.link.command("KEYS", "*writer:*") if not name.endswith(b":w")]
    assert len(names) == 1


async def test_request_that_certainly_is_not_applied_goes_on_under_the_present_name(desk: Desk) -> None:
    """Sent under the one before, it may arrive after the request behind it, at a server that knows both names."""
    await desk.put("a", b"0")
    attempt, names = desk.writer._attempt, []

    async def unreachable_once(*args: Any, **options: Any) -> object:
        names.append(args[2])
        if len(names) == 1:
            await desk.writer._register(instead_of=desk.writer._id)  # as the request behind does, told WRITER elsewhere
            raise RedisUnavailable("not now")
        return await attempt(*args, **options)

    desk.writer._attempt = unreachable_once  # type: ignore[assignment,method-assign]
    await desk.put("a", b"1")
    assert len(names) == 2
    assert names[0] != names[1] == desk.writer._id


async def test_new_epoch_is_begun_when_the_sequence_ends(desk: Desk) -> None:
    await desk.put("a", b"0")
    await desk.rig.link.command("HSET", desk.rig.keys.meta, "seq", MAX_SEQ)
    version = await desk.put("a", b"1")
    assert version == make_version(2, 1)
    assert await desk.rig.read("a") == (version, b"1")
    assert await desk.backend.new_epoch(0) == 2


async def test_new_epoch_needs_the_backend(desk: Desk) -> None:
    await desk.put("a", b"0")

    async def unavailable(at_least: int) -> int:
        raise BackendUnavailable("down")

    desk.writer._epochs._new_epoch = unavailable
    await desk.rig.link.command("HSET", desk.rig.keys.meta, "identity", "0" * 40)
    with pytest.raises(BackendUnavailable):
        await desk.put("a", b"1")
    found = await desk.rig.read("a")
    assert found is not None
    assert found[1] == b"0"


async def test_full_buffer_is_told_to_the_caller_alone(make_desk: MakeDesk) -> None:
    desk = await make_desk(max_dirty=1)
    first, second, third = await desk.writer.put([[(b"a", body(b"1"))], [(b"b", body(b"1"))], [(b"a", body(b"2"))]])
    assert first == make_version(1, 1)
    assert second == Full("records")
    assert third == make_version(1, 3)


async def test_server_at_maxmemory_is_an_error_not_a_retry(desk: Desk) -> None:
    await desk.put("a", b"0")
    await desk.rig.fill_memory()
    with pytest.raises(RedisOutOfMemory, match="drained"):
        await desk.put("a", b"1")
    await desk.rig.free_memory()
    assert await desk.put("a", b"2") == make_version(1, 2)


async def test_refusal_does_not_speak_for_an_earlier_attempt_that_is_still_under_way(make_desk: MakeDesk) -> None:
    """Told "nothing was written", the caller would write again, and the late request would be applied besides."""
    desk = await make_desk(redis_retry_seconds=1.0)
    await desk.put("a", b"0")
    late = desk.proxy.fault("hold request", scripts.PUT)
    await desk.rig.fill_memory()
    with pytest.raises(OutcomeUnknown, match="may or may not"):
        await desk.put("b", b"1")
    assert late.happened == 1
    await desk.rig.free_memory()
    late.release()
    async with asyncio.timeout(5):
        while await desk.rig.read("b") is None:
            await asyncio.sleep(0.01)
    assert await desk.put("b", b"2") == make_version(1, 3)


async def test_scripts_that_vanished_are_loaded_again(desk: Desk) -> None:
    await desk.put("a", b"0")
    await desk.rig.link.command("SCRIPT", "FLUSH")
    assert await desk.put("a", b"1") == make_version(1, 2)
