"""One part of a type's values that an operation changes, the whole value or a field: what it takes, and its default."""

from decimal import Decimal
from enum import Enum
from functools import cached_property
from typing import Any

import msgspec

from asyncwb.codecs import Codec
from asyncwb.errors import AsyncwbError, InvalidValue
from asyncwb.support.plain import excerpt
from asyncwb.updates.cells import Bounded
from asyncwb.updates.fields import Field
from asyncwb.updates.formats import FORMATS, Format
from asyncwb.updates.operations import Operation, UnsetType
from asyncwb.updates.types import decodable, is_anything, item_of, members


class Part:
    """What operations may do to a part of a type's values.

    Args:
        codec: encodes the whole values.
        field: the field; a whole value is one without a name.

    Attributes:
        additions: changes that add an int to this part, kept by their amounts.
    """

    def __init__(self, codec: Codec[Any], field: Field) -> None:
        self.form: Format = FORMATS[codec.name]
        self.field = field
        self._codec = codec
        self._members = members(field.annotation, field.metadata)
        self.is_anything = is_anything(field.annotation)
        self._fixed: bytes | None = None
        self.additions: dict[int, Bounded] = {}

    @cached_property
    def _own(self) -> Codec[Any]:
        """A codec of this part alone."""
        annotation = decodable(self.field.annotation)
        try:
            return self._codec.part(Any if self.is_anything else annotation, field=self.field.model)
        except AsyncwbError as error:
            raise InvalidValue(f"can't be changed by itself: {error}") from error

    @cached_property
    def _item(self) -> Codec[Any]:
        return self._codec.part(self._items)

    @cached_property
    def _items(self) -> Any:
        """The type of the items, if this may be a list; None if it can't."""
        if self.is_anything:
            return Any
        found = [item for item in map(item_of, self._members) if item is not None]
        return found[0] if len(found) == 1 else None

    def holds(self, kind: type) -> bool:
        """Whether values of this part may be of this class (int, float or Decimal; bool is no int)."""
        return self.is_anything or any(member.plain is kind for member in self._members)

    def constraint(self, *names: str) -> tuple[str, Any] | None:
        """The first of these constraints that there is, and its bound."""
        for member in self._members:
            for name in names:
                if name in member.constraints:
                    return name, member.constraints[name]
        return None

    def encode(self, value: Any) -> bytes:
        """Encodes a value of this part. Raises InvalidValue, beginning in the middle of a sentence."""
        if value is msgspec.UNSET:
            raise InvalidValue("doesn't take msgspec's UNSET; leave the field out, or remove it with asyncwb.UNSET")
        own = self._own
        try:
            return own.encode(value)
        except InvalidValue as error:
            raise InvalidValue(f"doesn't take this {type(value).__name__}: {error}") from error

    def typed(self, value: Any) -> tuple[Any, bytes]:
        """Returns a value of this part as what it is read back as, and its encoding; raises InvalidValue.

        A whole number in a field of floats is a float then, and the text of a datetime is a datetime.
        """
        encoded = self.encode(value)
        if self.is_anything:
            return value, encoded
        try:
            typed = self._own.decode(encoded)
        except AsyncwbError as error:  # unchecked values are encoded whatever they are
            raise InvalidValue(f"doesn't take this {type(value).__name__}: {error}") from error
        if isinstance(typed, Enum):
            typed = typed.value
        if type(typed) is not type(value) and isinstance(typed, float | Decimal):
            encoded = self.encode(typed)
        return typed, encoded

    def check(self, encoded: bytes) -> None:
        """Raises InvalidValue if this isn't a value of this part, for instance because a constraint forbids it."""
        try:
            self._own.decode(encoded)
        except AsyncwbError as error:
            raise InvalidValue(f"doesn't take what it would begin with: {error}") from error

    def items(self, items: tuple[Any, ...]) -> tuple[bytes, ...]:
        """Encodes items of a list; raises InvalidValue."""
        if self._items is None:
            raise InvalidValue(f"is {self.shown}, and items are appended to lists")
        for item in items:
            if isinstance(item, Operation | UnsetType):
                raise InvalidValue(f"takes no {excerpt(item)} as an item")
        try:
            return tuple(map(self._item.encode, items))
        except InvalidValue as error:
            raise InvalidValue(f"doesn't take one of the items: {error}") from error

    @property
    def shown(self) -> str:
        """The type, for messages."""
        annotation = self.field.annotation
        return annotation.__name__ if isinstance(annotation, type) else str(annotation).removeprefix("typing.")

    def default(self) -> bytes | None:
        """The field's default, encoded; None if it has none, or the default is None."""
        if self.field.default is None:
            return None
        if self._fixed is not None:
            return self._fixed
        try:
            value = self.field.default()
        except Exception as error:  # the code of the type
            raise InvalidValue(f"has a default that can't be made: {error}") from error
        if value is None or value is msgspec.UNSET:
            return None
        try:
            encoded = self.encode(value)
        except InvalidValue as error:
            raise InvalidValue(f"has a default that isn't a value of its type: {error}") from error
        if self.field.fixed:
            self._fixed = encoded
        return encoded
