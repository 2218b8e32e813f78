"""Fixtures of backends: database servers, started when first asked for."""

import os
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from databases import Mongod, mongod_binary


@pytest.fixture(scope="session")
def mongods() -> Iterator[Callable[[bool], Mongod]]:
    """A standalone server and a replica set, shared by all tests."""
    started: dict[bool, Mongod] = {}

    def get(replica_set: bool) -> Mongod:
        path, reason = mongod_binary()
        if path is None:
            if os.environ.get("CI"):
                pytest.fail(f"CI has to have MongoDB: {reason}")
            pytest.skip(reason)
        if replica_set not in started:
            started[replica_set] = Mongod(replica_set=replica_set)
        return started[replica_set]

    yield get
    for server in started.values():
        server.stop()


@pytest.fixture
def mongodb_url(mongods: Callable[[bool], Mongod], request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of the test's own; on a replica set in classes that have `replica_set = True`."""
    server = mongods(getattr(request.cls, "replica_set", False))
    database = f"test_{uuid4().hex[:12]}"
    yield server.url(database)
    with server.client() as client:
        client.drop_database(database)
