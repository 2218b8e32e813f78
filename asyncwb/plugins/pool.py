"""A pool of connections that trusts none of them after a failure."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

import anyio

from asyncwb.errors import BackendUnavailable

C = TypeVar("C")
T = TypeVar("T")

_CLOSE_SECONDS: Final = 4.0
"""Less than `connect_timeout_seconds`, by which asyncwb bounds `Backend.close`."""

_log: Final = logging.getLogger("asyncwb")


class ConnectionPool(Generic[C]):
    """Connections to one storage, opened when they are needed and kept for later calls.

    After a server's restart, all idle connections are dead, but nothing shows it. If each of them failed a save in
    turn, asyncwb would find the backend healthy in between and blame the records. So at the first failure, all are
    closed. A cancelled call counts as a failure, because its time limit may have ended it, and because a connection in
    the middle of an exchange can't be used by the next call.

    Make the pool in `Backend.open`: it belongs to the event loop in which it is first used.

    Args:
        connect: opens a connection. It should have a time limit of its own, below 5 seconds.
        close: closes a connection properly, within `close_seconds`.
        terminate: drops a connection that may be dead, at once, without telling the server or waiting. By default,
            such a connection is closed like any other.
        most: the most connections at a time.
        healthy_after: exceptions that the driver raises because of a record or a statement: a connection that raises
            one of these stays in use.
        close_seconds: the time limit for closing connections.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[C]],
        *,
        close: Callable[[C], Awaitable[object]],
        terminate: Callable[[C], object] | None = None,
        most: int = 8,
        healthy_after: tuple[type[Exception], ...] = (),
        close_seconds: float = _CLOSE_SECONDS,
    ) -> None:
        self._connect = connect
        self._close = close
        self._terminate = terminate
        self._healthy_after = healthy_after
        self._close_seconds = close_seconds
        self._slots = asyncio.Semaphore(most)
        self._idle: list[C] = []
        self._in_use = 0
        self._all_back = asyncio.Event()
        self._all_back.set()
        self._generation = 0
        self._closed = False

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[C]:
        """A connection for one call; waits while `most` are in use.

        Raises:
            BackendUnavailable: the pool is closed.
        """
        async with self._slots, self._taken(self._idle.pop() if self._idle else None) as connection:
            yield connection

    async def run(self, work: Callable[[C], Awaitable[T]]) -> T:
        """Calls `work` with a connection and returns its result.

        If it fails on a connection that was idle before, it is called again with a new one, because the server may
        just have been restarted. So `work` has to be idempotent, as the calls of a backend are. (A repeated `new_epoch`
        skips a number, which does no harm.)

        Raises:
            Exception: whatever `work` or `connect` raises.
            BackendUnavailable: the pool is closed.
        """
        async with self._slots:
            if self._idle:
                try:
                    async with self._taken(self._idle.pop()) as connection:
                        return await work(connection)
                except self._healthy_after:
                    raise
                except Exception as error:
                    if self._closed:
                        raise
                    _log.debug("an idle connection failed, all are opened anew: %r", error)
            async with self._taken(None) as connection:
                return await work(connection)

    async def close(self) -> None:
        """Closes all connections, those in use when their call is over; returns within `close_seconds`."""
        self._closed = True
        self._generation += 1
        with anyio.move_on_after(self._close_seconds, shield=True):
            idle_ones, self._idle = self._idle, []
            await self._close_all(idle_ones)
            await self._all_back.wait()

    @contextlib.asynccontextmanager
    async def _taken(self, idle: C | None) -> AsyncIterator[C]:
        if self._closed:
            raise BackendUnavailable("this backend isn't open")
        self._in_use += 1
        self._all_back.clear()
        try:
            generation = self._generation
            connection = await self._connect() if idle is None else idle
            try:
                yield connection
            except self._healthy_after:
                await self._give_back(connection, generation)
                raise
            except BaseException:
                self._generation += 1
                idle_ones, self._idle = self._idle, []
                await self._drop([connection, *idle_ones])
                raise
            else:
                await self._give_back(connection, generation)
        finally:
            self._in_use -= 1
            if not self._in_use:
                self._all_back.set()

    async def _give_back(self, connection: C, generation: int) -> None:
        if generation == self._generation:
            self._idle.append(connection)
        elif self._closed:
            await self._close_all([connection])
        else:
            await self._drop([connection])  # another connection has failed since this one was taken

    async def _drop(self, connections: Sequence[C]) -> None:
        if self._terminate is None:
            await self._close_all(connections)
        for connection in connections if self._terminate else ():
            self._terminate_now(connection)

    async def _close_all(self, connections: Sequence[C]) -> None:
        with anyio.move_on_after(self._close_seconds, shield=True):
            async with anyio.create_task_group() as group:
                for connection in connections:
                    group.start_soon(self._close_one, connection)

    async def _close_one(self, connection: C) -> None:
        closed = False
        try:
            await self._close(connection)
            closed = True
        except Exception as error:  # noqa: BLE001 - the connection is given up, whatever the driver raises
            _log.debug("a connection can't be closed properly: %r", error)
        finally:
            if not closed:
                self._terminate_now(connection)

    def _terminate_now(self, connection: C) -> None:
        if self._terminate is None:
            return
        try:
            self._terminate(connection)
        except Exception as error:  # noqa: BLE001 - likewise
            _log.debug("a connection can't be dropped: %r", error)
