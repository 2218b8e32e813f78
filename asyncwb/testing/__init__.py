"""For the tests of plugins and of services. What is named here is kept stable as semantic versions promise.

- `asyncwb.testing.contract.BackendContract`: the tests that every backend has to pass.
- `asyncwb.testing.fixtures`: a private server and an open buffer, as pytest fixtures.
- `MemoryBackend`: a backend in memory.
- `FaultyBackend`: wraps any backend, and fails, delays, hangs, refuses some keys, or saves and fails then.

The first two need `pip install 'asyncwb[embedded,testing]'`, and aren't imported here.
"""

import sys

if "pytest" in sys.modules:
    # So that the contract's assertions show values; before it is imported, and not where there is no pytest.
    sys.modules["pytest"].register_assert_rewrite("asyncwb.testing.contract")

from asyncwb.testing.faults import FaultyBackend
from asyncwb.testing.memory import MemoryBackend

__all__ = ["FaultyBackend", "MemoryBackend"]
