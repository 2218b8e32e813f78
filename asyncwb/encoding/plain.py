"""Values that msgspec encodes: its Structs, dataclasses, attrs, TypedDicts and the builtin types; and raw bytes."""

from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import msgspec
from msgspec import inspect

from asyncwb.encoding.dialect import Dialect

_BINARY: Final = (bytes, bytearray, memoryview)


def msgspec_dialect(name: Literal["json", "msgpack"], type_: Any) -> Dialect:
    """Raises TypeError if msgspec can't decode the type, and whatever its annotations raise."""
    nodes = list(_nodes(inspect.type_info(type_)))
    for node in nodes:
        if isinstance(node, inspect.CustomType) and node.cls is not object:
            raise TypeError(
                f"{node.cls.__module__}.{node.cls.__qualname__} is no class that can be decoded; there are msgspec "
                "Structs, dataclasses, attrs classes, TypedDicts, NamedTuples, pydantic models and builtin types"
            )
    raw = any(isinstance(node, inspect.RawType) for node in nodes)
    if name == "msgpack":
        # It has bytes, keys of any type, NaN and times of its own: equal bytes are equal values.
        encode = msgspec.msgpack.Encoder().encode
        return Dialect(
            encode=encode,
            decode=msgspec.msgpack.Decoder(type_).decode,
            image=_image if raw else _strict_image(encode),
            equality=False,
            encoding=True,
        )
    encode = msgspec.json.Encoder().encode
    untyped = any(isinstance(node, inspect.AnyType | inspect.CustomType) for node in nodes)
    return Dialect(
        encode=encode,
        decode=msgspec.json.Decoder(type_).decode,
        image=_image if raw else _strict_image(encode),
        equality=untyped,
        encoding=type_ is not Any,
        # Null is also written for NaN and infinity, which JSON hasn't got.
        ambiguous=_has_null,
    )


def raw_dialect() -> Dialect:
    """Bytes, bytearrays and memoryviews as they are."""
    return Dialect(encode=_encode_bytes, decode=bytes, image=bytes, equality=False, encoding=True)


def _has_null(encoded: bytes) -> bool:
    return b"null" in encoded


def _encode_bytes(value: object) -> bytes:
    if type(value) is bytes:
        return value
    if not isinstance(value, _BINARY):
        raise TypeError("bytes, bytearray or memoryview expected")
    return bytes(memoryview(value))  # not what a subclass makes of itself


def _image(value: Any) -> Any:
    return msgspec.to_builtins(value, builtin_types=_BINARY, enc_hook=_raw_bytes)


def _strict_image(encode: Callable[[Any], bytes]) -> Callable[[Any], Any]:
    """An image, or ValueError where two keys of a dict become one: it has fewer entries than the value."""

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
    """The type and all that it consists of, each once; types may be recursive."""
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
