"""The kinds of values that can be added or compared: how each is read from its encoded form, and written."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, Inexact, InvalidOperation, Overflow, Rounded, Subnormal
from typing import Any, Final

import msgspec

from asyncwb.updates.formats import Format, Unreadable


class Unfit(ValueError):
    """An operation doesn't fit what is there. The text says why, without showing the value, and begins in the middle
    of a sentence, after the name of a field or "the value"."""


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A kind of values.

    Attributes:
        code: what stands for it in an entry.
        name: for messages, as "an int".
        convert: turns a decoded value into what is compared and added; raises Unfit if it isn't of this kind.
        add: adds two converted values; raises Unfit. None if nothing can be added.
        plain: turns a converted value into what is encoded.
    """

    code: str
    name: str
    convert: Callable[[Any], Any]
    add: Callable[[Any, Any], Any] | None = None
    plain: Callable[[Any], Any] = lambda value: value

    def read(self, form: Format, encoded: bytes) -> Any:
        """The value to compare and to add; raises Unfit."""
        try:
            value = form.decode(encoded)
        except Unreadable as error:
            raise Unfit(f"can't be read: {error}") from error
        return self.convert(value)

    def write(self, form: Format, value: Any) -> bytes:
        """Encodes a value that was added to; raises Unfit."""
        try:
            return form.encode(self.plain(value))
        except (ValueError, OverflowError) as error:
            most = "64 bits, which is all that msgpack has" if form.name == "msgpack" else "4,300 digits"
            raise Unfit(f"would become an int of more than {most}") from error


def kind_of_value(value: object) -> Kind | None:
    """The kind of a Python value, where no type says more; None if it can't be compared."""
    if isinstance(value, bool):
        return None
    if isinstance(value, datetime):
        return NAIVE if value.tzinfo is None else AWARE
    for types, kind in ((int | float, NUMBER), (Decimal, DECIMAL), (str, TEXT), (date, DATE)):
        if isinstance(value, types):
            return kind
    return None


def _int(value: Any) -> int:
    if type(value) is int:
        return value
    if type(value) is float:
        if value.is_integer():  # other programs write 1.0 where they mean 1
            return int(value)
        raise Unfit("holds a number with a fraction, but is an int")
    raise Unfit(f"holds {_shape(value)}, no int")


def _number(value: Any) -> int | float:
    if type(value) is int:
        return value
    if type(value) is float:
        if math.isnan(value):
            raise Unfit("holds NaN, which can't be compared or added to")
        return value
    raise Unfit(f"holds {_shape(value)}, no number")


def _add_numbers(one: float, other: float) -> int | float:
    try:
        total = one + other
    except OverflowError as error:
        raise Unfit("holds an int that is too large to add a float to") from error
    if type(total) is float and not math.isfinite(total):
        raise Unfit("would become infinite")
    return total


_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,18})?", re.ASCII)
_MOST_DIGITS: Final = 4300
"""As many as Python's own limit of the digits of an int, so that no sum takes long."""
_EXACT: Final = Context(
    prec=_MOST_DIGITS,
    Emin=MIN_EMIN,
    Emax=MAX_EMAX,
    traps=[InvalidOperation, Overflow, Inexact, Rounded, Subnormal],
)


def _decimal(value: Any) -> Decimal:
    if type(value) is int:
        return Decimal(value)
    if type(value) is float:
        raise Unfit("holds a float, which is no exact decimal number")
    if type(value) is not str or _DECIMAL.fullmatch(value) is None:
        raise Unfit(f"holds {_shape(value)}, no decimal number")
    try:
        number = Decimal(value)
    except InvalidOperation as error:
        raise Unfit("holds a decimal number whose exponent is too large") from error
    if not number.is_finite():
        raise Unfit("holds a decimal number whose exponent is too large")
    return number


def _add_decimals(one: Decimal, other: Decimal) -> Decimal:
    try:
        return _EXACT.add(one, other)
    except (InvalidOperation, Overflow, Inexact, Rounded, Subnormal) as error:
        raise Unfit(f"would become a decimal number of more than {_MOST_DIGITS} digits") from error


def _text(value: Any) -> str:
    if type(value) is str:
        return value
    raise Unfit(f"holds {_shape(value)}, no text")


def _instant(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if type(value) is str:
        try:
            return msgspec.convert(value, datetime)
        except msgspec.ValidationError:
            pass
    raise Unfit(f"holds {_shape(value)}, no datetime")


def _aware(value: Any) -> datetime:
    instant = _instant(value)
    if instant.tzinfo is None:
        raise Unfit("holds a datetime without a time zone, which can't be compared with one that has a time zone")
    return instant


def _naive(value: Any) -> datetime:
    instant = _instant(value)
    if instant.tzinfo is not None:
        raise Unfit("holds a datetime with a time zone, which can't be compared with one that has none")
    return instant


def _date(value: Any) -> date:
    if type(value) is str:
        try:
            return msgspec.convert(value, date)
        except msgspec.ValidationError:
            pass
    raise Unfit(f"holds {_shape(value)}, no date")


def _shape(value: Any) -> str:
    """What a decoded value is, in the words of JSON."""
    for types, name in _SHAPES:
        if isinstance(value, types):
            return name
    return f"a {type(value).__name__}"


_SHAPES: Final[tuple[tuple[Any, str], ...]] = (
    (bool, "true or false"),
    (type(None), "null"),
    (int, "an int"),
    (float, "a float"),
    (str, "a text"),
    (list | tuple, "a list"),
    (dict, "an object"),
    (datetime, "a datetime"),
    (bytes, "bytes"),
)


def _list(value: Any) -> list[Any]:
    if type(value) is list:
        return value
    raise Unfit(f"holds {_shape(value)}, no list")


INT: Final = Kind("i", "an int", _int, _add_numbers)
NUMBER: Final = Kind("n", "a number", _number, _add_numbers)
DECIMAL: Final = Kind("d", "a decimal number", _decimal, _add_decimals, str)
TEXT: Final = Kind("t", "a text", _text)
AWARE: Final = Kind("a", "a datetime with a time zone", _aware)
NAIVE: Final = Kind("u", "a datetime without a time zone", _naive)
DATE: Final = Kind("D", "a date", _date)
LIST: Final = Kind("l", "a list", _list)

COMPARED: Final = {kind.code: kind for kind in (INT, NUMBER, DECIMAL, TEXT, AWARE, NAIVE, DATE)}
"""Code -> kind, of those that can be compared."""
KINDS: Final = {**COMPARED, LIST.code: LIST}
"""Code -> kind."""


def shape_of(form: Format, encoded: bytes) -> str:
    """What an encoded value is, as "an int", for messages."""
    try:
        return _shape(form.decode(encoded))
    except Unreadable:
        return "something unreadable"
