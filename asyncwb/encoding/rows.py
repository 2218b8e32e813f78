"""Values as rows of columns: which fields a value may leave out, and what NULL means in each of them."""

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import inspect

ABSENT: Final = object()
"""Stands for "no default" in `RowField.default`."""


@dataclass(frozen=True, slots=True)
class RowField:
    """One field of a type.

    Attributes:
        nullable: whether the field may be None.
        omittable: whether an encoded value may leave it out, as Structs with `omit_defaults` do.
        default: its value if it is missing, as plain Python; `ABSENT` if it has no default.
    """

    nullable: bool
    omittable: bool
    default: Any


def fields_of(type_: Any) -> Mapping[str, RowField] | None:
    """The fields of a type by their encoded names; None if the type doesn't name its fields."""
    if hasattr(type_, "model_fields") and hasattr(type_, "__pydantic_validator__"):
        return {field.serialization_alias or name: _of_a_model(field) for name, field in type_.model_fields.items()}
    try:
        info = inspect.type_info(type_)
    except Exception:  # noqa: BLE001 - the codec has already reported a type that it can't use
        return None
    if not isinstance(info, inspect.StructType | inspect.DataclassType | inspect.TypedDictType):
        return None
    omits = isinstance(info, inspect.StructType) and info.cls.__struct_config__.omit_defaults
    return {field.encode_name: _field(field, omits=omits) for field in info.fields}


def row_value(row: Mapping[str, Any], type_: Any, fields: Mapping[str, RowField] | None) -> Any:
    """Converts a row of columns to a value of a type.

    NULL in a field that can't be None stands for its default, a column's 1 is True if the field is a bool, and so on.
    If the row doesn't fit the type even so, it is returned as a mapping, without the NULLs that stand for a default;
    decoding it will then say what is wrong. With a pydantic model it always is, and pydantic converts it later.

    Args:
        row: column -> its value as plain Python, None for NULL.
        type_: the type; Any leaves the values as they are.
        fields: the result of `fields_of(type_)`.
    """
    if fields is not None:
        row = {
            name: cell for name, cell in row.items() if cell is not None or not _stands_for_missing(fields.get(name))
        }
    if type_ is Any or hasattr(type_, "__pydantic_validator__"):
        return row
    try:
        return msgspec.convert(row, type_, strict=False)
    except (msgspec.ValidationError, TypeError, ValueError):
        return row


def _stands_for_missing(field: RowField | None) -> bool:
    return field is not None and not field.nullable and (field.omittable or field.default is not ABSENT)


def _field(field: inspect.Field, *, omits: bool) -> RowField:
    default: Any = ABSENT
    if field.default is not msgspec.NODEFAULT:
        default = msgspec.to_builtins(field.default)
    elif field.default_factory is not msgspec.NODEFAULT:
        default = msgspec.to_builtins(field.default_factory())
    # A field that is neither required nor has a default belongs to a TypedDict, or may be UNSET.
    unset = not field.required and default is ABSENT
    return RowField(_is_nullable(field.type), omittable=unset or (omits and not field.required), default=default)


def _is_nullable(type_: inspect.Type) -> bool:
    if isinstance(type_, inspect.Metadata):
        return _is_nullable(type_.type)
    if isinstance(type_, inspect.UnionType):
        return any(map(_is_nullable, type_.types))
    return isinstance(type_, inspect.NoneType | inspect.AnyType)


def _of_a_model(field: Any) -> RowField:
    nullable = field.annotation is Any or type(None) in typing.get_args(field.annotation)
    default = ABSENT if field.is_required() else field.get_default(call_default_factory=False)
    return RowField(nullable, omittable=False, default=default)
