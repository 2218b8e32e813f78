"""A proxy that counts commands by name, and does one thing to one of them, or to all from it on for a while."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.harness.relay import END, CommandRelay, Side
from tests.harness.servers import Server
from tests.proofs.faults.points import Kind, Mode, Point, name_of

AFFECTED: Final = 25
WINDOW_SECONDS: Final = 0.45
"""Faults from a point on end after so many commands or so long; longer than a client tries again."""

HOLD_SECONDS: Final = 0.35
"""How long a command is held if nothing else says when it is late enough: longer than the client's timeout."""


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


class FaultProxy(CommandRelay):
    """A relay between one buffer and a server, which does one thing to one command or to all from it on.

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
        super().__init__(server)
        self.fault = fault
        self._known: set[bytes] | None = set() if cold else None
        self.counts: Counter[str] = Counter()
        self.log: list[Line] = []
        self.interrupt: Callable[[], bool] = lambda: False
        self._held: list[tuple[Point, Side, asyncio.Future[None]]] = []
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["FaultProxy"]:
        await self.listen()
        try:
            yield self
        finally:
            self.release()
            await self.close()

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
        await self.answered()

    def heal(self) -> None:
        """No fault from here on. What is held to the end stays held."""
        if self.fault is None:
            return
        self.fault.heal()
        if self.fault.kind != "delay request to the end":
            self.release()

    def accepts(self) -> bool:
        if self.fault is not None and self.fault.refuses(self._loop.time()):
            self._happened(self.fault)
            return False
        return True

    async def pass_on(self, request: list[bytes], down: Side, up: Side) -> bool:
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
        reply, raw = self._unknown_script(request) or await self.ask(request, up)
        if reply is END:
            return False
        line.answered, line.reply = True, reply
        if kind == "drop reply":
            return self._happened(self.fault) and False
        if kind == "cut":
            self._happened(self.fault)
            self.cut()
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

    async def _hold(self, point: Point, down: Side) -> None:
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

    async def _hold_reply(self, down: Side) -> None:
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
