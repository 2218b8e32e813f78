"""The backend in memory keeps the contract."""

import pytest

from asyncwb.testing import MemoryBackend
from asyncwb.testing.contract import BackendContract


class TestMemoryBackend(BackendContract):
    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend()
