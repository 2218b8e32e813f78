"""Errors of the server: each one judged in one table; what was not executed and passes is tried again."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from asyncwb import Buffer, RedisError, RedisOutOfMemory, RedisRefused, RedisUnavailable, Settings
from asyncwb.redis.connection import RedisLink
from asyncwb.redis.script import Script
from asyncwb.redis.server_errors import CODES, ERRORS, TEXTS, Meaning, UnknownScript, judge
from asyncwb.testing import MemoryBackend
from tests.harness.servers import Server

StartServer = Callable[..., Server]

NOT_OURS = (
    "BUSYGROUP", "BUSYKEY", "INPROG", "INVALIDOBJ", "IOERR", "NOGOODSLAVE", "NOGROUP", "NOMASTERLINK", "NOPROTO",
    "NOQUORUM", "NOSUB", "NOTBUSY", "UNKILLABLE",
)  # fmt: skip
EXPECTED: dict[str, type[RedisError]] = {
    **dict.fromkeys(("BUSY", "EXECABORT", "MISCONF", "NOREPLICAS"), RedisUnavailable),
    **dict.fromkeys(("LOADING", "MASTERDOWN", "READONLY", "REDIRECT", "UNBLOCKED"), RedisUnavailable),
    **dict.fromkeys(("ASK", "CLUSTERDOWN", "CROSSSLOT", "MOVED", "TRYAGAIN"), RedisUnavailable),
    **dict.fromkeys(("DENIED", "NOAUTH", "NOPERM", "WRONGPASS"), RedisRefused),
    **dict.fromkeys((*NOT_OURS, "WRONGTYPE"), RedisError),
    "NOSCRIPT": UnknownScript,
    "OOM": RedisOutOfMemory,
}
FORMS = (
    "{code} what the server says",
    # What a script meets, on Redis 7 and Valkey; and when the script has caught it and raised it again.
    "{code} what the server says script: 0a1b, on @user_script:1.",
    "ERR {code} what the server says script: 0a1b, on @user_script:1.",
    # On Redis 6.2.
    "ERR Error running script (call to f_0a1b): @user_script:7: @user_script: 7: -{code} what the server says",
    "ERR Error running script (call to f_0a1b): @user_script:7: =[C]: -1: -{code} what the server says",
    "ERR Error running script (call to f_0a1b): @user_script:7: {code} what the server says",
    "EXECABORT Transaction discarded because of: {code} what the server says",
)


def test_every_code_is_decided() -> None:
    assert set(CODES) == set(EXPECTED)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("code", sorted(EXPECTED))
def test_code_is_recognised_in_whatever_it_is_wrapped(code: str, form: str) -> None:
    row, says = judge(form.format(code=code))
    assert row is CODES[code]
    assert ERRORS[row.meaning] is EXPECTED[code]
    assert "user_script" not in says
    if row.meaning is not Meaning.FORBIDDEN:
        assert says.endswith(f"({code} what the server says)")


@pytest.mark.parametrize("text", sorted(TEXTS))
def test_error_without_a_code_is_recognised_by_its_text(text: str) -> None:
    assert judge(f"ERR {text}")[0] is TEXTS[text]


@pytest.mark.parametrize(
    "text",
    [
        "ERR unheard of", "BUSYBODY what is that", "ERR value BUSY or out of range", "", "no code at all",
        "ERR Error running script (call to f_0a1b): @user_script:7: attempt to index a nil value",
    ],
)  # fmt: skip
def test_unknown_error_is_no_refusal_and_is_not_tried_again(text: str) -> None:
    row, says = judge(text)
    assert ERRORS[row.meaning] is RedisError
    assert text.rstrip() in says


def test_refusal_does_not_name_the_user() -> None:
    _, says = judge("NOPERM User app has no permissions to run the 'zadd' command")
    assert "app" not in says
    assert "zadd" in says
    assert "asyncwb doctor --acl" in says


def order(server: Server, *command: str | int) -> Any:
    """Sends an administrator's command on a connection of its own."""
    with redis.Redis.from_url(server.url) as client:
        return client.execute_command(*command)


