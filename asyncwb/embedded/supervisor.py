"""The process that owns an embedded server; it is run by its file path, and needs only the standard library.

Usage: python supervisor.py DIRECTORY SERVER_BINARY

Exit status 0: a supervisor runs in the background, and its server is ready. 75: the directory already has a supervisor,
which may be about to exit. 1: the server can't be started; stderr says why.

Each user holds a connection to the supervisor's socket. When the last one has gone (it sent `leave`, closed its
connection or was killed), the supervisor stops the server and exits. The directory is locked with flock(2). The server
inherits the lock, so that the lock is held for as long as anybody could write to the directory.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

BUSY: Final = 75
READY: Final = b"ready\n"
LEAVE: Final = b"leave\n"

_PR_SET_PDEATHSIG: Final = 1
_FIRST_USER_SECONDS: Final = 10.0
_START_SECONDS: Final = 10.0
_STOP_SECONDS: Final = 10.0
_LONGEST_SOCKET_PATH: Final = 100
_LONGEST_LOG_BYTES: Final = 2**20


class Supervisor:
    """Owns the lock, the server and the users' connections."""

    def __init__(self, directory: Path, binary: str, lock: int) -> None:
        self._directory = directory
        self._binary = binary
        self._lock = lock
        self._record = directory / "supervisor.json"
        self._log = directory / "server.log"
        self._remove_stale()
        parent = tempfile.gettempdir()
        if len(parent) + 32 > _LONGEST_SOCKET_PATH:
            parent = "/tmp"  # noqa: S108 - mkdtemp below makes a private folder; the configured one is too long
        self._sockets = Path(tempfile.mkdtemp(prefix="asyncwb-", dir=parent))
        self._server_socket = self._sockets / "s"
        self._server: subprocess.Popen[bytes] | None = None
        self._users: set[socket.socket] = set()
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)

    def start(self) -> None:
        """Starts the server, and listens for users.

        Raises:
            OSError, RuntimeError: the server can't be started; the message is for the user.
        """
        self._start_server()
        path = self._sockets / "g"
        self._listener.bind(str(path))
        self._listener.listen(128)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        draft = self._record.with_suffix(".new")
        draft.write_text(
            json.dumps({"pid": os.getpid(), "supervisor": str(path), "server": str(self._server_socket)}), "utf-8"
        )
        draft.replace(self._record)

    def serve(self) -> None:
        """Serves users, and returns when the last one has gone and the server has stopped."""
        deadline = time.monotonic() + _FIRST_USER_SECONDS
        leaving: list[socket.socket] = []
        while True:
            for key, _ in self._selector.select(0.5):
                if key.fileobj is self._listener:
                    self._welcome()
                elif isinstance(key.fileobj, socket.socket) and (gone := self._hear(key.fileobj)):
                    leaving.append(gone)
            if self._users:
                _close(leaving)
                deadline = 0.0
            elif time.monotonic() >= deadline:
                # A user who has connected by now is served; a later one finds no listener and starts a supervisor.
                self._welcome()
                if not self._users:
                    break
            self._revive_server()
        self._listener.close()
        self._record.unlink(missing_ok=True)
        self._stop_server()
        # Closed only now, because this tells the last user that the server has stopped.
        _close(leaving)

    def close(self) -> None:
        """Stops everything that has been started, even if `start` failed halfway."""
        with contextlib.suppress(OSError):
            self._listener.close()
        self._stop_server()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _welcome(self) -> None:
        while True:
            try:
                user, _ = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            user.setblocking(False)
            with contextlib.suppress(OSError):
                user.sendall(READY)
            self._users.add(user)
            self._selector.register(user, selectors.EVENT_READ)

    def _hear(self, user: socket.socket) -> socket.socket | None:
        """Reads from a user; returns its connection if it leaves: it sent anything, closed the connection or died."""
        try:
            user.recv(64)
        except BlockingIOError:
            return None
        except OSError:
            pass
        self._selector.unregister(user)
        self._users.discard(user)
        return user

    def _start_server(self) -> None:
        if self._log.exists() and self._log.stat().st_size > _LONGEST_LOG_BYTES:
            self._log.unlink()
        options = {
            "port": "0", "unixsocket": str(self._server_socket), "unixsocketperm": "700", "dir": str(self._directory),
            "appendonly": "yes", "appendfsync": "always", "save": "", "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }  # fmt: skip
        args = [self._binary]
        for name, value in options.items():
            args += [f"--{name}", value]
        supervisor = os.getpid()
        libc = ctypes.CDLL(None) if sys.platform == "linux" else None

        def die_with_supervisor() -> None:
            if libc is not None:
                libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != supervisor:
                    os._exit(1)

        with self._log.open("ab") as log:
            # The kernel sends this signal when the thread that started the server ends. Here that is the main thread,
            # which is the only one, so the signal comes when the process ends.
            self._server = subprocess.Popen(  # noqa: S603 - the binary is found by the caller, nobody types it
                args,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[self._lock],
                preexec_fn=die_with_supervisor,  # noqa: PLW1509 - single-threaded by design
            )
        self._await_server()

    def _await_server(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._server is None or self._server.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(1)
                probe.connect(str(self._server_socket))
                probe.sendall(b"PING\r\n")
                if probe.recv(64).startswith(b"+PONG"):
                    return
            time.sleep(0.005)
        tail = self._log.read_text("utf-8", "replace")[-2000:] if self._log.exists() else ""
        self._stop_server()
        raise RuntimeError(f"the server in {self._directory} doesn't start:\n{tail}")

    def _revive_server(self) -> None:
        if self._server is not None and self._server.poll() is not None:
            # It was killed by somebody or for lack of memory. With appendfsync always, nothing is lost.
            with contextlib.suppress(RuntimeError, OSError):
                self._start_server()

    def _stop_server(self) -> None:
        server, self._server = self._server, None
        if server is None or server.poll() is not None:
            return
        server.terminate()
        try:
            server.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()

    def _remove_stale(self) -> None:
        """Removes files of a supervisor that was killed; holding the lock means that it and its server are gone."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            folder = Path(json.loads(self._record.read_text("utf-8"))["supervisor"]).parent
            if folder.name.startswith("asyncwb-"):
                shutil.rmtree(folder, ignore_errors=True)
        self._record.unlink(missing_ok=True)


def _close(connections: list[socket.socket]) -> None:
    for connection in connections:
        connection.close()
    connections.clear()


def _lock(directory: Path) -> int | None:
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _guard(directory: Path, binary: str, lock: int, report: int) -> None:
    """The background process: starts the server, reports to the foreground process, then serves users.

    Args:
        directory, binary: see above.
        lock: the locked file.
        report: the pipe to the foreground: gets `+` when the server is ready, or `-` and an error.
    """
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    silence = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(silence, standard)
    # Close all other inherited files: a user may wait for the end of a pipe that would stay open here.
    first, last = sorted((lock, report))
    for low, high in ((3, first), (first + 1, last), (last + 1, os.sysconf("SC_OPEN_MAX"))):
        os.closerange(low, high)
    supervisor = None
    try:
        try:
            supervisor = Supervisor(directory, binary, lock)
            supervisor.start()
        except (OSError, RuntimeError) as error:
            os.write(report, f"-{error}".encode("utf-8", "replace")[:4000])
            return
        os.write(report, b"+")
        os.close(report)
        supervisor.serve()
    finally:
        if supervisor is not None:
            supervisor.close()


def main(arguments: list[str]) -> int:
    directory, binary = Path(arguments[0]), arguments[1]
    lock = _lock(directory)
    if lock is None:
        return BUSY
    listen, report = os.pipe()
    if os.fork() == 0:
        os.close(listen)
        _guard(directory, binary, lock, report)
        return 0
    os.close(report)
    os.close(lock)
    outcome = b""
    while chunk := os.read(listen, 4096):
        outcome += chunk
    if outcome == b"+":
        return 0
    sys.stderr.write(outcome[1:].decode("utf-8", "replace") or "the supervisor died")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
