"""For tests of plugins and of services: the backend contract suite, a backend in memory, and faults on demand.

`asyncwb.testing.contract` needs pytest and isn't imported here.
"""

from asyncwb.testing.faults import FaultyBackend
from asyncwb.testing.memory import MemoryBackend

__all__ = ["FaultyBackend", "MemoryBackend"]
