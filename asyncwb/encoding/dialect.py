"""What a codec needs to know of the library that encodes its values."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

BINARY: Final = (bytes, bytearray, memoryview)
"""What is bytes to Python."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Encoding and decoding of one type, and how to tell whether a value came back as it was.

    Attributes:
        encode: raises whatever the library raises.
        decode: likewise.
        comes_back: of a value and its encoding, the quick answer to whether it is read back as it was. True is certain,
            False asks for a comparison part by part. Raises what `decode` raises.
        image: a value as plain Python (dicts, lists, numbers, text, bytes, …), for that comparison.
    """

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    comes_back: Callable[[Any, bytes], bool]
    image: Callable[[Any], Any]
