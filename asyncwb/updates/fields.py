"""The fields of a type that updates can name: their encoded names, types and defaults."""

import dataclasses
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import inspect

from asyncwb.updates.types import bare, is_anything, is_nullable, key_and_value_of, members, substituted


class NoFields(ValueError):
    """Values of a type have no fields that an update can name; the text says why."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a type.

    Attributes:
        encoded: its name in the encoded value.
        annotation: its type.
        metadata: what else was said of its type.
        required: whether a value has to have it.
        removable: whether a value may be without it: it isn't required, and may be None or missing.
        default: makes its default value; None if it has none.
        fixed: whether the default is the same each time.
        model: the pydantic model or dataclass that it belongs to, and its name there; None if it belongs to neither.
    """

    encoded: str
    annotation: Any
    metadata: tuple[Any, ...] = ()
    required: bool = False
    removable: bool = True
    default: Callable[[], Any] | None = None
    fixed: bool = False
    model: tuple[type, str] | None = None


@dataclass(frozen=True, slots=True)
class AnyFields:
    """Values may have any fields, as a dict has.

    Attributes:
        annotation: the type of each.
    """

    annotation: Any


def fields_of(annotation: Any) -> Mapping[str, Field] | AnyFields:
    """The fields of a type by their Python names.

    Raises:
        NoFields: it has none, or none that can be changed one by one.
    """
    if is_anything(annotation):
        return AnyFields(Any)
    several = members(annotation)
    if len(several) != 1:
        raise NoFields("the type is a union, and which fields there are depends on what is stored")
    member = several[0]
    pair = key_and_value_of(member)
    if pair is not None:
        if bare(pair[0]) not in (str, Any):
            raise NoFields(f"the keys of the type are {_name(pair[0])}, and fields are named by str")
        return AnyFields(pair[1])
    for fields in (_of_a_model, _of_a_struct, _of_a_class):
        found = fields(member.base)
        if found is not None:
            return found
    raise NoFields(f"values of type {_name(member.base)} have no fields")


def _of_a_model(type_: Any) -> Mapping[str, Field] | None:
    cls = typing.get_origin(type_) or type_
    infos = getattr(cls, "__pydantic_fields__", None) or getattr(cls, "model_fields", None)
    if infos is None:
        return None
    return {name: _model_field(cls, name, info) for name, info in infos.items() if not info.exclude}


def _model_field(cls: type, name: str, info: Any) -> Field:
    required = info.is_required()
    return Field(
        encoded=info.serialization_alias or name,
        annotation=info.annotation,
        metadata=tuple(info.metadata),
        required=required,
        removable=not required and is_nullable(info.annotation),
        default=None if required else lambda: info.get_default(call_default_factory=True),
        fixed=info.default_factory is None,
        model=(cls, name),
    )


def _of_a_struct(type_: Any) -> Mapping[str, Field] | None:
    cls = typing.get_origin(type_) or type_
    if not (isinstance(cls, type) and issubclass(cls, msgspec.Struct)):
        return None
    config = cls.__struct_config__
    if config.array_like:
        raise NoFields(f"{_name(cls)} is array_like, so what is stored has no names of fields")
    return {
        each.name: _field(each.encode_name, each.type, each, required=each.required, omits=config.omit_defaults)
        for each in msgspec.structs.fields(type_)
    }


def _of_a_class(type_: Any) -> Mapping[str, Field] | None:
    """The fields of a dataclass, an attrs class or a TypedDict."""
    cls = typing.get_origin(type_) or type_
    if not (dataclasses.is_dataclass(cls) or hasattr(cls, "__attrs_attrs__") or typing.is_typeddict(cls)):
        return None
    info = inspect.type_info(type_)
    if not isinstance(info, inspect.DataclassType | inspect.TypedDictType):
        return None
    hints = typing.get_type_hints(cls, include_extras=True)
    return {
        each.name: _field(each.encode_name, substituted(hints[each.name], type_), each, required=each.required)
        for each in info.fields
    }


def _field(encoded: str, annotation: Any, info: Any, *, required: bool, omits: bool = False) -> Field:
    default: Callable[[], Any] | None = None
    if info.default_factory is not msgspec.NODEFAULT:
        default = info.default_factory
    elif info.default is not msgspec.NODEFAULT and info.default is not msgspec.UNSET:
        default = _constant(info.default)
    # One that is neither required nor has a default belongs to a TypedDict, or may be UNSET in a Struct.
    omittable = not required and (omits or default is None)
    removable = not required and (omittable or is_nullable(annotation))
    fixed = info.default_factory is msgspec.NODEFAULT
    return Field(encoded, annotation, required=required, removable=removable, default=default, fixed=fixed)


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value


def _name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).removeprefix("typing.")
