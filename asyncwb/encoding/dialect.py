"""The functions of an encoding library, msgspec or pydantic, that a codec needs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

BINARY: Final = (bytes, bytearray, memoryview)
"""The types that count as bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Functions that encode and decode values of one type, and tell whether a value comes back unchanged.

    Attributes:
        encode: encodes a value; raises whatever the library raises.
        decode: decodes a value; raises whatever the library raises.
        comes_back: a quick check, given a value and its encoding, whether the value is read back unchanged. True is
            certain; after False, the two have to be compared part by part. Raises what `decode` raises.
        image: turns a value into plain Python (dicts, lists, numbers, text, bytes, …) for that comparison.
    """

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    comes_back: Callable[[Any, bytes], bool]
    image: Callable[[Any], Any]
