"""Keys for values that are inserted: UUIDs of version 7, which begin with the time (RFC 9562, section 5.7)."""

import secrets
import time
import uuid
from typing import Final

_RANDOM_BITS: Final = 62
_VARIANT: Final = 0b10 << _RANDOM_BITS
_VERSION: Final = 7 << 76


class UUIDs:
    """Makes UUIDs of version 7 that increase within a process.

    The 12 bits behind the milliseconds are a counter: it begins at random, below its half, in each millisecond, and
    goes on where the clock stands still or is set back. (`uuid.uuid7`, from Python 3.14 on, has a longer counter.)
    """

    def __init__(self) -> None:
        self._last = 0

    def new(self) -> str:
        """Returns one that is greater than all before it, as text."""
        noise = secrets.randbits(80)
        self._last = max(self._last + 1, time.time_ns() // 1_000_000 << 12 | noise >> 69)
        ms, counter = self._last >> 12, self._last & 0xFFF
        random = noise & ((1 << _RANDOM_BITS) - 1)
        return str(uuid.UUID(int=ms << 80 | _VERSION | counter << 64 | _VARIANT | random))


new_uuid7 = UUIDs().new
"""Returns a UUID of version 7 as text, greater than all that this process has made before."""
