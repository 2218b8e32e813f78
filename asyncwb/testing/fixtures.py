"""Fixtures for the tests of services; in a `conftest.py`: `pytest_plugins = ["asyncwb.testing.fixtures"]`.

- `asyncwb_server`: the URL of a private Valkey server, one for the whole session.
- `asyncwb_backend`: an empty `MemoryBackend` inside a `FaultyBackend`; override it to use another.
- `asyncwb_buffer`: an open `Buffer` on both, with a namespace of its own; it drains when the test ends.

They need `pip install 'asyncwb[embedded,testing]'`.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from asyncwb.backend import Backend
from asyncwb.buffer import Buffer
from asyncwb.embedded.server import EmbeddedServer
from asyncwb.testing.faults import FaultyBackend
from asyncwb.testing.memory import MemoryBackend


@pytest.fixture(scope="session")
def asyncwb_server() -> Iterator[str]:
    """The URL of a private Valkey server, which is stopped at the end of the session, however that ends."""
    with (
        tempfile.TemporaryDirectory(prefix="asyncwb-") as folder,
        # A separate event loop: the server starts before the loops of the tests, and outlives them.
        asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner,
    ):
        server = EmbeddedServer(folder)
        try:
            yield f"unix://{runner.run(server.start())}"
        finally:
            runner.run(server.stop())


@pytest.fixture
def asyncwb_backend() -> Backend:
    """An empty backend in memory, with faults on demand."""
    return FaultyBackend(MemoryBackend())


@pytest_asyncio.fixture
async def asyncwb_buffer(asyncwb_server: str, asyncwb_backend: Backend) -> AsyncIterator[Buffer[Any]]:
    """An open buffer of plain values, with a namespace of its own."""
    async with Buffer[Any](asyncwb_server, backend=asyncwb_backend, namespace=uuid4().hex) as buffer:
        yield buffer
