"""Fixtures that every test may use: real servers, fresh namespaces."""

import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from asyncwb.settings import Settings
from tests.harness.environments import PLUGIN, REPOSITORY, build_wheel
from tests.harness.servers import KINDS, Server, binary, required


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--server", choices=KINDS, help="run the Redis-facing tests against this server only")


def pytest_configure() -> None:
    # Without job control a shell starts background jobs with SIGINT ignored, and they hand that on to their children.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A terminated run ends as an interrupted one does: with its servers.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    _keep_bytecode()


def _keep_bytecode() -> None:
    """The tests start hundreds of Python processes, and one that has to compile its imports takes twice as long."""
    folder = str(REPOSITORY / ".cache" / "bytecode")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = folder
    sys.dont_write_bytecode = False


@pytest.fixture(autouse=True)
def usual_logging() -> Iterator[None]:
    """Campaigns of faults silence the logger; a test that comes after them in the same process reads it."""
    yield
    logging.getLogger("asyncwb").setLevel(logging.NOTSET)


def _need(kind: str, config: pytest.Config) -> None:
    only = config.getoption("--server")
    if only not in (None, kind):
        pytest.skip(f"--server {only}")
    path, reason = binary(kind)
    if path is None:
        if required(kind):
            pytest.fail(f"CI has to have {kind}: {reason}")
        pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_servers() -> Iterator[dict[str, Server]]:
    """Servers that tests share, started when first asked for."""
    servers: dict[str, Server] = {}
    yield servers
    for server in servers.values():
        server.stop()


@pytest.fixture
def shared_server(
    request: pytest.FixtureRequest, shared_servers: dict[str, Server]
) -> Iterator[Callable[[str], Server]]:
    """Gives the server of a kind, empty, shared with other tests."""
    used: list[Server] = []

    def give(kind: str) -> Server:
        _need(kind, request.config)
        if kind not in shared_servers:
            shared_servers[kind] = Server(kind)
        used.append(shared_servers[kind])
        return used[-1]

    yield give
    for server in used:
        with redis.Redis.from_url(server.url) as client:
            client.flushall()


@pytest.fixture(params=KINDS)
def redis_server(request: pytest.FixtureRequest, shared_server: Callable[[str], Server]) -> Server:
    """Each supported server in turn, empty, shared with other tests."""
    return shared_server(request.param)


@pytest.fixture(params=[kind for kind in KINDS if kind != "valkey"])
def old_server(request: pytest.FixtureRequest, shared_server: Callable[[str], Server]) -> Server:
    """Each supported server older than Redis 7.2."""
    return shared_server(request.param)


@pytest.fixture
def valkey_server(shared_server: Callable[[str], Server]) -> Server:
    """The server of choice, empty, for tests of what doesn't depend on the server."""
    return shared_server("valkey")


@pytest.fixture
def private_server(request: pytest.FixtureRequest) -> Iterator[Callable[..., Server]]:
    """Starts servers of a test's own: `private_server("valkey", appendonly="yes")`."""
    started: list[Server] = []

    def start(kind: str = "valkey", **config: Any) -> Server:
        _need(kind, request.config)
        started.append(Server(kind, **config))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def redis_url(redis_server: Server) -> str:
    return redis_server.url


@pytest.fixture
def valkey_url(valkey_server: Server) -> str:
    return valkey_server.url


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening gives up soon, where a test can't set it: commands take the default."""
    defaults = Settings.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "connect_timeout_seconds", 0.3)


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """A namespace of the test's own."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", request.node.name)[:50]
    return f"{name}.{uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of asyncwb and of the plugin in examples/."""
    folder = tmp_path_factory.mktemp("wheels")
    return build_wheel(REPOSITORY, folder), build_wheel(PLUGIN, folder)
