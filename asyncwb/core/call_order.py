"""Keeps a process's writes in call order while it asks the server whether it supports a level of durability."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn

from asyncwb.errors import AsyncwbError, RedisError, UnsuitableServer, twin
from asyncwb.records import Version
from asyncwb.settings import Durability

Sent = list[asyncio.Future[Version]]
"""Futures of the versions that answer a write which was sent, one for each of its groups."""


@dataclass(slots=True, eq=False)
class Held:
    """A write that waits for its turn.

    Attributes:
        level: the durability that it asks for.
        send: sends the write.
        sent: a future of what `send` returns; it is cancelled if the caller is.
    """

    level: Durability
    send: Callable[[], Sent]
    sent: asyncio.Future[Sent]


class CallOrder:
    """A queue for writes whose durability level the server must confirm first, and for all writes called after them.

    Writes hardly ever wait, since the server is asked only once for each level. Waiting writes are sent in one go,
    without an `await` in between, so that no write called meanwhile can overtake them.

    Args:
        given: tells whether the server is known to support a level.
        ask: asks the server; afterwards `given` returns True for the level, unless it raised `UnsuitableServer` or a
            `RedisError`. It has to end in bounded time.

    Attributes:
        held: the waiting writes. While it is empty, a write whose level is given may be sent without this queue.
    """

    def __init__(self, given: Callable[[Durability], bool], ask: Callable[[Durability], Awaitable[None]]) -> None:
        self._given = given
        self._ask = ask
        self._arrival = asyncio.Event()
        self._closed: Exception | None = None
        self.held: deque[Held] = deque()

    async def send(self, level: Durability, send: Callable[[], Sent]) -> Sent:
        """Calls `send` when its turn has come: before this first suspends, if the level is given and no write waits.

        Raises:
            UnsuitableServer: the server can't provide the level; the write wasn't sent.
            RedisError: the server couldn't be asked; the write wasn't sent.
            UsageError: the buffer was closed first; the write wasn't sent.
        """
        if self._given(level) and not self.held:
            return send()
        if self._closed is not None:
            raise twin(self._closed)
        held = Held(level, send, asyncio.get_running_loop().create_future())
        self.held.append(held)
        self._arrival.set()
        try:
            return await held.sent
        except BaseException:
            if not held.sent.cancel() and not held.sent.cancelled() and held.sent.exception() is None:
                for answer in held.sent.result():  # it was sent just as the caller was cancelled
                    answer.cancel()
            self._advance()  # the writes behind it need not wait for its level any more
            raise

    async def serve(self) -> NoReturn:
        """Asks the server about the levels of waiting writes, until cancelled; runs in the buffer's background task."""
        while True:
            while self.held:
                await self._decide(self.held[0].level)
            self._arrival.clear()
            await self._arrival.wait()

    async def join(self) -> None:
        """Returns when no write waits."""
        self._advance()
        while self.held:  # the first isn't done; others may be, if their callers were cancelled
            await asyncio.wait([held.sent for held in self.held])
            self._advance()

    def close(self, error: Exception) -> None:
        """Fails all waiting and future writes with `error`; to be called once `serve` has ended."""
        self._closed = error
        while self.held:
            held = self.held.popleft()
            if not held.sent.done():
                held.sent.set_exception(twin(error))

    async def _decide(self, level: Durability) -> None:
        try:
            await self._ask(level)
        except (RedisError, UnsuitableServer) as error:
            # Fails every write that waits for this level. If each asked the server on its own, a server that doesn't
            # answer would hold up the last of them for hours.
            for held in self.held:
                if held.level == level and not held.sent.done():
                    held.sent.set_exception(twin(error))
        self._advance()

    def _advance(self) -> None:
        """Sends writes from the head of the queue, for as long as their levels are given."""
        while self.held and (self.held[0].sent.done() or self._given(self.held[0].level)):
            first = self.held.popleft()
            if first.sent.done():  # cancelled, or failed
                continue
            try:
                first.sent.set_result(first.send())
            except AsyncwbError as error:
                first.sent.set_exception(error)
