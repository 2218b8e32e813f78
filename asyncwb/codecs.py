"""Codecs turn values into bytes and back: JSON (the default), msgpack or bytes, with types from msgspec or pydantic."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final, Generic, TypeVar, cast, get_args

import msgspec

from asyncwb.encoding import (
    Dialect,
    RowField,
    difference,
    fields_of,
    msgspec_dialect,
    pydantic_dialect,
    raw_dialect,
    row_value,
    uses_pydantic,
)
from asyncwb.errors import ConfigurationError, DecodeError, InvalidValue
from asyncwb.records import CodecName
from asyncwb.settings import check_choice
from asyncwb.support.foreign import is_exit
from asyncwb.support.plain import excerpt

T = TypeVar("T")


class Codec(Generic[T]):
    """Encodes values of one type.

    Args:
        name: "json", "msgpack" or "bytes".
        type: what `decode` returns and checks: a msgspec Struct, a dataclass, an attrs class, a TypedDict, a pydantic
            model, any builtin type, or a union of them.
        check: whether `encode` checks that the value would be read back unchanged.

    Raises:
        ConfigurationError: values of this type can't be encoded and decoded.
    """

    def __init__(self, name: CodecName = "json", type: Any = Any, *, check: bool = True) -> None:  # noqa: A002 - msgspec's word
        self.name: CodecName = cast("CodecName", check_choice("codec", name, get_args(CodecName)))
        self.type = type
        self._check = check
        self._takes_none = False
        self._use(_dialect(self.name, type))

    def _use(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._encode, self._decode, self._comes_back = dialect.encode, dialect.decode, dialect.comes_back

    def part(self, type: Any, *, field: tuple[Any, str] | None = None) -> "Codec[Any]":  # noqa: A002 - msgspec's word
        """A codec of what is stored inside of this codec's values: a field, or an item of a list. It takes None, too.

        It encodes as this one does, also where a codec of its own would use another library for the type.

        Args:
            type: the type of the part.
            field: the pydantic model or dataclass that the part is a field of, and the field's Python name.

        Raises:
            ConfigurationError: values of this type can't be encoded and decoded.
        """
        part: Codec[Any] = Codec(self.name, check=self._check)
        part.type = type
        part._takes_none = True
        part._pydantic = self._pydantic  # parts of the part, too
        part._use(_dialect(self.name, type, pydantic=self._pydantic, field=field))
        return part

    def encode(self, value: T) -> bytes:
        """Encodes a value; raises `InvalidValue` if it can't be encoded, or would not be read back unchanged."""
        if value is None and not self._takes_none:
            raise InvalidValue("None can't be stored, since it means absence; use delete()")
        try:
            encoded = self._encode(value)
        except BaseException as error:
            if is_exit(error):
                raise
            # The value's own code, such as that of a `tzinfo`, may raise anything. Nothing is awaited in it, so a
            # CancelledError can only be its own.
            kind = type(value).__name__
            hint = f"; name it, as in type={kind}" if self.type is Any and uses_pydantic(type(value)) else ""
            raise InvalidValue(f"codec {self.name!r} can't encode a {kind}: {error}{hint}") from error
        try:
            if not self._check or self._comes_back(value, encoded):
                return encoded
            reason = difference(self._dialect.image(value), self._dialect.image(self._decode(encoded)))
        except BaseException as error:
            if is_exit(error):
                raise
            raise InvalidValue(f"it could not be read back as {_type_name(self.type)}: {error}") from error
        if reason is not None:
            raise InvalidValue(f"it would not be read back as it is: {reason}")
        return encoded

    def decode(self, payload: bytes) -> T:
        """Decodes a value; raises `DecodeError` if the bytes aren't a value of this codec and type."""
        try:
            return cast("T", self._decode(payload))
        except BaseException as error:
            if is_exit(error):
                raise
            raise DecodeError(
                f"the stored bytes are not a {self.name} value of type {_type_name(self.type)}: {error}"
            ) from error

    @cached_property
    def _pydantic(self) -> bool:
        return uses_pydantic(self.type)

    @cached_property
    def fields(self) -> Mapping[str, RowField] | None:
        """The type's fields by their encoded names, for stores of columns; None if the type names no fields."""
        return fields_of(self.type)

    def encode_row(self, row: Mapping[str, Any]) -> bytes:
        """Encodes a row that a store of columns has read.

        If the codec has a type, the row is converted to it: NULL in a field that can't be None becomes its default, 1
        becomes True if the field is a bool, and so on. A row that doesn't fit the type even so is encoded as it is, so
        that the reader's `DecodeError` says what is wrong.

        Args:
            row: field -> its value as plain Python, None for NULL.

        Raises:
            ConfigurationError: the codec is "bytes", which has no fields.
        """
        return _ROW_ENCODERS[self.name](row_value(row, self.type, self.fields))


def _no_rows(_: object) -> bytes:
    raise ConfigurationError("codec 'bytes' has no fields; use json or msgpack for a store of columns")


_ROW_ENCODERS: Final[dict[CodecName, Callable[[Any], bytes]]] = {
    "json": msgspec.json.encode,
    "msgpack": msgspec.msgpack.encode,
    "bytes": _no_rows,
}


def _dialect(
    name: CodecName, type_: Any, *, pydantic: bool | None = None, field: tuple[Any, str] | None = None
) -> Dialect:
    if name == "bytes":
        if type_ is not Any and type_ is not bytes:
            raise ConfigurationError(f"codec='bytes' holds bytes, not type={excerpt(type_)}; use 'json' or 'msgpack'")
        return raw_dialect()
    try:
        if uses_pydantic(type_) if pydantic is None else pydantic:
            return pydantic_dialect(name, type_, field=field)
        return msgspec_dialect(name, type_)
    except Exception as error:  # for example NameError for an annotation that names something undefined
        raise ConfigurationError(f"type={excerpt(type_)} can't be used by codec {name!r}: {error}") from error


def _type_name(type_: Any) -> str:
    return type_.__name__ if isinstance(type_, type) else excerpt(type_).removeprefix("typing.")
