"""The dialect for values that pydantic validates: its models and dataclasses, alone or as parts of other types."""

import dataclasses
import typing
from typing import Any, Literal

import msgspec

from asyncwb.encoding.dialect import Dialect
from asyncwb.encoding.pydantic_fields import FieldAdapter


def uses_pydantic(type_: Any) -> bool:
    """Whether a type is pydantic's, or has parts that are, such as members of a union, items, or dataclass fields."""
    return _uses_pydantic(type_, set())


def pydantic_dialect(name: Literal["json", "msgpack"], type_: Any, *, field: tuple[Any, str] | None = None) -> Dialect:
    """The dialect of a type that pydantic validates, or of a field of a model.

    Values pass through pydantic's JSON in both codecs, so that strict models accept what they have written. Raises
    whatever pydantic raises if it can't make a schema of the type.

    Args:
        name: the codec.
        type_: the type.
        field: the model or pydantic dataclass that the values are a field of, and the field's Python name; None if
            they are no field.
    """
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - optional; anybody with a model has it

    adapter: TypeAdapter[Any] | FieldAdapter = TypeAdapter(type_) if field is None else FieldAdapter(*field)

    def encode(value: Any) -> bytes:
        # `round_trip` leaves out computed fields. Warnings are off, since reading the value back reveals a wrong type.
        encoded = adapter.dump_json(value, by_alias=True, round_trip=True, warnings=False)
        if b"NaN" in encoded or b"Infinity" in encoded:
            # This raises unless they only occur in texts: JSON has no such numbers, and no backend takes them.
            msgspec.json.decode(encoded)
        return encoded

    def decode(payload: bytes) -> Any:
        try:
            return adapter.validate_json(payload)
        except ValidationError as error:
            reason = _reason(error.errors(include_url=False, include_context=False, include_input=False))
        # Raised outside of the handler, so that pydantic's own message, which quotes the value, isn't the context.
        raise ValueError(reason)

    def pack(value: Any) -> bytes:
        return msgspec.msgpack.encode(msgspec.json.decode(encode(value)))

    def unpack(payload: bytes) -> Any:
        return decode(msgspec.json.encode(msgspec.msgpack.decode(payload)))

    def image(value: Any) -> Any:
        # `serialize_as_any` includes fields that a subclass adds. They aren't encoded, so the comparison finds them.
        return adapter.dump_python(value, by_alias=True, round_trip=True, warnings=False, serialize_as_any=True)

    reads, writes = (decode, encode) if name == "json" else (unpack, pack)

    def comes_back(value: Any, encoded: bytes) -> bool:
        return bool(reads(encoded) == value)

    return Dialect(encode=writes, decode=reads, comes_back=comes_back, image=image)


def _reason(errors: list[Any]) -> str:
    """The first of pydantic's errors, in the wording of msgspec's errors, and the number of further ones."""
    first = errors[0]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
    return f"{first['msg']} - at `${path}`{more}"


def _uses_pydantic(type_: Any, seen: set[int]) -> bool:
    if id(type_) in seen:
        return False
    seen.add(id(type_))
    if hasattr(type_, "__pydantic_validator__") or type(type_).__module__.partition(".")[0] == "pydantic":
        return True
    parts = [*typing.get_args(type_), *getattr(type_, "__metadata__", ())]
    if hasattr(type_, "__value__"):  # an alias made by a `type` statement
        parts.append(type_.__value__)
    if isinstance(type_, type) and (dataclasses.is_dataclass(type_) or typing.is_typeddict(type_)):
        parts.extend(typing.get_type_hints(type_, include_extras=True).values())
    return any(_uses_pydantic(part, seen) for part in parts)
