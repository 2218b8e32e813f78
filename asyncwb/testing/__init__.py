"""For the tests of plugins and of services. What is named here is kept stable as semantic versions promise.

- `asyncwb.testing.contract.BackendContract`: the tests that every backend has to pass.
- `asyncwb.testing.fixtures`: a private server and an open buffer, as pytest fixtures.
- `MemoryBackend`: a backend in memory.
- `FaultyBackend`: wraps any backend, and fails, delays, hangs, refuses some keys, or saves and fails then.

The first two need `pip install 'asyncwb[embedded,testing]'`, and aren't imported here.
"""

from asyncwb.testing.faults import FaultyBackend
from asyncwb.testing.memory import MemoryBackend

__all__ = ["FaultyBackend", "MemoryBackend"]
