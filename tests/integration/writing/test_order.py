"""The writes of one process are applied in the order of their calls, whatever durability each of them asks for."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, get_args

import pytest

from asyncwb import Add, Buffer, Max, NotConfirmed, RedisUnavailable, UnsuitableServer, UsageError
from asyncwb.core.call_order import CallOrder, Sent
from asyncwb.errors import AsyncwbError
from asyncwb.protocol import scripts
from asyncwb.settings import Durability
from asyncwb.testing import MemoryBackend
from asyncwb.testing.contract import run_until_suspension
from tests.harness.proxy import open_proxy
from tests.harness.replication import ask, is_synchronised
from tests.harness.servers import Server, binary

Call = Callable[..., Coroutine[Any, Any, Any]]

INFO = b"$4\r\nINFO\r\n"
"""The command as it is sent: CLIENT SETINFO is another one."""

# Each writes key "k", and says what it leaves there.
WRITES: dict[str, Callable[[Buffer[int], int], tuple[Call, int | None]]] = {
    "set": lambda buffer, value: (partial(buffer.set, "k", value), value),
    "delete": lambda buffer, value: (partial(buffer.delete, "k"), None),
    "set_many": lambda buffer, value: (partial(buffer.set_many, {"other": 0, "k": value}), value),
    "update": lambda buffer, value: (partial(buffer.update, "k", Max(value), default=value), value),
    "update_many": lambda buffer, value: (partial(buffer.update_many, {"other": Add(), "k": Max(value)}), value),
    "delete_many": lambda buffer, value: (partial(buffer.delete_many, ["other", "k"]), None),
}


def test_every_method_that_writes_is_among_them() -> None:
    """A method that takes a durability submits a write: whoever adds one adds it here."""
    public = {name: method for name, method in inspect.getmembers(Buffer, inspect.isfunction) if name[0] != "_"}
    writing = {name for name, method in public.items() if "durability" in inspect.signature(method).parameters}
    others = {"insert", "insert_many"} | {"add", "append"}  # a key of its own for each call; calls of `update`
    assert writing - others == set(WRITES)


@pytest.fixture(scope="module")
def able_server() -> Iterator[Server]:
    """A server that can give every level of durability, at once."""
    if binary("valkey")[0] is None:
        pytest.skip(binary("valkey")[1])
    config: dict[str, Any] = {"appendonly": "yes", "appendfsync": "always", "repl-diskless-sync-delay": "0"}
    primary = Server("valkey", **config)
    replica = Server("valkey", replicaof=f"127.0.0.1 {primary.port}", **config)
    asyncio.run(is_synchronised(replica))
    yield primary
    replica.stop()
    primary.stop()


@pytest.mark.parametrize("use", ["first", "later"])
@pytest.mark.parametrize("level", get_args(Durability))
@pytest.mark.parametrize("name", WRITES)
async def test_later_calls_never_overtake_one_that_asks_for_more_durability(
    able_server: Server, namespace: str, name: str, level: Durability, use: str
) -> None:
    for number, behind in enumerate(WRITES):
        async with Buffer[int](
            able_server.url, backend=MemoryBackend(), namespace=f"{namespace[:40]}.{number}", flushers=0
        ) as buffer:
            if use == "later":
                await buffer.set("k", 0, durability=level)
            # The durable one is the first, in the middle, and the last: it neither is overtaken nor overtakes.
            order = [(name, level), (behind, "memory"), (name, level), (behind, "memory"), (name, level)]
            calls = [(WRITES[each](buffer, value), asked) for value, (each, asked) in enumerate(order, 1)]
            answers = await asyncio.gather(*(call(durability=asked) for (call, _), asked in calls))
            versions = [answer["k"] if isinstance(answer, dict) else answer for answer in answers]
            assert versions == sorted(set(versions)), behind
            (_, left), _ = calls[-1]
            assert await buffer.get("k") == left


async def test_call_behind_one_that_the_server_cannot_give_is_written_and_that_one_is_not(
    valkey_url: str, namespace: str
) -> None:
    async with Buffer[int](valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer:
        refused, kept, also_refused, last = await asyncio.gather(
            buffer.set("a", 1, durability="fsync"), buffer.set("a", 2),
            buffer.set_many({"a": 3, "b": 3}, durability="replicated"), buffer.delete("c"),
            return_exceptions=True,
        )  # fmt: skip
        assert isinstance(refused, UnsuitableServer)
        assert isinstance(also_refused, UnsuitableServer)
        assert isinstance(kept, int)
        assert isinstance(last, int)
        assert kept < last
        assert await buffer.get_many(["a", "b"]) == {"a": 2}


async def test_level_that_the_server_gains_can_be_had_from_then_on(
    private_server: Callable[..., Server], namespace: str
) -> None:
    server = await asyncio.to_thread(private_server, "valkey")
    async with Buffer[int](server.url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer:
        for _ in range(2):
            with pytest.raises(UnsuitableServer):
                await buffer.set("a", 1, durability="fsync")
        await asyncio.to_thread(ask, server, "CONFIG", "SET", "appendonly", "yes")
        assert sorted(await asyncio.gather(buffer.set("a", 2, durability="fsync"), buffer.set("a", 3)))
        assert await buffer.get("a") == 3


async def test_level_that_the_server_loses_is_not_confirmed_and_keeps_its_place(
    private_server: Callable[..., Server], namespace: str
) -> None:
    server = await asyncio.to_thread(private_server, "valkey", appendonly="yes", appendfsync="always")
    async with Buffer[int](server.url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer:
        await buffer.set("a", 0, durability="fsync")
        await asyncio.to_thread(ask, server, "CONFIG", "SET", "appendonly", "no")
        lost, behind = await asyncio.gather(
            buffer.set("a", 1, durability="fsync"), buffer.set("a", 2), return_exceptions=True
        )
        assert isinstance(lost, NotConfirmed)
        assert isinstance(behind, int)
        assert lost.versions["a"] < behind
        assert await buffer.get("a") == 2
        await asyncio.to_thread(ask, server, "CONFIG", "SET", "appendonly", "yes")
        async with asyncio.timeout(5):
            while True:
                with suppress(NotConfirmed):  # while the file is rewritten
                    await buffer.set("a", 3, durability="fsync")
                    break


async def test_lost_answer_to_the_question_for_a_level_is_asked_again(able_server: Server, namespace: str) -> None:
    """It doesn't make the outcome of a write unknown, since no write has been sent."""
    async with (
        open_proxy(able_server) as proxy,
        Buffer[int](proxy.url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer,
    ):
        fault = proxy.fault("drop reply", INFO)
        await asyncio.gather(buffer.set("a", 1, durability="fsync"), buffer.set("a", 2))
        assert fault.happened == 1
        assert await buffer.get("a") == 2


async def test_server_that_does_not_answer_the_question_holds_nothing_up_for_long(
    able_server: Server, namespace: str
) -> None:
    """All writes that wait for a level fail at once, and those behind them are then sent."""
    async with (
        open_proxy(able_server) as proxy,
        Buffer[int](
            proxy.url, backend=MemoryBackend(), namespace=namespace, flushers=0,
            redis_retry_seconds=0.3,
        ) as buffer,
    ):  # fmt: skip
        await buffer.set("warm", 0)
        proxy.fault("drop reply", INFO, times=1000)
        calls = [buffer.set(f"k{number}", 1, durability="fsync") for number in range(100)]
        async with asyncio.timeout(3):
            *refused, behind = await asyncio.gather(*calls, buffer.set("a", 1), return_exceptions=True)
        assert {type(each) for each in refused} == {RedisUnavailable}
        assert isinstance(behind, int)
        assert await buffer.get_many([f"k{number}" for number in range(100)]) == {}


async def test_buffer_that_is_closed_meanwhile_sends_what_waits_or_says_that_it_did_not(
    able_server: Server, namespace: str
) -> None:
    for drain in (True, False):
        memory = MemoryBackend()
        buffer = Buffer[int](able_server.url, backend=memory, namespace=f"{namespace[:50]}.{drain}")
        await buffer.open()
        calls = [asyncio.create_task(buffer.set("a", 1, durability="fsync")), asyncio.create_task(buffer.set("a", 2))]
        await asyncio.sleep(0)
        await buffer.aclose(drain=drain)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        if drain:
            assert all(isinstance(each, int) for each in outcomes), outcomes
            assert memory.values == {"a": 2}
        else:
            assert all(isinstance(each, UsageError) for each in outcomes), outcomes
            async with Buffer[int](able_server.url, backend=memory, namespace=f"{namespace[:50]}.{drain}") as again:
                assert await again.get("a") is None, "nothing was sent"


@pytest.mark.parametrize("name", WRITES)
async def test_first_durable_write_cancelled_at_any_await_is_written_whole_or_not_at_all(
    able_server: Server, namespace: str, name: str
) -> None:
    cancelled = 0
    for stop_at in range(1, 30):
        async with Buffer[int](
            able_server.url, backend=MemoryBackend(), namespace=f"{namespace[:40]}.{stop_at}", flushers=0
        ) as buffer:
            await buffer.set_many({"k": -1, "other": -1})
            call, left = WRITES[name](buffer, 7)
            finished = await run_until_suspension(partial(call, durability="fsync"), stop_at)
            behind = await buffer.set("behind", stop_at)
            found = await buffer.get_many(["k", "other"])
            assert found.get("k") in (-1, left)
            if name.endswith("many"):
                assert (found.get("k") == -1) == (found.get("other") == -1)
            assert await buffer.set("behind", 0) > behind, "the buffer works on"
        if finished:
            break
        cancelled += 1
    else:
        pytest.fail("it never finished")
    assert cancelled >= 2


async def test_order_holds_while_the_first_put_is_on_its_way(able_server: Server, namespace: str) -> None:
    """What was waiting is sent before what is called after the answer of the server, though that is sent at once."""
    async with (
        open_proxy(able_server) as proxy,
        Buffer[int](proxy.url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer,
    ):
        await buffer.set("warm", 0)
        held = proxy.fault("hold request", scripts.PUT)
        calls = [asyncio.create_task(buffer.set("a", 1, durability="fsync")), asyncio.create_task(buffer.set("a", 2))]
        await held.caught.wait()
        calls.append(asyncio.create_task(buffer.set("a", 3)))
        await asyncio.sleep(0)
        held.release()
        versions = await asyncio.gather(*calls)
        assert versions == sorted(versions)
        assert await buffer.get("a") == 3


# The line itself, without a server


class Answers:
    """Answers questions for levels when it is told to."""

    def __init__(self) -> None:
        self.possible: set[str] = {"memory"}
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.refusal: AsyncwbError | None = None

    async def ask(self, level: Durability) -> None:
        self.asked.append(level)
        await self.gate.wait()
        if self.refusal is not None:
            raise self.refusal
        self.possible.add(level)


@asynccontextmanager
async def line() -> AsyncIterator[tuple[CallOrder, Answers, list[Any], Callable[..., asyncio.Task[Sent]]]]:
    """Yields a line, its server, a list of what was sent, and a function that calls a write."""
    server, sent = Answers(), list[Any]()
    order = CallOrder(server.possible.__contains__, server.ask)
    serving = asyncio.create_task(order.serve())

    def call(name: Any, level: Durability = "memory") -> asyncio.Task[Sent]:
        def send() -> Sent:
            sent.append(name)
            return [asyncio.get_running_loop().create_future()]

        return asyncio.create_task(order.send(level, send))

    try:
        yield order, server, sent, call
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def rounds(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_line_is_passed_at_once_where_nothing_has_to_be_asked() -> None:
    async with line() as (order, server, sent, call):
        call(1)
        await asyncio.sleep(0)
        assert sent == [1]
        assert not server.asked
        assert not order.held


async def test_line_is_first_in_first_out_over_several_levels() -> None:
    async with line() as (_order, server, sent, call):
        calls = [call(1, "fsync"), call(2), call(3, "replicated"), call(4, "fsync"), call(5)]
        await rounds()
        assert sent == []
        server.gate.set()
        await asyncio.gather(*calls)
        assert sent == [1, 2, 3, 4, 5]
        assert server.asked == ["fsync", "replicated"], "each once"


async def test_cancelled_write_holds_nobody_up() -> None:
    async with line() as (order, server, sent, call):
        first, second, third = call(1, "fsync"), call(2), call(3, "fsync")
        await rounds()
        first.cancel()
        await rounds()
        assert sent == [2], "the answer for the first is still to come, and nobody waits for it"
        third.cancel()
        call(4)
        await rounds()
        assert sent == [2, 4]
        assert await second
        assert not order.held
        server.gate.set()


async def test_joining_does_not_spin_where_the_last_of_the_line_was_cancelled() -> None:
    async with line() as (order, server, sent, call):
        first, last = call(1, "fsync"), call(2, "fsync")
        await rounds()
        last.cancel()
        joining = asyncio.create_task(order.join())
        await rounds()
        waited = asyncio.wait
        calls = 0

        async def count(futures: Any) -> Any:
            nonlocal calls
            calls += 1
            return await waited(futures)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio, "wait", count)
            await rounds(100)
        assert not joining.done()
        assert calls <= 1
        server.gate.set()
        await first
        await joining
        assert sent == [1]


async def test_write_that_is_cancelled_in_the_moment_of_its_turn_takes_along_what_it_sent() -> None:
    async with line() as (order, server, _sent, _call):
        futures = list[asyncio.Future[int]]()

        def send() -> Sent:
            futures.append(asyncio.get_running_loop().create_future())
            return futures

        writing = asyncio.create_task(order.send("fsync", send))
        await rounds()
        order._ask = server.ask
        server.possible.add("fsync")
        order._advance()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert futures[0].cancelled()


async def test_refusal_is_told_to_all_that_wait_for_that_level_alone() -> None:
    async with line() as (_order, server, sent, call):
        server.refusal = UnsuitableServer("no append-only file")
        calls = [call(1, "fsync"), call(2), call(3, "fsync"), call(4)]
        await rounds()
        server.gate.set()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(outcome, UnsuitableServer) for outcome in outcomes] == [True, False, True, False]
        assert outcomes[0] is not outcomes[2]
        assert sent == [2, 4]
        assert server.asked == ["fsync"]


async def test_closed_line_fails_what_waits_and_what_comes() -> None:
    async with line() as (order, _server, sent, call):
        waiting = [call(1, "fsync"), call(2)]
        await rounds()
        joined = asyncio.create_task(order.join())
        await rounds()
        assert not joined.done()
        order.close(UsageError("closed"))
        for each in [*waiting, call(3, "fsync")]:
            with pytest.raises(UsageError):
                await each
        await joined
        assert sent == []
