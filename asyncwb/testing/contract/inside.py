"""The program of the contract's other processes: opens a backend, obeys requests, counts steps, freezes or dies.

Usage: python -m asyncwb.testing.contract.inside SOCKET FILE MODULE CLASS

It imports the contract's subclass once, and forks for each connection to the socket. It ends when stdin does.
"""

import asyncio
import faulthandler
import importlib
import importlib.util
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Final

import msgspec

from asyncwb.backend import Backend
from asyncwb.testing.contract.records import NAMESPACE
from asyncwb.testing.contract.whereabouts import line_of, whereabouts
from asyncwb.testing.contract.wire import Freeze, Reply, Request, from_wire

_CONTRACT: Final = str(Path(__file__).parent) + os.sep


class Steps:
    """Counts the lines that the backend's own code executes, in all threads, and calls a function at one of them.

    The middle of a listing (`os.listdir`) is a step, too. Such a listing shows the least that a file system may show:
    only what was there from its beginning to its end.
    """

    def __init__(self, own: Callable[[str], bool]) -> None:
        self._own = own
        self._known: dict[str, bool] = {}
        self._lock = threading.Lock()
        self._act: Callable[[str], None] = lambda _: None
        self._at: int | None = None
        self._armed = False
        self.count = 0

    def install(self) -> None:
        """Starts tracing; to be called before the backend starts its threads."""
        threading.settrace(self._enter)
        sys.settrace(self._enter)
        listdir: Any = os.listdir

        def in_two_parts(path: Any = ".") -> list[Any]:
            before, caller = listdir(path), sys._getframe(1)  # noqa: SLF001 - the documented way
            self._step(lambda: f"the middle of a listing at {line_of(caller)}")
            after = set(listdir(path)) if self._armed else before
            return [name for name in before if name in after]

        os.listdir = in_two_parts

    def arm(self, at: int | None, act: Callable[[str], None]) -> None:
        """Starts counting from 0; at step `at`, calls `act` with the line that comes next."""
        self.count, self._at, self._act, self._armed = 0, at, act, True

    def disarm(self) -> None:
        """Stops counting."""
        self._armed = False

    def _enter(self, frame: FrameType, _event: str, _arg: Any) -> Any:
        file = frame.f_code.co_filename
        own = self._known.get(file)
        if own is None:
            own = self._known[file] = self._own(file)
        return self._line if own else None

    def _line(self, frame: FrameType, event: str, _arg: Any) -> Any:
        if event == "line":
            self._step(lambda: line_of(frame))
        return self._line

    def _step(self, where: Callable[[], str]) -> None:
        if self._armed:
            with self._lock:
                self.count += 1
                reached = self.count == self._at
            if reached:
                self._act(where())


def code_of(backend: Backend) -> Callable[[str], bool]:
    """Returns a function that says whether a file is of the backend's own code: its classes' modules and packages."""
    files, folders = set(), set()
    for each in type(backend).__mro__:
        module = sys.modules.get(each.__module__)
        file = getattr(module, "__file__", None)
        if module is None or file is None or each.__module__.partition(".")[0] in ("typing", "abc"):
            continue
        files.add(file)
        if module.__package__:
            folders.add(str(Path(file).parent) + os.sep)
    return lambda file: not file.startswith(_CONTRACT) and (file in files or file.startswith(tuple(folders)))


def module_of(file: str, name: str) -> ModuleType:
    """Imports the module that defines the contract's subclass, by its name, or else from its file."""
    with suppress(ImportError):
        module = importlib.import_module(name)
        if module.__file__ == file:
            return module
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None, file
    assert spec.loader is not None, file
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Servant:
    """A process's backend, controlled through a socket."""

    def __init__(self, channel: socket.socket, contract: Any) -> None:
        self._channel = channel
        self._contract = contract

    async def serve(self) -> None:
        """Opens the backend of the URL in the first line, then answers one request per line."""
        loop = asyncio.get_running_loop()
        lines = self._channel.makefile("rb")
        url = msgspec.json.decode(await loop.run_in_executor(None, lines.readline), type=str)
        backend: Backend = self._contract().make_backend(url)
        steps = Steps(code_of(backend))
        steps.install()
        # On SIGUSR1, report where the process hangs; the test sends it when it has waited long enough.
        loop.add_signal_handler(signal.SIGUSR1, lambda: _tell(whereabouts(loop, None)))
        faulthandler.register(signal.SIGUSR1, chain=True)
        await backend.open(namespace=NAMESPACE)
        self._say(Reply(os.getpid()))
        while line := await loop.run_in_executor(None, lines.readline):
            request = msgspec.json.decode(line, type=Request)
            try:
                number = await self._obey(backend, request, steps)
            except Exception as error:  # noqa: BLE001 - told to the test, which fails
                self._say(Reply(error="".join(traceback.format_exception(error))))
            else:
                self._say(Reply(number))

    async def _obey(self, backend: Backend, request: Request, steps: Steps) -> int:
        if request.do == "new_epoch":
            epoch = await backend.new_epoch(request.number)
            if request.die_after:
                die()
            return epoch
        if request.do == "clock":
            _set_clock(request.number)
            return 0
        records = from_wire(request.records)
        if request.do == "count_up":
            return int(await self._contract().count_up(backend, records[0].key, request.number))
        if request.do == "save" and request.at is None:
            stale = await backend.save(records)
            if request.die_after:
                die()
            return stale
        steps.arm(request.at, self._freeze if request.freeze is Freeze.STOP else self._die)
        try:
            if request.do == "load":
                (wanted,) = records
                found = await backend.load([wanted.key])
                return found[wanted.key].version if found else 0
            stale = await backend.save(records)
        finally:
            steps.disarm()
        return steps.count if request.do == "count" else stale

    def _die(self, where: str) -> None:
        self._say(Reply(frozen=where))
        die()

    def _freeze(self, where: str) -> None:
        self._say(Reply(frozen=where))
        # Signal this thread: another thread may receive a signal to the process, while this one runs on for a moment.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

    def _say(self, reply: Reply) -> None:
        self._channel.sendall(msgspec.json.encode(reply) + b"\n")


def _set_clock(ahead_seconds: int) -> None:
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + ahead_seconds
    time.time_ns = lambda: now_ns() + ahead_seconds * 10**9


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def die() -> None:
    """Kills this process with SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)


def main(path: str, file: str, module: str, name: str) -> None:
    """Listens on the socket, and forks a process for each connection, until stdin ends."""
    contract: Any = module_of(file, module)
    for part in name.split("."):
        contract = getattr(contract, part)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        os.write(1, b"ready\n")
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
        while True:
            ready, _, _ = select.select([listener.fileno(), 0], [], [])
            if 0 in ready:
                return
            channel, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                asyncio.run(Servant(channel, contract).serve())
                os._exit(0)
            channel.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
