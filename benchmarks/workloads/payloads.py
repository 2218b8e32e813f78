"""What the writers of a benchmark write: keys of 13 bytes in no order, and values that aren't all alike."""

import random
from functools import cache
from typing import Final

KEYS: Final = 200_000
VALUES: Final = 1000

_STEP: Final = 123_457
"""Has no factor in common with KEYS: consecutive numbers come to keys far from each other, and each key comes once."""


@cache
def keys() -> list[str]:
    """All keys; write number n takes `keys()[n % KEYS]`."""
    return [f"user:{number * _STEP % KEYS:08d}" for number in range(KEYS)]


@cache
def values(size: int) -> list[bytes]:
    """Texts of so many bytes; write number n takes `values(size)[n % VALUES]`."""
    source = random.Random(size)
    return [source.randbytes(size // 2).hex().encode() for _ in range(VALUES)]


def check_saved(found: int, written: int) -> None:
    """Raises unless what `written` calls of numbered writers have left is all there."""
    expected = min(written, KEYS)
    # Writers of different speed meet when they come round to the first key again; before, each write has its own key.
    least = expected if written < 0.9 * KEYS else 0.95 * expected
    if not least <= found <= expected:
        raise AssertionError(f"{written} writes have left {found} records, not {expected}")
