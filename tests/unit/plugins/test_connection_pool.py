"""A pool believes none of its connections after a failure, and closes within seconds. The server is a real one."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from asyncwb import BackendUnavailable
from asyncwb.plugins import ConnectionPool
from tests.harness.servers import Server

Start = Callable[[], Server]


class Refused(Exception):
    """What the server says of one statement."""


class Connection:
    """To a Valkey server, by its inline commands: it knows nothing of a connection's end before it reads."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, command: str) -> str:
        self._writer.write(command.encode() + b"\r\n")
        line = await self._reader.readline()
        if not line:
            raise ConnectionResetError("the server has gone")
        if line.startswith(b"-"):
            raise Refused(line.decode())
        return line.decode().strip()

    async def quit(self) -> None:
        await self.ask("QUIT")
        self.terminate()

    def terminate(self) -> None:
        self._writer.transport.abort()

    @property
    def ended(self) -> bool:
        return self._writer.is_closing()


class ObservedServer:
    """A server, and all connections that were ever opened to it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.opened: list[Connection] = []

    async def connect(self) -> Connection:
        connection = Connection(*await asyncio.open_connection("127.0.0.1", self.server.port))
        self.opened.append(connection)
        return connection

    def pool(self, *, terminate: bool = True, most: int = 8, close_seconds: float = 4.0) -> ConnectionPool[Connection]:
        return ConnectionPool(
            self.connect, close=Connection.quit, terminate=Connection.terminate if terminate else None, most=most,
            healthy_after=(Refused,), close_seconds=close_seconds,
        )  # fmt: skip

    async def restart(self) -> None:
        await asyncio.to_thread(self.server.kill)
        await asyncio.to_thread(self.server.start)

    @property
    def living(self) -> int:
        return sum(not each.ended for each in self.opened)


@pytest.fixture
async def observed(private_server: Start) -> AsyncIterator[ObservedServer]:
    observed = ObservedServer(await asyncio.to_thread(private_server))
    yield observed
    for connection in observed.opened:
        connection.terminate()


def ping(connection: Connection) -> "asyncio.Future[str]":
    return asyncio.ensure_future(connection.ask("PING"))


async def fill(pool: ConnectionPool[Connection], count: int) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(count):
            await stack.enter_async_context(pool.connection())


async def test_connection_is_kept_for_the_next_call(observed: ObservedServer) -> None:
    pool = observed.pool()
    for _ in range(3):
        assert await pool.run(ping) == "+PONG"
        async with pool.connection() as connection:
            assert await ping(connection) == "+PONG"
    assert len(observed.opened) == 1
    await pool.close()
    assert observed.living == 0


@pytest.mark.parametrize("terminate", [True, False])
async def test_restart_of_the_server_fails_no_call(observed: ObservedServer, terminate: bool) -> None:
    pool = observed.pool(terminate=terminate)
    await fill(pool, 4)
    await observed.restart()
    assert await pool.run(ping) == "+PONG"
    assert len(observed.opened) == 5
    assert all(each.ended for each in observed.opened[:4]) or not terminate
    assert [await pool.run(ping) for _ in range(5)] == ["+PONG"] * 5
    await pool.close()


async def test_first_failure_drops_all_idle_connections(observed: ObservedServer) -> None:
    pool = observed.pool()
    await fill(pool, 4)
    await observed.restart()
    with pytest.raises(ConnectionError):
        async with pool.connection() as connection:
            await ping(connection)
    assert observed.living == 0
    for _ in range(4):
        async with pool.connection() as connection:
            assert await ping(connection) == "+PONG"
    await pool.close()


async def test_connection_that_was_in_use_during_a_failure_is_not_kept(observed: ObservedServer) -> None:
    pool = observed.pool()
    async with pool.connection() as older:
        with pytest.raises(ConnectionError):
            async with pool.connection() as connection:
                connection.terminate()
                await ping(connection)
        assert await ping(older) == "+PONG"
    assert older.ended
    await pool.close()


async def test_failure_on_a_new_connection_is_raised_at_once(observed: ObservedServer) -> None:
    pool = observed.pool()
    calls: list[Connection] = []

    async def fail(connection: Connection) -> None:
        calls.append(connection)
        raise ConnectionResetError("again and again")

    with pytest.raises(ConnectionResetError):
        await pool.run(fail)
    assert len(calls) == 1
    await pool.run(ping)
    with pytest.raises(ConnectionResetError):
        await pool.run(fail)
    assert len(calls) == 3, "once on the idle one, and once on a new one"
    await pool.close()


async def test_refused_statement_keeps_its_connection(observed: ObservedServer) -> None:
    pool = observed.pool()
    await fill(pool, 2)
    for _ in range(3):
        with pytest.raises(Refused):
            await pool.run(lambda connection: connection.ask("NONSENSE"))
        with pytest.raises(Refused):
            async with pool.connection() as connection:
                await connection.ask("NONSENSE")
    assert len(observed.opened) == observed.living == 2
    await pool.close()


async def test_cancelled_call_leaves_its_answer_to_nobody(observed: ObservedServer) -> None:
    pool = observed.pool()
    await fill(pool, 3)
    observed.server.freeze()
    call = asyncio.create_task(pool.run(lambda connection: connection.ask("ECHO late")))
    await asyncio.sleep(0.1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    observed.server.thaw()
    assert observed.living == 0, "a time limit may have cancelled it, and then the others are dead, too"
    assert await pool.run(ping) == "+PONG"
    await pool.close()


async def test_no_more_connections_than_allowed(observed: ObservedServer) -> None:
    pool = observed.pool(most=3)
    assert await asyncio.gather(*(pool.run(ping) for _ in range(20))) == ["+PONG"] * 20
    assert len(observed.opened) <= 3
    await pool.close()


@pytest.mark.parametrize("terminate", [True, False])
async def test_close_is_bounded_though_the_server_hangs(observed: ObservedServer, terminate: bool) -> None:
    pool = observed.pool(terminate=terminate, close_seconds=0.3)
    await fill(pool, 5)
    observed.server.freeze()
    started = time.monotonic()
    await pool.close()
    assert 0.25 < time.monotonic() - started < 2
    observed.server.thaw()
    assert observed.living == 0 or not terminate


async def test_close_waits_for_calls_under_way(observed: ObservedServer) -> None:
    pool = observed.pool()

    async def use() -> str:
        async with pool.connection() as connection:
            await asyncio.sleep(0.2)
            return await ping(connection)

    call = asyncio.create_task(use())
    await asyncio.sleep(0.05)
    await pool.close()
    assert observed.living == 0, "it has waited"
    assert await call == "+PONG"
    with pytest.raises(BackendUnavailable, match="isn't open"):
        await pool.run(ping)


async def test_connection_that_outlives_the_pool_is_closed_when_its_call_is_over(observed: ObservedServer) -> None:
    pool = observed.pool(close_seconds=0.05)
    async with pool.connection() as connection:
        await pool.close()
        assert await ping(connection) == "+PONG"
    assert observed.living == 0


async def test_server_that_is_away_fails_calls_and_holds_up_none(observed: ObservedServer) -> None:
    pool = observed.pool(most=2)
    await fill(pool, 2)
    await asyncio.to_thread(observed.server.kill)
    for _ in range(5):
        with pytest.raises(OSError):
            await asyncio.wait_for(pool.run(ping), 5)
    await asyncio.to_thread(observed.server.start)
    assert await pool.run(ping) == "+PONG"
    await pool.close()


async def test_nothing_is_left_of_many_failures(observed: ObservedServer) -> None:
    pool = observed.pool(most=4)
    before = len(os.listdir(_descriptors()))
    for _ in range(3):
        await fill(pool, 4)
        await observed.restart()
        await asyncio.gather(*(pool.run(ping) for _ in range(8)))
    await pool.close()
    await asyncio.sleep(0.1)
    assert len(os.listdir(_descriptors())) <= before


def _descriptors() -> Path:
    return Path("/proc/self/fd") if Path("/proc/self/fd").exists() else Path("/dev/fd")
