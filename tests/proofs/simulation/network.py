"""Between the processes of a simulated world and its Redis server: requests and answers that are late or lost."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import Context, ContextVar
from typing import Any, Final, Literal

from asyncwb.errors import OutcomeUnknown, RedisError, RedisUnavailable
from asyncwb.protocol.scripts import PENDING
from asyncwb.redis.link import Argument
from asyncwb.redis.script import Script
from asyncwb.redis.server_errors import ERRORS, judge
from tests.proofs.simulation.commands import Command, ServerError
from tests.proofs.simulation.loop import SimulatedLoop
from tests.proofs.simulation.server import Client, ModelServer

SURVEYED: ContextVar[dict[bytes, float] | None] = ContextVar("SURVEYED", default=None)
"""When the first survey of each partition was answered to whoever has set it."""

Fate = Literal["well", "request lost", "answer lost", "request late", "answer late"]

TIMEOUT_SECONDS = 0.25
"""How long a process waits for an answer."""

_REMOVES: Final = {"leave": "SET", "heartbeat": "heartbeat", "ack": "claim"}
"""Request -> the one that made what it removes."""


class NetworkFaults:
    """How often a request or an answer is lost or late, from 0 to 1, and the usual latency."""

    def __init__(self, rng: random.Random) -> None:
        scale = rng.choice((0.0, 0.3, 1.0))
        self.lost_request = 0.08 * scale * rng.random()
        self.lost_answer = 0.08 * scale * rng.random()
        self.late_request = 0.05 * scale * rng.random()
        self.late_answer = 0.03 * scale * rng.random()
        self.latency = rng.choice((0.0005, 0.005, 0.03))

    def end(self) -> None:
        self.lost_request = self.lost_answer = self.late_request = self.late_answer = 0.0

    def fate(self, rng: random.Random) -> Fate:
        at = rng.random()
        fates: tuple[tuple[Fate, float], ...] = (
            ("request lost", self.lost_request),
            ("answer lost", self.lost_answer),
            ("request late", self.late_request),
            ("answer late", self.late_answer),
        )
        for fate, share in fates:
            if at < share:
                return fate
            at -= share
        return "well"


class Network:
    """Leads to the present primary.

    Attributes:
        server: None while nobody answers.
        fsynced, replicated: how much of the server's log is safe from a restart, and from a promotion.
        lagging: the replica gets nothing.
        overdue: the requests, by their names, that have arrived after their senders gave them up, or whose answers
            were lost so that their senders may have left what they made.
        changed: sources that run instead of scripts, by their names; so that tests can see a broken one being found.
    """

    def __init__(
        self,
        loop: SimulatedLoop,
        rng: random.Random,
        world: Context,
        counts: Counter[str],
        on_step: Callable[[str], None],
    ) -> None:
        self.loop = loop
        self.rng = rng
        self.faults = NetworkFaults(rng)
        self.server: ModelServer | None = None
        self.fsynced = self.replicated = 0
        self.lagging = False
        self.changed: dict[str, str] = {}
        self.overdue: set[str] = set()
        self._world = world
        self._counts = counts
        self._on_step = on_step

    def later(self, seconds: float, work: Callable[..., None], *args: Any) -> None:
        """Does something that no process does."""
        self.loop.call_later(seconds, work, *args, context=self._world)

    def source(self, script: Script) -> str:
        return self.changed.get(script.name, script.source)

    def delay(self) -> float:
        return self.faults.latency * self.rng.random()

    async def exchange(
        self, name: str, operate: Callable[[ModelServer, Callable[[Any], None]], None], *, block_seconds: float = 0.0
    ) -> Any:
        """One request and its answer.

        Args:
            name: for the trace.
            operate: asks the server, and hands the answer on, at once or later.
            block_seconds: how long the server may take.
        """
        server = self.server
        fate = None if server is None else self.faults.fate(self.rng)
        if name in _REMOVES and fate != "well":
            # What it was to remove has to expire, if it isn't asked for again.
            self.overdue.add(_REMOVES[name])
        if server is None or fate is None:
            await asyncio.sleep(self.delay())
            raise RedisUnavailable("nobody answers")
        answered: asyncio.Future[Any] = self.loop.create_future()

        def arrive() -> None:
            if server is not self.server:
                self.later(self.delay(), settle, OutcomeUnknown("the connection was cut"))
                return
            if fate != "well":
                self._counts[fate] += 1
            if answered.done():
                self.overdue.add(name)
            try:
                operate(server, reply)
            except ServerError as error:
                reply(mapped(error))
            self._on_step(name)

        def reply(answer: Any) -> None:
            if name == "claim" and fate != "well":
                # Who never hears what a claim took gives it back once; if that is lost too, it has to expire.
                self.overdue.add(name)
            if fate == "answer lost":
                if self.rng.random() < 0.5:
                    self.later(self.delay(), settle, OutcomeUnknown("the answer was lost"))
                return
            late = self.rng.uniform(0.2, 1.0) if fate == "answer late" else 0.0
            self.later(self.delay() + late, settle, answer)

        def settle(answer: Any) -> None:
            if answered.done():
                return
            if isinstance(answer, Exception):
                answered.set_exception(answer)
            else:
                answered.set_result(answer)

        if fate == "request lost":
            self._counts[fate] += 1
            if self.rng.random() < 0.5:
                self.later(self.delay(), settle, OutcomeUnknown("the request was lost"))
        else:
            late = self.rng.uniform(0.2, 1.5) if fate == "request late" else 0.0
            self.later(self.delay() + late, arrive)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS + block_seconds):
                return await answered
        except TimeoutError as error:
            raise OutcomeUnknown("no answer in time") from error

    def wait_for_durability(self, server: ModelServer, command: Command, reply: Callable[[Any], None]) -> None:
        """WAITAOF or WAIT: answers when what is in the log now is safe."""
        length = len(server.log)

        def done() -> None:
            if server is not self.server:
                return
            if command[0] == b"WAITAOF":
                self.fsynced = max(self.fsynced, length)
                reply([1, 0])
            elif self.lagging:
                reply(0)
            else:
                self.replicated = max(self.replicated, length)
                reply(1)

        if command[0] == b"WAITAOF" and command[1] == b"0":
            reply([0, 0])
        else:
            self.later(self.delay() * 3, done)


class SimulatedLink:
    """`asyncwb.redis.link.Link` of one process."""

    where = "the simulated server"

    def __init__(self, network: Network) -> None:
        self._network = network
        self.on_change: Callable[[str | None, float], None] | None = None

    def unsafe(self) -> str:
        return ""

    async def command(self, *args: Argument, block_seconds: float = 0.0) -> Any:
        command = encoded(args)
        if command[0] == b"BLPOP":
            return await self._blocking_pop(command[1:-1], float(command[-1]))

        def operate(server: ModelServer, reply: Callable[[Any], None]) -> None:
            if command[0] in (b"WAITAOF", b"WAIT"):
                self._network.wait_for_durability(server, command, reply)
            else:
                reply(server.command(command))

        return await self._network.exchange(command[0].decode(), operate, block_seconds=block_seconds)

    async def script(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        packed = encoded(args)
        answer = await self._network.exchange(
            script.name, lambda server, reply: reply(server.script(self._network.source(script), keys, packed))
        )
        if script is PENDING and (surveyed := SURVEYED.get()) is not None:
            surveyed.setdefault(keys[0], asyncio.get_running_loop().time())
        return answer

    async def script_then(
        self,
        script: Script,
        keys: Sequence[bytes],
        args: Sequence[Argument],
        then: Sequence[Argument],
        *,
        block_seconds: float,
    ) -> list[Any]:
        packed, following = encoded(args), encoded(then)

        def operate(server: ModelServer, reply: Callable[[Any], None]) -> None:
            first = server.script(self._network.source(script), keys, packed)
            self._network.wait_for_durability(server, following, lambda second: reply([first, second]))

        replies: list[Any] = await self._network.exchange(script.name, operate, block_seconds=block_seconds)
        return replies

    @asynccontextmanager
    async def session(self) -> AsyncIterator["SimulatedSession"]:
        session = SimulatedSession(self._network)
        try:
            yield session
        except BaseException:
            session.cut()
            raise

    async def reset(self) -> None:
        await asyncio.sleep(0)

    async def close(self) -> None:
        await asyncio.sleep(0)

    async def _blocking_pop(self, keys: list[bytes], seconds: float) -> Any:
        network = self._network

        def operate(server: ModelServer, reply: Callable[[Any], None]) -> None:
            for key in keys:
                if item := server.command((b"RPOP", key)):
                    reply([key, item])
                    return

            def deliver(item: Any) -> bool:
                reply(item)
                return True

            entry = (keys, deliver)
            server.waiting.append(entry)

            def give_up() -> None:
                if entry in server.waiting:
                    server.waiting.remove(entry)
                    reply(None)

            network.later(seconds, give_up)

        return await network.exchange("BLPOP", operate, block_seconds=seconds)


class SimulatedSession:
    """Exclusive use of one connection: commands in their order, between which others may get in."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._client = Client()
        self._server: ModelServer | None = None
        self._closed = False

    async def commands(self, *commands: Sequence[Argument]) -> list[Any]:
        network, packed = self._network, [encoded(command) for command in commands]
        self._connect()

        def operate(server: ModelServer, reply: Callable[[Any], None]) -> None:
            replies: list[Any] = []
            # What was sent before the connection was closed may still be executed, its WATCH in force.
            seen = not self._closed or network.rng.random() < 0.5

            def proceed() -> None:
                while len(replies) < len(packed):
                    if server is not network.server or not seen:
                        return reply(OutcomeUnknown("the connection was cut"))
                    try:
                        replies.append(server.command(packed[len(replies)], self._client))
                    except ServerError as error:
                        replies.append(mapped(error))
                    if network.rng.random() < 0.2:
                        return network.later(network.delay(), proceed)
                return reply(next((each for each in replies if isinstance(each, Exception)), replies))

            proceed()

        replied: list[Any] = await network.exchange("+".join(each[0].decode() for each in packed), operate)
        return replied

    async def script(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        network, packed = self._network, encoded(args)
        self._connect()

        def operate(server: ModelServer, reply: Callable[[Any], None]) -> None:
            if server is not self._server:
                return reply(OutcomeUnknown("the connection was cut"))
            return reply(server.script(network.source(script), keys, packed))

        return await network.exchange(script.name, operate)

    def _connect(self) -> None:
        """The first request decides which server the connection leads to."""
        if self._server is not None and self._server is not self._network.server:
            raise RedisUnavailable("the connection was cut")
        self._server = self._network.server

    def cut(self) -> None:
        """Closes the connection."""
        self._closed = True


def encoded(args: Sequence[Argument]) -> list[bytes]:
    return [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]


def mapped(error: ServerError) -> RedisError:
    """As asyncwb.redis.connection maps what a server answers."""
    row, says = judge(str(error))
    return ERRORS[row.meaning](f"the simulated server {says}")
