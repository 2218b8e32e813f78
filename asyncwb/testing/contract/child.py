"""Other processes with a backend open, driven from the outside: they save, and are frozen or killed in the middle."""

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
from typing import TYPE_CHECKING, Any, Final

import msgspec

from asyncwb.records import Record
from asyncwb.testing.contract.wire import Freeze, Reply, Request, to_wire

if TYPE_CHECKING:
    from asyncwb.testing.contract.base import ContractBase

_SECONDS: Final = 60.0
_STOP_POLL_SECONDS: Final = 0.001


class Nursery:
    """One process that has imported a contract's subclass and forks the others: that is quicker than starting each."""

    def __init__(self, contract: "type[ContractBase]") -> None:
        self._contract = contract
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def log(self) -> str:
        """What the processes have written to stderr."""
        return (self._folder / "log").read_text("utf-8", "replace") if self._folder else ""

    def close(self) -> None:
        """Ends it by its own id."""
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
            # What is killed or traced has no coverage to tell.
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
        """A process with the backend of this URL open; killed in the end, whatever happens."""
        reader, writer = await asyncio.open_unix_connection(self._start())
        child = Child(self, reader, writer)
        try:
            await child.begin(url)
            yield child
        finally:
            await child.kill()


class Child:
    """One process; made by `Nursery.child`."""

    def __init__(self, nursery: Nursery, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._nursery = nursery
        self._reader = reader
        self._writer = writer
        self._pid = 0
        self._timer: threading.Timer | None = None

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

    async def count_steps(self, records: Sequence[Record]) -> int:
        """Saves them; of how many steps that consisted."""
        return (await self._ask(Request("count", records=to_wire(records)))).number

    async def save_and_freeze_at(self, records: Sequence[Record], step: int, *, seconds: float) -> bool:
        """Saves them, and is frozen before that step, that long at most. False if the save was over before."""
        return await self._freeze_in(Request("save", records=to_wire(records), at=step), seconds)

    async def load_and_freeze_at(self, record: Record, step: int, *, seconds: float) -> bool:
        """Loads the record's key, and is frozen likewise; what it finds, `thaw` tells."""
        return await self._freeze_in(Request("load", records=to_wire([record]), at=step), seconds)

    async def set_clock(self, ahead_seconds: int) -> None:
        """Sets what `time.time` says there."""
        await self._ask(Request("clock", number=ahead_seconds))

    async def _freeze_in(self, request: Request, seconds: float) -> bool:
        reply = await self._ask(request)
        if not reply.frozen:
            return False
        async with asyncio.timeout(_SECONDS):
            while not self.frozen:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(_STOP_POLL_SECONDS)
        # A thread's timer: what waits for the frozen one may block the event loop.
        self._timer = threading.Timer(seconds, os.kill, (self._pid, signal.SIGCONT))
        self._timer.start()
        return True

    async def thaw(self) -> int:
        """Lets the frozen call go on, to its end; how many records were stale, or the version found (0 for none)."""
        self._stop_timer()
        os.kill(self._pid, signal.SIGCONT)
        return (await self._reply()).number

    @property
    def frozen(self) -> bool:
        """Whether it is, now."""
        return _stopped(self._pid)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
            self._timer = None

    async def save_and_die_at(self, records: Sequence[Record], step: int) -> None:
        """Saves them, and dies of SIGKILL before that step; or after the save, if it was over before."""
        await self._send(Request("save", records=to_wire(records), at=step, freeze=Freeze.KILL))
        await asyncio.wait_for(self._reader.readline(), _SECONDS)
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL; returns when it is dead."""
        self._stop_timer()
        if self._pid and not self._reader.at_eof():
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGCONT)
                os.kill(self._pid, signal.SIGKILL)
        with suppress(ConnectionError):
            self._writer.write_eof()
            while await asyncio.wait_for(self._reader.read(65_536), _SECONDS):
                pass
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _ask(self, request: Request) -> Reply:
        await self._send(request)
        return await self._reply()

    async def _send(self, request: Request) -> None:
        self._writer.write(msgspec.json.encode(request) + b"\n")
        await self._writer.drain()

    async def _reply(self) -> Reply:
        line = await asyncio.wait_for(self._reader.readline(), _SECONDS)
        if not line:
            raise AssertionError(f"the other process ended: {self._nursery.log()}")
        reply: Any = msgspec.json.decode(line, type=Reply)
        if reply.error:
            raise AssertionError(f"in the other process: {reply.error}")
        return reply  # type: ignore[no-any-return]


def _stopped(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        # The name before it stands in parentheses, and may hold anything.
        return stat.read_text().rpartition(") ")[2].startswith("T")
    state = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607
    return state.stdout.startswith("T")
