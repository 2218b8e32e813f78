"""The PostgreSQL plugin of examples/ when its server is stopped or frozen: more than the plugin's own tests can do."""

from collections.abc import Iterator

import pytest

from asyncwb.testing.contract import Outage
from asyncwb.testing.contract.outages import OutageContract
from tests.harness.databases import PostgreSQL

pytestmark = pytest.mark.long


class TestPostgreSQLBackend(OutageContract):
    @pytest.fixture(scope="class")
    @classmethod
    def server(cls) -> Iterator[PostgreSQL]:
        server = PostgreSQL()
        yield server
        server.stop()

    @pytest.fixture
    def url(self, server: PostgreSQL, request: pytest.FixtureRequest) -> str:
        return f"{server.url}?table={request.node.name[:50]}"

    @pytest.fixture
    def outage(self, server: PostgreSQL) -> Outage:
        return Outage(stop=server.kill, start=server.start, freeze=server.freeze, thaw=server.thaw)
