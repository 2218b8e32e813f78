"""A proxy that counts commands by name, and does one thing to one of them, or to all from it on for a while."""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

import hiredis

from tests.harness.servers import Server
from tests.proofs.faults.points import Kind, Mode, Point, name_of

AFFECTED: Final = 25
WINDOW_SECONDS: Final = 0.45
"""Faults from a point on end after so many commands or so long; longer than a client tries again."""

HOLD_SECONDS: Final = 0.35
"""How long a command is held if nothing else says when it is late enough: longer than the client's timeout."""

_BLOCKING: Final = frozenset({"BLPOP"})

_END: Final = object()
"""What comes after the last message of a connection."""


@dataclass(slots=True)
class Fault:
    """One fault, and what was seen of it.

    Attributes:
        point, kind, mode: where, what, and for how long.
        happened: how many commands were really affected.
        given_up: on how many of the late ones the client had given up by then.
        first_at, last_at: loop times.
    """

    point: Point
    kind: Kind
    mode: Mode
    happened: int = 0
    given_up: int = 0
    first_at: float | None = None
    last_at: float = 0.0
    _affected: int = field(default=0, init=False)
    _healed: bool = field(default=False, init=False)

    def due(self, point: Point, now: float) -> bool:
        """Whether this command is one of those affected."""
        if self._healed:
            return False
        if point == self.point and self.first_at is None:
            self.first_at = now
        elif self.first_at is None or self.mode == "once" or not self._lasts(now):
            return False
        self._affected += 1
        return True

    def refuses(self, now: float) -> bool:
        """Whether new connections are cut at once."""
        return self.kind == "cut" and self.mode == "from then on" and not self._healed and self._lasts(now)

    def heal(self) -> None:
        self._healed = True

    def _lasts(self, now: float) -> bool:
        if self.first_at is None or now - self.first_at >= WINDOW_SECONDS:
            return False
        return self._affected < AFFECTED or self.kind == "cut"


@dataclass(slots=True)
class Line:
    """A command in the log: when it came, what was done to it, and what the server answered."""

    at: float
    point: Point
    request: list[bytes]
    fate: str = ""
    answered: bool = False
    reply: Any = None

    def __str__(self) -> str:
        reply = repr(self.reply)[:100] if self.answered else "no reply"
        return f"{self.at * 1000:7.1f} ms  {self.point!s:20} {self.fate:24} {reply}"


