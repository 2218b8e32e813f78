"""Controls other processes that have a backend open: makes them save, and freezes or kills them in the middle."""

import asyncio
import inspect
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from asyncwb.records import Record
from asyncwb.testing.contract.wire import Freeze, Reply, Request, to_wire

if TYPE_CHECKING:
    from asyncwb.testing.contract.base import ContractBase

_SECONDS: Final = 60.0
_STOP_POLL_SECONDS: Final = 0.001
_TELL_SECONDS: Final = 1.0
"""How long a process that hangs is given to report where it hangs."""
_LONGEST_LINE: Final = 2**26
_LONGEST_LOG: Final = 5000


class Nursery:
    """One process that imports the contract's subclass and forks the others, which is faster than starting each one."""

    def __init__(self, contract: "type[ContractBase]") -> None:
        self._contract = contract
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def log(self, since: int = 0) -> str:
        """Returns what the processes have written to stderr, from byte `since` on; if that is long, only its end."""
        written = (self._folder / "log").read_bytes()[since:] if self._folder else b""
        return written.decode("utf-8", "replace")[-_LONGEST_LOG:]

    def log_size(self) -> int:
        """Returns the log's size in bytes, to be passed to `log` as `since`."""
        return (self._folder / "log").stat().st_size if self._folder else 0

    def close(self) -> None:
        """Kills the process, and removes its folder."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> Path:
        if self._folder is not None:
            return self._folder / "socket"
        contract = self._contract
        assert "<locals>" not in contract.__qualname__, f"{contract.__qualname__} has to stand at a module's level"
        self._folder = Path(tempfile.mkdtemp(prefix="wb-"))  # a unix socket's path has to be short
        path = self._folder / "socket"
        arguments = [str(path), inspect.getfile(contract), contract.__module__, contract.__qualname__]
        environment = {
            # A process that is killed or traced can't report coverage.
            **{name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - this very Python
                [sys.executable, "-m", "asyncwb.testing.contract.inside", *arguments],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment,
            )  # fmt: skip
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise AssertionError(f"no process can be started: {self.log()}")
        return path

    @asynccontextmanager
    async def child(self, url: str) -> "AsyncIterator[Child]":
        """Yields a process that has the backend of this URL open; it is killed in the end, whatever happens."""
        path = self._start()
        reader, writer = await asyncio.open_unix_connection(path, limit=_LONGEST_LINE)
        child = Child(self, reader, writer)
        try:
            await child.begin(url)
            yield child
        finally:
            await child.kill()


class Child:
    """One process; made by `Nursery.child`.

    Attributes:
        where: the line of the backend's code before which it was frozen or killed last.
    """

    def __init__(self, nursery: Nursery, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._nursery = nursery
        self._writer = writer
        self._log_start = nursery.log_size()
        self._pid = 0
        self._timer: threading.Timer | None = None
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()
        # A separate task reads, so that waiting for a reply doesn't conflict with waiting for the end of the process.
        self._reading = asyncio.create_task(self._read(reader))
        self.where = ""

    async def begin(self, url: str) -> None:
        """Opens the backend."""
        self._writer.write(msgspec.json.encode(url) + b"\n")
        self._pid = (await self._reply()).number

    async def save(self, records: Sequence[Record]) -> int:
        """`Backend.save`."""
        return (await self._ask(Request("save", records=to_wire(records)))).number

    async def new_epoch(self, at_least: int) -> int:
        """`Backend.new_epoch`."""
        return (await self._ask(Request("new_epoch", number=at_least))).number

    async def count_up(self, record: Record, times: int) -> int:
        """Makes the process save so many records of the record's key, each based on the one before: see `count_up`."""
        return (await self._ask(Request("count_up", records=to_wire([record]), number=times))).number

    async def save_and_die(self, records: Sequence[Record]) -> None:
        """Makes the process save the records, and kill itself (SIGKILL) in the statement right after that."""
        await self._die_of(Request("save", records=to_wire(records), die_after=True))

    async def new_epoch_and_die(self, at_least: int) -> None:
        """Makes the process allot an epoch, and kill itself right after that."""
        await self._die_of(Request("new_epoch", number=at_least, die_after=True))

    async def count_steps(self, records: Sequence[Record]) -> int:
        """Makes the process save the records; returns how many steps that took."""
        return (await self._ask(Request("count", records=to_wire(records)))).number

    async def save_and_freeze_at(self, records: Sequence[Record], step: int, *, seconds: float) -> bool:
        """Starts a save that freezes before that step, for `seconds` at most; False if it ended before the step."""
        return await self._freeze_in(Request("save", records=to_wire(records), at=step), seconds)

    async def load_and_freeze_at(self, record: Record, step: int, *, seconds: float) -> bool:
        """Starts a load of the record's key that freezes likewise; `thaw` then returns what it finds."""
        return await self._freeze_in(Request("load", records=to_wire([record]), at=step), seconds)

    async def set_clock(self, ahead_seconds: int) -> None:
        """Sets the clock of `time.time` in the process: so many seconds ahead of the real one."""
        await self._ask(Request("clock", number=ahead_seconds))

    async def _freeze_in(self, request: Request, seconds: float) -> bool:
        reply = await self._ask(request)
        if not reply.frozen:
            return False
        self.where = reply.frozen
        async with asyncio.timeout(_SECONDS):
            while not self.frozen:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(_STOP_POLL_SECONDS)
        # Use a timer thread: a call that waits for the frozen process may block the event loop.
        self._timer = threading.Timer(seconds, os.kill, (self._pid, signal.SIGCONT))
        self._timer.start()
        return True

    async def thaw(self) -> int:
        """Lets the frozen call run to its end; returns how many records were stale, or the version found, or 0."""
        self._stop_timer()
        os.kill(self._pid, signal.SIGCONT)
        return (await self._reply()).number

    @property
    def frozen(self) -> bool:
        """Whether the process is frozen now."""
        return _stopped(self._pid)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
            self._timer = None

    async def save_and_die_at(self, records: Sequence[Record], step: int) -> None:
        """Makes the process save, and die (SIGKILL) before that step; if the save ends earlier, after the save."""
        reply = await self._ask(Request("save", records=to_wire(records), at=step, freeze=Freeze.KILL))
        self.where = reply.frozen or "the end of the save"
        await self.kill()

    async def kill(self) -> None:
        """Kills the process (SIGKILL), and returns when it is dead."""
        self._stop_timer()
        if self._pid and not self._reading.done():
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGCONT)
                os.kill(self._pid, signal.SIGKILL)
        with suppress(ConnectionError):
            self._writer.write_eof()
        await asyncio.wait((self._reading,), timeout=_SECONDS)
        self._reading.cancel()
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                self._lines.put_nowait(line)
        self._lines.put_nowait(b"")

    async def _die_of(self, request: Request) -> None:
        await self._send(request)
        line = await self._line()
        if line:
            self._understood(line)  # raises what went wrong before that
            raise AssertionError("the other process should have killed itself")
        await self.kill()

    async def _ask(self, request: Request) -> Reply:
        await self._send(request)
        return await self._reply()

    async def _send(self, request: Request) -> None:
        self._writer.write(msgspec.json.encode(request) + b"\n")
        with suppress(ConnectionError):  # it has ended, and the answer says why
            await self._writer.drain()

    async def _reply(self) -> Reply:
        line = await self._line()
        if not line:
            raise AssertionError(f"the other process ended:\n{self._nursery.log(self._log_start)}")
        return self._understood(line)

    async def _line(self) -> bytes:
        """Returns the next line that the process sends; b"" if it has ended."""
        try:
            async with asyncio.timeout(_SECONDS):
                return await self._lines.get()
        except TimeoutError:
            before = self._nursery.log_size()
            if self._pid:
                os.kill(self._pid, signal.SIGUSR1)
                await asyncio.sleep(_TELL_SECONDS)
            where = self._nursery.log(before if self._pid else self._log_start)
            raise AssertionError(f"the other process has not answered for {_SECONDS:g} s:\n{where}") from None

    def _understood(self, line: bytes) -> Reply:
        reply = msgspec.json.decode(line, type=Reply)
        if reply.error:
            raise AssertionError(f"in the other process:\n{reply.error}")
        return reply


def _stopped(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        # The process's name comes first, in parentheses, and may contain anything.
        return stat.read_text().rpartition(") ")[2].startswith("T")
    state = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607
    return state.stdout.startswith("T")
