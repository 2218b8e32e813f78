"""Keeps the writes of a process in the order of their calls while the server is asked for a level of durability."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn

from asyncwb.errors import AsyncwbError, RedisError, UnsuitableServer, twin
from asyncwb.records import Version
from asyncwb.settings import Durability

Sent = list[asyncio.Future[Version]]
"""The answers to the groups of a write that was sent, to come."""


@dataclass(slots=True, eq=False)
class Held:
    """A write that waits for its turn.

    Attributes:
        level: the durability that it asks for.
        send: sends it.
        sent: what `send` returned, to come; cancelled if its caller is.
    """

    level: Durability
    send: Callable[[], Sent]
    sent: asyncio.Future[Sent]


class CallOrder:
    """The line in which a write waits whose level has to be asked of the server first, and all that are called later.

    Hardly ever does anything wait: a level is asked for once. What was waiting is sent in one go, without an `await` in
    between, so that nothing that is called meanwhile can overtake it.

    Args:
        given: whether a level is known to be possible.
        ask: asks the server whether it is; `given` says so afterwards, unless it raised `UnsuitableServer` or a
            `RedisError`. It has to be bounded.

    Attributes:
        held: what waits. Where it is empty, a write of a given level may be sent without coming here.
    """

    def __init__(self, given: Callable[[Durability], bool], ask: Callable[[Durability], Awaitable[None]]) -> None:
        self._given = given
        self._ask = ask
        self._arrival = asyncio.Event()
        self._closed: Exception | None = None
        self.held: deque[Held] = deque()

    async def send(self, level: Durability, send: Callable[[], Sent]) -> Sent:
        """Calls `send` when it is its turn, which is before this first suspends if nothing waits.

        Raises:
            UnsuitableServer: the server can't give the level; it wasn't sent.
            RedisError: the server can't be asked; it wasn't sent.
            UsageError: the buffer was closed before; it wasn't sent.
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
                for answer in held.sent.result():  # sent in the moment of the cancellation
                    answer.cancel()
            self._advance()  # nobody has to wait for its question any more
            raise

    async def serve(self) -> NoReturn:
        """Asks for the levels that are waited for, until cancelled; owned by the buffer's task."""
        while True:
            while self.held:
                await self._decide(self.held[0].level)
            self._arrival.clear()
            await self._arrival.wait()

    async def join(self) -> None:
        """Returns when nothing waits."""
        self._advance()
        while self.held:  # the first of them isn't done, others may be: whose callers were cancelled
            await asyncio.wait([held.sent for held in self.held])
            self._advance()

    def close(self, error: Exception) -> None:
        """Fails all that waits or comes later; for when nobody serves any more."""
        self._closed = error
        while self.held:
            held = self.held.popleft()
            if not held.sent.done():
                held.sent.set_exception(twin(error))

    async def _decide(self, level: Durability) -> None:
        try:
            await self._ask(level)
        except (RedisError, UnsuitableServer) as error:
            # Of all that wait for this level: were each asked for on its own, a server that doesn't answer would hold
            # up the last of them for hours.
            for held in self.held:
                if held.level == level and not held.sent.done():
                    held.sent.set_exception(twin(error))
        self._advance()

    def _advance(self) -> None:
        """Sends from the head of the line what may be sent."""
        while self.held and (self.held[0].sent.done() or self._given(self.held[0].level)):
            first = self.held.popleft()
            if first.sent.done():  # cancelled, or failed
                continue
            try:
                first.sent.set_result(first.send())
            except AsyncwbError as error:
                first.sent.set_exception(error)
