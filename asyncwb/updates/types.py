"""What the annotation of a value or a field allows: the members of a union, and their constraints."""

import collections
import types
import typing
from collections import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, Union

import msgspec

_NAMES: Final = ("gt", "ge", "lt", "le", "multiple_of", "decimal_places", "min_length", "max_length")
_UNIONS: Final = (Union, types.UnionType)
_LISTS: Final = (list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable, collections.deque)
_MAPPINGS: Final = (dict, abc.Mapping, abc.MutableMapping, collections.defaultdict, collections.OrderedDict)
_QUALIFIERS: Final = frozenset({"Required", "NotRequired", "ReadOnly", "Final"})


@dataclass(frozen=True, slots=True)
class Member:
    """One of the types that a union consists of, or the only one.

    Attributes:
        base: the type without what `Annotated` adds.
        constraints: what `Annotated` says, as `ge` -> 0; the names are those of msgspec and annotated-types.
    """

    base: Any
    constraints: dict[str, Any]

    @property
    def plain(self) -> Any:
        """The class, where the type is one or has parameters; the type itself otherwise."""
        return typing.get_origin(self.base) or self.base


def members(annotation: Any, metadata: tuple[Any, ...] = ()) -> tuple[Member, ...]:
    """The members of an annotation, without None; unions within unions, and pydantic's RootModels, are resolved.

    Args:
        annotation: any annotation.
        metadata: what was said of it elsewhere, as pydantic's `Field` does.
    """
    return tuple(_members(annotation, metadata))


def is_nullable(annotation: Any) -> bool:
    """Whether None is a value of the annotation."""
    annotation = bare(annotation)
    if annotation in (Any, None, type(None), object):
        return True
    return typing.get_origin(annotation) in _UNIONS and any(map(is_nullable, typing.get_args(annotation)))


def bare(annotation: Any) -> Any:
    """The annotation without the names of aliases, qualifiers of a TypedDict, and what `Annotated` adds."""
    while True:
        inner = _inner(annotation)
        if inner is None:
            return annotation
        annotation = inner


def decodable(annotation: Any) -> Any:
    """The annotation of a field as that of a value: without qualifiers, and without msgspec's "may be missing"."""
    while _is_qualified(annotation):
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) in _UNIONS and msgspec.UnsetType in typing.get_args(annotation):
        return Union[tuple(each for each in typing.get_args(annotation) if each is not msgspec.UnsetType)]  # noqa: UP007
    return annotation


def is_anything(annotation: Any) -> bool:
    """Whether the annotation says nothing about values."""
    return bare(annotation) in (Any, object)


def item_of(member: Member) -> Any:
    """The annotation of the items, if the member is a list of any length; None if it isn't."""
    arguments = typing.get_args(member.base)
    if member.plain in _LISTS:
        return arguments[0] if arguments else Any
    if member.plain is tuple:
        if not arguments:
            return Any
        return arguments[0] if len(arguments) == 2 and arguments[1] is Ellipsis else None
    return None


def key_and_value_of(member: Member) -> tuple[Any, Any] | None:
    """The annotations of keys and values, if the member is a mapping; None if it isn't."""
    if member.plain not in _MAPPINGS:
        return None
    arguments = typing.get_args(member.base)
    return (arguments[0], arguments[1]) if len(arguments) == 2 else (Any, Any)


def substituted(annotation: Any, generic: Any) -> Any:
    """An annotation of a generic class, with the parameters that `generic` (as `Box[int]`) gives."""
    origin = typing.get_origin(generic)
    given = dict(zip(getattr(origin, "__parameters__", ()), typing.get_args(generic), strict=False))
    if isinstance(annotation, typing.TypeVar):
        return given.get(annotation, annotation)
    parameters = getattr(annotation, "__parameters__", ())
    return annotation[tuple(given.get(each, each) for each in parameters)] if given and parameters else annotation


def _members(annotation: Any, metadata: tuple[Any, ...]) -> Iterator[Member]:
    if typing.get_origin(annotation) is Annotated:
        yield from _members(typing.get_args(annotation)[0], (*metadata, *annotation.__metadata__))
    elif (inner := _inner(annotation)) is not None:
        yield from _members(inner, metadata)
    elif getattr(annotation, "__pydantic_root_model__", False):
        root = annotation.model_fields["root"]
        yield from _members(root.annotation, (*metadata, *root.metadata))
    elif typing.get_origin(annotation) in _UNIONS:
        for each in typing.get_args(annotation):
            yield from _members(each, metadata)
    elif annotation not in (None, type(None), msgspec.UnsetType):
        yield Member(annotation, _constraints(metadata))


def _inner(annotation: Any) -> Any:
    if typing.get_origin(annotation) is Annotated or _is_qualified(annotation):
        return typing.get_args(annotation)[0]
    if isinstance(annotation, typing.TypeVar):
        return annotation.__bound__ or Any
    for name in ("__value__", "__supertype__"):  # an alias made by a `type` statement; a NewType
        if hasattr(annotation, name):
            return getattr(annotation, name)
    return None


def _is_qualified(annotation: Any) -> bool:
    return getattr(typing.get_origin(annotation), "_name", None) in _QUALIFIERS


def _constraints(metadata: tuple[Any, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in metadata:
        for one in (each, *getattr(each, "metadata", ())):  # pydantic's Field has further ones in it
            found.update({name: getattr(one, name) for name in _NAMES if getattr(one, name, None) is not None})
    return found
