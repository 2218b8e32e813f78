"""Tools for testing plugins and services. What is named here is stable, as semantic versioning requires.

- `asyncwb.testing.contract.BackendContract`: the tests that every backend has to pass.
- `asyncwb.testing.fixtures`: a private server and an open buffer, as pytest fixtures.
- `MemoryBackend`: a backend in memory.
- `FaultyBackend`: wraps any backend; fails, delays, hangs, refuses some keys, or saves and then fails, on demand.

The first two need `pip install 'asyncwb[embedded,testing]'`, and aren't imported here.
"""

import sys

if "pytest" in sys.modules:
    # Make the contract's assertions show values. This has to come before it is imported, and needs pytest.
    sys.modules["pytest"].register_assert_rewrite("asyncwb.testing.contract")

from asyncwb.testing.faults import FaultyBackend
from asyncwb.testing.memory import MemoryBackend

__all__ = ["FaultyBackend", "MemoryBackend"]
