"""Fixtures of backends: a folder of values, and database servers that are started when first asked for."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from asyncwb_backends.filesystem import FileBackend
from tests.harness.databases import MariaDB, Mongod, PostgreSQL, mariadb_programs, mongod_binary, postgresql_binaries


def _missing(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"CI has to have it: {reason}")
    pytest.skip(reason)


@pytest.fixture
async def file_backend(tmp_path: Path) -> AsyncIterator[FileBackend]:
    """An open backend of one folder, without sub-folders."""
    backend = FileBackend(tmp_path / "data", fanout=0)
    await backend.open(namespace="one")
    yield backend
    await backend.close()


@pytest.fixture(scope="session")
def mongods() -> Iterator[Callable[[bool], Mongod]]:
    """A standalone server and a replica set, shared by all tests."""
    started: dict[bool, Mongod] = {}

    def get(replica_set: bool) -> Mongod:
        path, reason = mongod_binary()
        if path is None:
            _missing(reason)
        if replica_set not in started:
            started[replica_set] = Mongod(replica_set=replica_set)
        return started[replica_set]

    yield get
    for server in started.values():
        server.stop()


@pytest.fixture
def mongodb_url(mongods: Callable[[bool], Mongod], request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of the test's own; on a replica set in classes that have `replica_set = True`."""
    server = mongods(getattr(request.cls, "replica_set", False))
    # The contract's many tests share one per class: to empty a collection is much quicker than to make it.
    database = f"test_{request.cls.__name__ if request.cls else uuid4().hex[:12]}"
    yield server.url(database)
    with server.client() as client:
        if request.cls:
            for name in client[database].list_collection_names():
                client[database][name].delete_many({})
        else:
            client.drop_database(database)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A server for all tests."""
    path, reason = postgresql_binaries()
    if path is None:
        _missing(reason)
    server = PostgreSQL()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """A server for all tests."""
    programs, reason = mariadb_programs()
    if not programs:
        _missing(reason)
    server = MariaDB()
    yield server
    server.stop()