class FaultProxy:
    """Between one buffer and a server.

    Args:
        server: the real one.
        fault: the one fault of this run, None for a dry run.
        cold: whether every script is unknown to the server when the buffer first names it.

    Attributes:
        counts: how many commands of each name have come.
        log: all of them, with what the server answered.
        interrupt: cancels whoever waits; for the kinds that cancel.
    """

    def __init__(self, server: Server, fault: Fault | None = None, *, cold: bool = False) -> None:
        self._server = server
        self.fault = fault
        self._known: set[bytes] | None = set() if cold else None
        self.counts: Counter[str] = Counter()
        self.log: list[Line] = []
        self.interrupt: Callable[[], bool] = lambda: False
        self.clients = 0
        self._busy = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self._sides: set[_Side] = set()
        self._held: list[tuple[Point, _Side, asyncio.Future[None]]] = []
        self._loop = asyncio.get_running_loop()
        self._port = 0
        self._began = self._loop.time()

    @property
    def port(self) -> int:
        return self._port

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["FaultProxy"]:
        listener = await self._loop.create_server(lambda: _Side(self._accept), "127.0.0.1", 0)
        self._port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            self.release()
            self._cut()
            for task in self.tasks:
                task.cancel()
            if self.tasks:
                await asyncio.wait(self.tasks)

    def release(self) -> None:
        """Delivers everything that is held."""
        for *_, held in self._held:
            if not held.done():
                held.set_result(None)

    async def delivered(self) -> None:
        """Heals the network, delivers what is held, and returns when all of it has been answered."""
        if self.fault is not None:
            self.fault.heal()
        self.release()
        async with asyncio.timeout(10):
            while self._busy:
                await asyncio.sleep(0.002)

    def heal(self) -> None:
        """No fault from here on. What is held to the end stays held."""
        if self.fault is None:
            return
        self.fault.heal()
        if self.fault.kind != "delay request to the end":
            self.release()

    def _accept(self, down: "_Side") -> None:
        if self.fault is not None and self.fault.refuses(self._loop.time()):
            down.transport.abort()
            self._happened(self.fault)
            return
        task = self._loop.create_task(self._serve(down))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _serve(self, down: "_Side") -> None:
        self._sides.add(down)
        self.clients += 1
        up = _Side()
        down.when_ended(lambda: self._client_gone(up))
        try:
            await self._loop.create_connection(lambda: up, "127.0.0.1", self._server.port)
            self._sides.add(up)
            while (request := await down.next()) is not _END:
                if not await self._relay(request, down, up):
                    break
        except OSError:
            pass  # the server has closed it
        finally:
            for side in (down, up):
                self._sides.discard(side)
                side.abort()

    def _client_gone(self, up: "_Side") -> None:
        self.clients -= 1
        if up.blocks:  # a server notices that whom it makes wait is gone
            up.abort()

    async def _relay(self, request: list[bytes], down: "_Side", up: "_Side") -> bool:
        """One command and its reply; False if the connection has to be cut."""
        counts = name_of(request) not in _BLOCKING
        self._busy += counts
        try:
            return await self._pass_on(request, down, up)
        finally:
            self._busy -= counts

    async def _pass_on(self, request: list[bytes], down: "_Side", up: "_Side") -> bool:
        line = self._noted(request)
        kind = self._fault_of(line)
        if kind is not None:
            line.fate = kind
        if kind == "drop request":
            return self._happened(self.fault) and False
        if kind in ("cancel before", "stop before"):
            await self._interrupted()
        elif kind in ("delay request", "delay request to the end"):
            await self._hold(line.point, down)
        reply, raw = self._unknown_script(request) or await self._asked(line, up)
        if reply is _END:
            return False
        line.answered, line.reply = True, reply
        if kind == "drop reply":
            return self._happened(self.fault) and False
        if kind == "cut":
            self._happened(self.fault)
            self._cut()
            return False
        if kind == "delay reply":
            await self._hold_reply(down)
        elif kind in ("cancel after", "stop after"):
            await self._interrupted()
        down.write(raw)
        self._answered(line.point)
        return True

    def _noted(self, request: list[bytes]) -> Line:
        name = name_of(request)
        self.counts[name] += 1
        line = Line(self._loop.time() - self._began, Point(name, self.counts[name]), request)
        self.log.append(line)
        return line

    def _fault_of(self, line: Line) -> Kind | None:
        fault = self.fault
        return fault.kind if fault is not None and fault.due(line.point, self._loop.time()) else None

    async def _asked(self, line: Line, up: "_Side") -> tuple[Any, bytes]:
        up.blocks = line.point.name in _BLOCKING
        up.write(hiredis.pack_command(tuple[Any, ...](line.request)))
        reply = await up.next()
        up.blocks = False
        return reply, up.taken()

    def _unknown_script(self, request: list[bytes]) -> tuple[str, bytes] | None:
        """NOSCRIPT, as a server answers that has restarted, for each script once."""
        if self._known is None or request[0] != b"EVALSHA" or request[1] in self._known:
            return None
        self._known.add(request[1])
        return "NOSCRIPT", b"-NOSCRIPT No matching script. Please use EVAL.\r\n"

    async def _interrupted(self) -> None:
        if self.interrupt():
            self._happened(self.fault)
        for _ in range(5):  # until the cancelled one has noticed
            await asyncio.sleep(0)

    async def _hold(self, point: Point, down: "_Side") -> None:
        fault, held = self.fault, self._loop.create_future()
        assert fault is not None
        self._held.append((point, down, held))
        if fault.kind == "delay request to the end":
            await held
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HOLD_SECONDS):
                    await held
        self._happened(fault, given_up=down.ended)

    def _answered(self, point: Point) -> None:
        """A held command is late enough when its client has given up, and been answered to its repetition."""
        if self.fault is not None and self.fault.kind == "delay request" and self.fault.mode == "once":
            for earlier, down, held in self._held:
                if earlier.name == point.name and down.ended and not held.done():
                    held.set_result(None)

    async def _hold_reply(self, down: "_Side") -> None:
        ended = asyncio.Event()
        down.when_ended(ended.set)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HOLD_SECONDS):
                await ended.wait()
        self._happened(self.fault, given_up=down.ended)

    def _happened(self, fault: Fault | None, *, given_up: bool = False) -> bool:
        assert fault is not None
        fault.happened += 1
        fault.given_up += given_up
        fault.last_at = self._loop.time()
        return True

    def _cut(self) -> None:
        for side in list(self._sides):
            side.abort()


class _Side(asyncio.Protocol):
    """One side of a relayed connection: whole messages, in their order, and the bytes that they came in."""

    transport: asyncio.Transport

    def __init__(self, on_connect: "Callable[[_Side], None] | None" = None) -> None:
        self._on_connect = on_connect
        self._reader = hiredis.Reader()
        self._messages: deque[Any] = deque()
        self._raw: list[bytes] = []
        self._arrival: asyncio.Future[None] | None = None
        self._at_end: list[Callable[[], Any]] = []
        self.ended = False
        self.blocks = False

    async def next(self) -> Any:
        """The next message; `_END` when the other end is gone."""
        while not self._messages:
            if self.ended:
                return _END
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        return self._messages.popleft()

    def taken(self) -> bytes:
        """The bytes of all messages since the last call."""
        raw = b"".join(self._raw)
        self._raw.clear()
        return raw

    def write(self, data: bytes) -> None:
        if not self.ended:
            self.transport.write(data)

    def abort(self) -> None:
        if not self.ended:
            self.transport.abort()

    def when_ended(self, call: Callable[[], Any]) -> None:
        if self.ended:
            call()
        else:
            self._at_end.append(call)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # of uvloop it isn't one by its class
        if self._on_connect is not None:
            self._on_connect(self)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        if self._on_connect is None:
            self._raw.append(data)  # of replies only: commands are packed anew
        while (message := self._reader.gets()) is not False:
            self._messages.append(message)
        if self._messages:
            self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self.ended = True
        for call in self._at_end:
            call()
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
