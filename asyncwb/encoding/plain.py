"""Dialects for what msgspec encodes (Structs, dataclasses, attrs, TypedDicts, builtin types) and for raw bytes."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec
from msgspec import inspect

from asyncwb.encoding.dialect import BINARY, Dialect

_Encode = Callable[[Any], bytes]
_Decode = Callable[[bytes], Any]
_ComesBack = Callable[[Any, bytes], bool]


def msgspec_dialect(name: Literal["json", "msgpack"], type_: Any) -> Dialect:
    """The dialect of a type that msgspec encodes.

    Raises:
        TypeError: msgspec can't decode the type.
        Exception: whatever evaluating its annotations raises.
    """
    nodes = list(_nodes(inspect.type_info(type_)))
    for node in nodes:
        if isinstance(node, inspect.CustomType) and node.cls is not object:
            raise TypeError(
                f"{node.cls.__module__}.{node.cls.__qualname__} is no class that can be decoded; there are msgspec "
                "Structs, dataclasses, attrs classes, TypedDicts, NamedTuples, pydantic models and builtin types"
            )
    encode: _Encode
    decode: _Decode
    if name == "msgpack":
        encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(type_).decode
    else:
        encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(type_).decode
    comes_back = _by_equality(decode) if all(map(_has_plain_equality, nodes)) else _by_both(encode, decode)
    raw = any(isinstance(node, inspect.RawType) for node in nodes)
    return Dialect(encode=encode, decode=decode, comes_back=comes_back, image=_image if raw else _strict_image(encode))


def raw_dialect() -> Dialect:
    """The dialect of bytes, bytearrays and memoryviews, which are stored unchanged."""
    return Dialect(encode=_encode_bytes, decode=bytes, comes_back=lambda _value, _encoded: True, image=bytes)


def _by_equality(decode: _Decode) -> _ComesBack:
    def comes_back(value: Any, encoded: bytes) -> bool:
        return bool(decode(encoded) == value)

    return comes_back


def _by_both(encode: _Encode, decode: _Decode) -> _ComesBack:
    """Compares encodings as well as values, for classes whose `==` may be true for values that differ.

    Comparing encodings alone isn't enough, because NaN is encoded as null.
    """

    def comes_back(value: Any, encoded: bytes) -> bool:
        back = decode(encoded)
        return encode(back) == encoded and bool(back == value)

    return comes_back


def _has_plain_equality(node: inspect.Type) -> bool:
    """Whether instances are equal only if they are of the same class and all their parts are equal."""
    if isinstance(node, inspect.StructType):
        return node.cls.__eq__ is msgspec.Struct.__eq__
    return not isinstance(node, inspect.DataclassType)  # a dataclass may define any equality


def _encode_bytes(value: object) -> bytes:
    if type(value) is bytes:
        return value
    if not isinstance(value, BINARY):
        raise TypeError("bytes, bytearray or memoryview expected")
    return bytes(memoryview(value))  # a subclass's own `__bytes__` is ignored


def _image(value: Any) -> Any:
    return msgspec.to_builtins(value, builtin_types=BINARY, enc_hook=_raw_bytes)


def _strict_image(encode: Callable[[Any], bytes]) -> Callable[[Any], Any]:
    """A function that makes images, and raises ValueError if two keys of a dict become one: an entry is lost then."""

    def image(value: Any) -> Any:
        plain = _image(value)
        if len(encode(plain)) != len(encode(value)):
            raise ValueError("two keys of a dict become the same text")
        return plain

    return image


def _raw_bytes(value: Any) -> bytes:
    if isinstance(value, msgspec.Raw):
        return bytes(value)
    raise NotImplementedError(type(value).__name__)


def _nodes(root: inspect.Type) -> Iterator[inspect.Type]:
    """The type and all types that it consists of, each once, because types may be recursive."""
    pending: list[Any] = [root]
    seen: set[int] = set()
    while pending:
        node = pending.pop()
        if isinstance(node, tuple):
            pending.extend(node)
        elif isinstance(node, inspect.Type | inspect.Field) and id(node) not in seen:
            seen.add(id(node))
            if isinstance(node, inspect.Type):
                yield node
            pending.extend(getattr(node, name) for name in node.__struct_fields__)
