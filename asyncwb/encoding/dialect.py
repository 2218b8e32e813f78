"""What a codec needs to know of the library that encodes its values."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def _never(_: bytes) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Encoding and decoding of one type, and how to tell whether a value came back as it was.

    Attributes:
        encode: raises whatever the library raises.
        decode: likewise.
        image: a value as plain Python (dicts, lists, numbers, text, bytes, …), for the comparison of two values.
        encoding: whether the quick answer asks for the same encoding of a value and of what is read back.
        equality: whether it asks for their equality: there are parts whose type doesn't say how they are read back, so
            that bytes can come back as text.
        ambiguous: of encoded bytes: whether it asks for equality because these may stand for different values.
    """

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    image: Callable[[Any], Any]
    encoding: bool
    equality: bool
    ambiguous: Callable[[bytes], bool] = _never
