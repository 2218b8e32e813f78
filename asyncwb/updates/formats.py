"""Reads and writes encoded values, objects and lists without decoding the parts that an update doesn't touch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

Raw = msgspec.Raw
T = TypeVar("T")


class Unreadable(ValueError):
    """Bytes aren't a value of the codec, or an object or list was expected and they are something else."""


@dataclass(frozen=True, slots=True)
class Format:
    """How a codec writes values.

    Attributes:
        name: "json" or "msgpack".
        encode: encodes plain Python; `Raw` parts are taken as they are.
        null: how null is encoded.
    """

    name: str
    encode: Callable[[Any], bytes]
    null: bytes
    _any: Callable[[bytes], Any]
    _fields: Callable[[bytes], dict[Any, Raw]]
    _items: Callable[[bytes], list[Raw]]

    def decode(self, encoded: bytes) -> Any:
        """The value as plain Python; raises Unreadable."""
        return _read(self._any, encoded)

    def fields(self, encoded: bytes) -> dict[Any, Raw]:
        """The fields of an object, each encoded, in their order; raises Unreadable."""
        return _read(self._fields, encoded)

    def items(self, encoded: bytes) -> list[Raw]:
        """The items of a list, each encoded; raises Unreadable."""
        return _read(self._items, encoded)

    def join(self, items: Sequence[bytes]) -> bytes:
        """Encodes a list of items that are encoded already."""
        return self.encode([Raw(item) for item in items])

    def is_nothing(self, encoded: bytes) -> bool:
        """Whether the value is null, which counts as absent."""
        if encoded == self.null:
            return True
        # Other programs may write blanks around a JSON value.
        return self.name == "json" and encoded[:1].isspace() | encoded[-1:].isspace() and encoded.strip() == self.null


_ERRORS: Final = (msgspec.DecodeError, ValueError, RecursionError, OverflowError, MemoryError)


def _read(decode: Callable[[bytes], T], encoded: bytes) -> T:
    try:
        return decode(encoded)
    except _ERRORS as error:
        raise Unreadable(str(error)) from None


FORMATS: Final = {
    "json": Format(
        "json",
        msgspec.json.Encoder().encode,
        b"null",
        msgspec.json.Decoder().decode,
        msgspec.json.Decoder(dict[str, Raw]).decode,
        msgspec.json.Decoder(list[Raw]).decode,
    ),
    "msgpack": Format(
        "msgpack",
        msgspec.msgpack.Encoder().encode,
        b"\xc0",
        msgspec.msgpack.Decoder().decode,
        msgspec.msgpack.Decoder(dict[Any, Raw]).decode,  # its keys may be anything, and are kept
        msgspec.msgpack.Decoder(list[Raw]).decode,
    ),
}
"""Name of a codec -> its format; codec "bytes" has none, since nothing can be changed in a part of its values."""
