"""The backend in memory keeps the contract, but for what ends with its object."""

import pytest

from asyncwb.backend import Backend
from asyncwb.records import Record
from asyncwb.testing import MemoryBackend
from asyncwb.testing.contract import BackendContract


class TestMemoryBackend(BackendContract):
    cannot = {
        "persistence": "what is in memory ends with its process",
        "sharing": "what is in memory belongs to one object",
    }

    @pytest.fixture
    def url(self) -> str:
        return "memory://"

    def make_backend(self, url: str) -> Backend:
        return MemoryBackend()

    async def add_unversioned(self, backend: Backend, url: str, key: str) -> None:
        assert isinstance(backend, MemoryBackend)
        backend.records[key] = Record(key, 0, b"1")
