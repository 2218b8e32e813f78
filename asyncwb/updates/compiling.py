"""Turns operations into changes of a part of a type's values, and refuses what can't be applied to such values."""

from decimal import Decimal
from typing import Any, Final

from asyncwb.errors import InvalidValue
from asyncwb.support.plain import excerpt
from asyncwb.updates.cells import Bound, Bounded, Change, Const, Extended, changed, items_of
from asyncwb.updates.kinds import DECIMAL, INT, NUMBER, Kind, Unfit, kind_of_value
from asyncwb.updates.operations import Add, Append, Max, Min, UnsetType
from asyncwb.updates.part import Part


def change_of(part: Part, operation: Any) -> Change:
    """The change that an operation makes of a part; a plain value is set.

    Raises:
        InvalidValue: values of this part can't take it. The text begins in the middle of a sentence, after the part.
    """
    if isinstance(operation, Add):
        return _add(part, operation.amount)
    if isinstance(operation, Max | Min):
        return _extreme(part, operation)
    if isinstance(operation, Append):
        return _append(part, operation)
    if isinstance(operation, UnsetType):
        if not part.field.removable:
            why = "is required" if part.field.required else "can't be None or missing"
            raise InvalidValue(f"{why}, so UNSET can't remove it; set a value")
        return Const(None)
    return Const(part.encode(operation))


_MOST_KEPT: Final = 64
"""How many changes a part keeps: counters are added to by the same few amounts, over and over."""


_LONGEST_LIST: Final = 2**32
"""No list has more items, so keeping more of them is keeping all."""


def _add(part: Part, amount: float | Decimal) -> Bounded:
    if type(amount) is not int:  # True == 1 == 1.0
        return _addition(part, amount)
    change = part.additions.get(amount)
    if change is None:
        change = _addition(part, amount)
        if len(part.additions) < _MOST_KEPT and (part.field.default is None or part.field.fixed):
            part.additions[amount] = change
    return change


def _addition(part: Part, amount: float | Decimal) -> Bounded:
    kind, number = _addend(part, amount)
    _check_limits(part, number)
    default = part.default()
    try:
        initial = number if default is None else _total(kind, kind.read(part.form, default), number)
        begun = Bound(initial, kind.write(part.form, initial))
    except Unfit as error:
        raise InvalidValue(f"can't take {excerpt(Add(amount))}: it {error}") from error
    if not part.field.required:  # else nothing has to begin here, but where a row is broken already
        part.check(begun.encoded(part.form, kind))
    return Bounded(kind, begun, number)


def _addend(part: Part, amount: float | Decimal) -> tuple[Kind, Any]:
    """The kind of numbers that an amount is added to, and the amount as one of them."""
    ints, floats, decimals = part.holds(int), part.holds(float), part.holds(Decimal)
    if isinstance(amount, Decimal):
        if decimals:
            return DECIMAL, amount
        if ints or floats:
            raise InvalidValue(f"is {part.shown}, and a Decimal is added to Decimals only; use an int or a float")
    elif isinstance(amount, int):
        if ints:
            return (NUMBER if floats else INT), amount
        if floats:
            return NUMBER, _float(amount)
        if decimals:
            return DECIMAL, Decimal(amount)
    else:
        if floats:
            return NUMBER, amount
        if ints:
            raise InvalidValue(f"is {part.shown}, and {excerpt(Add(amount))} would make it a float")
        if decimals:
            raise InvalidValue(f"is {part.shown}, and a float is no exact decimal number; use Decimal({str(amount)!r})")
    raise InvalidValue(f"is {part.shown}, and numbers are added to numbers only")


def _float(number: int) -> float:
    try:
        return float(number)
    except OverflowError as error:
        raise InvalidValue("is a float, and the int to add is too large for one") from error


def _check_limits(part: Part, amount: Any) -> None:
    """Refuses an amount that may lead out of what the type allows, whatever the present value is."""
    limit = None
    if amount < 0:
        limit = part.constraint("ge", "gt")
    elif amount > 0:
        limit = part.constraint("le", "lt")
    step = part.constraint("multiple_of")
    if limit is None and step is not None and not _is_multiple(amount, step[1]):
        limit = step
    places = part.constraint("decimal_places")
    if limit is None and places is not None and isinstance(amount, Decimal):
        exponent = amount.as_tuple().exponent
        if isinstance(exponent, int) and -exponent > places[1]:
            limit = places
    if limit is not None:
        name, bound = limit
        raise InvalidValue(
            f"has to keep {name}={bound}, and {excerpt(Add(amount))} may break that; read the value and set a new one "
            "with expected=, so that it is checked"
        )


def _is_multiple(amount: Any, step: Any) -> bool:
    try:
        return not amount % step
    except (ArithmeticError, TypeError, ValueError):  # a Decimal of many digits, or a Decimal and a float
        return False


def _extreme(part: Part, operation: Max | Min) -> Bounded:
    typed, encoded = part.typed(operation.value)
    kind = _kind_of(part, typed)
    form = part.form
    if kind is DECIMAL and isinstance(operation.value, float):
        raise InvalidValue(f"is {part.shown}, and a float is no exact decimal number; use a Decimal")
    try:
        bound = Bound(kind.read(form, encoded), encoded)
        low, high = (bound, None) if isinstance(operation, Max) else (None, bound)
        change = Bounded(kind, bound, None, low, high)
        default = part.default()
        if default is not None:
            initial = changed(form, change, default)
            assert initial is not None
            change = Bounded(kind, Bound(kind.read(form, initial), initial), None, low, high)
    except Unfit as error:
        raise InvalidValue(f"can't take {type(operation).__name__}, since what is stored {error}") from error
    return change


def _kind_of(part: Part, typed: Any) -> Kind:
    kind = kind_of_value(typed)
    if kind is None:
        raise InvalidValue(f"is {part.shown}, and that is no number, text, date or datetime")
    if kind is NUMBER and isinstance(typed, int) and not part.holds(float):
        return INT if part.holds(int) else NUMBER
    return kind


def _append(part: Part, operation: Append) -> Extended:
    form, keep = part.form, operation.keep
    items = part.items(operation.items if keep is None else operation.items[-keep:])
    longest, shortest = part.constraint("max_length"), part.constraint("min_length")
    if longest is not None and (keep is None or keep > longest[1]):
        raise InvalidValue(f"has at most {longest[1]} items; append with keep={longest[1]} or less")
    if shortest is not None and keep is not None and keep < shortest[1]:
        raise InvalidValue(f"has at least {shortest[1]} items, and keep={keep} may leave fewer")
    most = None if keep is None or keep > _LONGEST_LIST else max(keep - len(operation.items), 0)
    change = Extended(None, items, most)
    default = part.default()
    try:
        begun = () if default is None else tuple(map(bytes, items_of(form, default)))
    except Unfit as error:
        raise InvalidValue(f"can't take Append, since its default {error}") from error
    initial = change.behind(begun)
    if not part.field.required:
        part.check(form.join(initial))
    return Extended(initial, items, change.most)


def _total(kind: Kind, one: Any, other: Any) -> Any:
    assert kind.add is not None
    return kind.add(one, other)