@asynccontextmanager
async def busy(server: Server) -> AsyncIterator[None]:
    """Keeps the server busy with a script that doesn't end by itself."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"EVAL 'while true do end' 0\r\n")
    await asyncio.sleep(0.1)
    try:
        yield
    finally:
        order(server, "SCRIPT KILL")
        assert b"SCRIPT KILL" in await reader.readline()
        writer.close()


@pytest.fixture(params=["valkey", "redis7", "redis62"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def open_buffer(server: Server, namespace: str, **settings: Any) -> AsyncIterator[Buffer[int]]:
    options = {"redis_retry_seconds": 10.0, "retry_initial_seconds": 0.01, **settings}
    async with Buffer(
        server.url, backend=MemoryBackend(), type=int, settings=Settings(namespace=namespace, **options)
    ) as buffer:
        yield buffer


async def test_calls_wait_for_a_busy_server_on_the_connections_they_have(
    private_server: StartServer, kind: str, namespace: str
) -> None:
    server = private_server(kind, lua_time_limit="20")
    async with open_buffer(server, namespace) as buffer:
        await buffer.set("a", 1)
        before = order(server, "INFO", "stats")["total_connections_received"]
        async with busy(server):
            calls = [asyncio.create_task(buffer.set("b", 2)), asyncio.create_task(buffer.get("a"))]
            await asyncio.sleep(0.5)
            assert not any(call.done() for call in calls)
        assert await calls[1] == 1
        await calls[0]
        # The script's, that of who ends it and of who asks; and what the calls need that run at once.
        assert order(server, "INFO", "stats")["total_connections_received"] - before <= 6


async def test_script_that_somebody_kills_is_sent_again(private_server: StartServer, kind: str) -> None:
    server = private_server(kind, lua_time_limit="20")
    link = RedisLink.from_url(server.url, timeout_seconds=5.0)
    endless = Script("endless", "while true do end")
    call = asyncio.create_task(link.script(endless, (), ()))
    await asyncio.sleep(0.1)
    order(server, "SCRIPT KILL")
    with pytest.raises(RedisUnavailable, match="before it wrote anything"):
        await call
    await link.close()


async def _without_replicas(server: Server) -> Callable[[], None]:
    order(server, "CONFIG", "SET", "min-replicas-to-write", 1)
    return lambda: order(server, "CONFIG", "SET", "min-replicas-to-write", 0)


async def _without_disk(server: Server) -> Callable[[], None]:
    """Makes dumps impossible by giving a folder the dump's name; returns what makes the server accept writes again."""
    (server.folder / "dump.rdb" / "in the way").mkdir(parents=True)
    order(server, "CONFIG", "SET", "save", "3600 1000000")
    order(server, "BGSAVE")
    async with asyncio.timeout(5):
        while order(server, "INFO", "persistence")["rdb_last_bgsave_status"] == "ok":
            await asyncio.sleep(0.02)
    return lambda: order(server, "CONFIG", "SET", "save", "")


@pytest.mark.parametrize(
    ("spoil", "says"), [(_without_replicas, "min-replicas-to-write"), (_without_disk, "can't save to its disk")]
)
async def test_write_that_the_server_refuses_for_now_is_tried_again(
    private_server: StartServer,
    kind: str,
    namespace: str,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Server], Awaitable[Callable[[], None]]],
    says: str,
) -> None:
    server = private_server(kind)
    async with open_buffer(server, namespace, redis_retry_seconds=0.3) as buffer:
        await buffer.set("a", 1)
        mend = await spoil(server)
        began = time.monotonic()
        with pytest.raises(RedisUnavailable, match=says):
            await buffer.set("b", 2)
        assert 0.2 < time.monotonic() - began < 3
        with pytest.raises(RedisUnavailable, match=says):
            await buffer.set("b", 3)
        mend()
        await buffer.set("c", 3)
        assert await buffer.get_many(["a", "b", "c"]) == {"a": 1, "c": 3}
        await buffer.drain(timeout=10)
    assert caplog.text.count("; trying again") == 1, "told once, not for each attempt"


async def test_transaction_that_the_server_refuses_for_now_was_not_executed(
    private_server: StartServer, kind: str
) -> None:
    server = private_server(kind)
    link = RedisLink.from_url(server.url, timeout_seconds=5.0)
    mend = await _without_replicas(server)
    async with link.session() as session:
        with pytest.raises(RedisUnavailable, match="min-replicas-to-write"):
            await session.commands(("MULTI",), ("SET", "a", "1"), ("EXEC",))
    mend()
    assert await link.command("EXISTS", "a") == 0
    await link.close()


async def test_server_that_loads_its_data_is_waited_for(private_server: StartServer, kind: str, namespace: str) -> None:
    # It looks at its connections once in 1,000 commands that it loads.
    server = private_server(kind, appendonly="yes", aof_use_rdb_preamble="no", key_load_delay="20")
    async with open_buffer(server, namespace, flushers=0) as buffer:
        version = await buffer.set("a", 1)
        order(server, "EVAL", "for i = 1, 8000 do redis.call('SET', 'k' .. i, string.rep('x', 100)) end", 0)
        restart = asyncio.create_task(asyncio.to_thread(server.restart, keep_data=True))
        seen = ""
        while not restart.done() and "LOADING" not in seen:
            seen = await asyncio.to_thread(_ask_to, server)
        assert "LOADING" in seen
        assert await buffer.get("a") == 1
        assert await buffer.set("b", 2) > version
        await restart


def _ask_to(server: Server) -> str:
    try:
        return str(order(server, "GET", "a"))
    except redis.RedisError as error:
        return f"{type(error).__name__} {error}".replace("BusyLoadingError", "LOADING")


async def test_server_without_room_for_another_connection_says_so(private_server: StartServer, kind: str) -> None:
    server = private_server(kind, maxclients="2")
    links = [RedisLink.from_url(server.url, timeout_seconds=5.0) for _ in range(3)]
    for link in links[:2]:
        await link.command("PING")
    with pytest.raises(RedisUnavailable, match="maxclients"):
        await links[2].command("PING")
    await links[0].close()
    await asyncio.sleep(0.1)
    assert await links[2].command("PING") == b"PONG"
    for link in links[1:]:
        await link.close()
