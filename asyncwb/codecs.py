"""Codecs: values to bytes and back. JSON by default, msgpack, bytes; typed through msgspec."""

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, cast, get_args

import msgspec

from asyncwb.errors import ConfigurationError, DecodeError, InvalidValue
from asyncwb.foreign import is_exit
from asyncwb.plain import excerpt
from asyncwb.records import CodecName
from asyncwb.settings import check_choice

T = TypeVar("T")


class Codec(Generic[T]):
    """Encodes values of one type.

    Args:
        name: "json", "msgpack" or "bytes".
        type: what `decode` returns and checks: a msgspec Struct, a dataclass, or any type msgspec knows.
    """

    def __init__(self, name: CodecName = "json", type: Any = Any) -> None:  # noqa: A002 - msgspec's word
        name = cast("CodecName", check_choice("codec", name, get_args(CodecName)))
        if name == "bytes" and type is not Any and type is not bytes:
            raise ConfigurationError(f"codec='bytes' holds bytes, not type={excerpt(type)}; use 'json' or 'msgpack'")
        self.name: CodecName = name
        self.type = type
        self._encode: Callable[[Any], bytes]
        self._decode: Callable[[bytes], T]
        try:
            if name == "json":
                self._encode = msgspec.json.Encoder().encode
                self._decode = msgspec.json.Decoder(type).decode
            elif name == "msgpack":
                self._encode = msgspec.msgpack.Encoder().encode
                self._decode = msgspec.msgpack.Decoder(type).decode
            else:
                self._encode = _encode_bytes
                self._decode = cast("Callable[[bytes], T]", bytes)
        except Exception as error:  # an annotation that names nothing raises NameError, for instance
            raise ConfigurationError(f"type={excerpt(type)} can't be used by codec {name!r}: {error}") from error

    def encode(self, value: T) -> bytes:
        """Raises `InvalidValue` if the value can't be encoded, or would not be read back as it is."""
        if value is None:
            raise InvalidValue("None can't be stored, it means absence; use delete()")
        try:
            encoded = self._encode(value)
            if self.name == "json" and b"null" in encoded:
                _refuse_not_a_number(value)
        except BaseException as error:
            if is_exit(error):
                raise
            # Whatever the value's own code raises, that of a `tzinfo` for instance. Nothing is awaited in it, so that a
            # CancelledError can only be its own.
            raise InvalidValue(f"codec {self.name!r} can't encode a {type(value).__name__}: {error}") from error
        return encoded

    def decode(self, payload: bytes) -> T:
        """Raises `DecodeError` if the bytes aren't a value of this codec and type."""
        try:
            return self._decode(payload)
        except BaseException as error:
            if is_exit(error):
                raise
            raise DecodeError(
                f"stored bytes are no {self.name} value of type {_type_name(self.type)}: {error}"
            ) from error


WIRE_CODECS: Final[dict[CodecName, bytes]] = {"json": b"j", "msgpack": b"m", "bytes": b"b"}
"""The byte that stands for a codec in a Redis record."""


def _encode_bytes(value: object) -> bytes:
    if type(value) is bytes:
        return value
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError("bytes, bytearray or memoryview expected")
    return bytes(memoryview(value))  # not what a subclass makes of itself


def _refuse_not_a_number(value: object) -> None:
    """JSON has no NaN or infinity and msgspec writes null for them, which would be read back as None."""
    pending = [msgspec.to_builtins(value)]
    while pending:
        item = pending.pop()
        if isinstance(item, float) and (item != item or item in (float("inf"), float("-inf"))):  # noqa: PLR0124 - NaN
            raise ValueError(f"JSON has no {item}; use codec='msgpack'")
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            pending.extend(item)


def _type_name(type_: Any) -> str:
    return "Any" if type_ is Any else getattr(type_, "__name__", repr(type_))
