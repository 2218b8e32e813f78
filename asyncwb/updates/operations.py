"""What an update does to a value or to one of its fields: `Add`, `Max`, `Min`, `Append` and `UNSET`.

They are plain classes, so that no codec takes one for a value: an operation that stands where it has no meaning, as in
`set(key, Add(1))` or deep inside of a value, is refused instead of stored.
"""

import math
from datetime import date
from decimal import Decimal
from typing import Any, Final

from asyncwb.errors import InvalidValue
from asyncwb.support.plain import excerpt, plain_int, plain_number


class Operation:
    """Base of the operations. They are immutable, and equal if they do the same."""

    __slots__ = ("_parts",)

    _parts: tuple[Any, ...]

    def __init__(self, *parts: Any) -> None:
        object.__setattr__(self, "_parts", parts)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable, so {name!r} can't be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable, so {name!r} can't be deleted")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Operation) or type(self) is not type(other):
            return NotImplemented
        return self._parts == other._parts and list(map(type, self._parts)) == list(map(type, other._parts))

    def __hash__(self) -> int:
        return hash((type(self), self._parts))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._parts))})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._parts


class Add(Operation):
    """Adds a number. Where there is none yet, it begins with the default of the field, or with 0.

    Two ints are added exactly, and so are Decimals; an int and a float make a float. Folding may regroup sums of
    floats, so their last digits may differ: use Decimal or whole cents for money.

    Args:
        amount: an int, a float or a Decimal; it may be negative.

    Raises:
        InvalidValue: the amount isn't a finite number; True is no number.
    """

    __slots__ = ()

    def __init__(self, amount: float | Decimal = 1) -> None:
        number = _number(amount)
        if number is None:
            raise InvalidValue(f"Add takes an int, a float or a Decimal, not {excerpt(amount)}")
        if not _is_finite(number):
            raise InvalidValue(f"Add takes a finite number, not {excerpt(amount)}")
        super().__init__(number)

    @property
    def amount(self) -> int | float | Decimal:
        """The number to add."""
        return self._parts[0]  # type: ignore[no-any-return]


class _Extreme(Operation):
    __slots__ = ()

    def __init__(self, value: float | Decimal | str | date) -> None:
        plain = _number(value)
        if plain is None and not isinstance(value, str | date):
            raise InvalidValue(
                f"{type(self).__name__} takes a number, a Decimal, a text, a date or a datetime, not {excerpt(value)}"
            )
        if (isinstance(plain, float) and math.isnan(plain)) or (isinstance(plain, Decimal) and not plain.is_finite()):
            raise InvalidValue(f"{type(self).__name__} takes what can be compared, not {excerpt(value)}")
        super().__init__(value if plain is None else plain)

    @property
    def value(self) -> int | float | Decimal | str | date:
        """What is compared with the present value."""
        return self._parts[0]  # type: ignore[no-any-return]


class Max(_Extreme):
    """Keeps the greater of what is there and a value; where there is nothing yet, the value.

    Numbers are compared as numbers, texts by their code points, dates and datetimes as points in time. If both are
    equal, what is there stays.

    Args:
        value: an int, a float, a Decimal, a str, a date or a datetime (which includes subclasses of them).

    Raises:
        InvalidValue: it is something else, or NaN.
    """

    __slots__ = ()


class Min(_Extreme):
    """Keeps the lesser of what is there and a value, as `Max` keeps the greater one."""

    __slots__ = ()


class Append(Operation):
    """Appends items to a list; where there is none yet, to the default of the field, or to an empty list.

    Args:
        items: the items, in order. Without any, the list is only cut to `keep`.
        keep: how many items at the end of the list stay, at least 1; None keeps all.

    Raises:
        InvalidValue: `keep` isn't a positive int.
    """

    __slots__ = ()

    def __init__(self, *items: Any, keep: int | None = None) -> None:
        most = None if keep is None else plain_int(keep)
        if keep is not None and (most is None or most < 1):
            raise InvalidValue(f"keep={excerpt(keep)} is not a positive int; it is how many items stay")
        super().__init__(items, most)

    @property
    def items(self) -> tuple[Any, ...]:
        """The items to append."""
        return self._parts[0]  # type: ignore[no-any-return]

    @property
    def keep(self) -> int | None:
        """How many items at the end of the list stay, None for all."""
        return self._parts[1]  # type: ignore[no-any-return]

    def __hash__(self) -> int:
        return hash((Append, len(self.items), self.keep))  # items may be unhashable

    def __repr__(self) -> str:
        shown = [*map(repr, self.items), *([] if self.keep is None else [f"keep={self.keep}"])]
        return f"Append({', '.join(shown)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _append, (self.items, self.keep)


class UnsetType:
    """The type of `UNSET`, which removes a field.

    It isn't msgspec's UNSET: that one says "not given", so that a patch whose fields were left out would remove them.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNSET"

    def __reduce__(self) -> str:
        return "UNSET"


UNSET: Final = UnsetType()
"""Removes a field from an object."""


def _append(items: tuple[Any, ...], keep: int | None) -> Append:
    return Append(*items, keep=keep)


def _number(value: object) -> int | float | Decimal | None:
    if isinstance(value, Decimal):
        return value if type(value) is Decimal else Decimal(value)
    return plain_number(value)


def _is_finite(number: float | Decimal) -> bool:
    if isinstance(number, Decimal):
        return number.is_finite()
    return isinstance(number, int) or math.isfinite(number)
