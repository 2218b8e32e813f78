"""Changes of one cell, which is a whole value or a field of an object: what they make of it, and of each other.

Each is a function of the cell's present value, and says apart from that what it makes of an absent one (null counts as
absent). So two in a row are one again:

- `Const` after anything leaves its own value; anything after a `Const` is worked out at once.
- `Bounded` is `v -> min(high, max(low, v + add))`, which is closed: adding moves both bounds, a maximum raises `low`, a
  minimum lowers `high`. A bound that passes the other one leaves a `Const`.
- `Extended` is `v -> (the last k of v) + items`, which is closed too.

A change that fits only some kinds of values keeps that condition (`guard`) when a `Const` follows it, so that the two
as one fail where the first alone would have failed.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from asyncwb.updates.formats import Format, Raw, Unreadable
from asyncwb.updates.kinds import LIST, Kind, Unfit


class Unfoldable(Exception):
    """Two changes in a row can't be made one without a difference for some value."""


@dataclass(frozen=True, slots=True, eq=False)
class Const:
    """Leaves a value, whatever was there.

    Attributes:
        value: the encoded value; None removes the cell.
        guard: the kind that a present value has to be of; None for any.
    """

    value: bytes | None
    guard: Kind | None = None

    def absent(self, _form: Format) -> bytes | None:
        """What becomes of an absent cell."""
        return self.value

    def present(self, form: Format, cell: bytes) -> bytes | None:
        """What becomes of a present value; raises Unfit."""
        if self.guard is not None:
            self.guard.read(form, cell)
        return self.value

    def then(self, form: Format, later: "Change") -> "Change":
        """Both changes as one; raises Unfoldable, or Unfit if the later one doesn't fit this value."""
        return Const(changed(form, later, self.value), self.guard)


class Bound:
    """A value of a kind, converted; it is encoded when that is asked for, as sums of sums usually aren't.

    Args:
        value: the converted value.
        encoded: the encoded value, if it is known; it may say the same in another way, as `Z` and `+00:00` do.
    """

    __slots__ = ("_encoded", "value")

    def __init__(self, value: Any, encoded: bytes | None = None) -> None:
        self.value = value
        self._encoded = encoded

    def encoded(self, form: Format, kind: Kind) -> bytes:
        """The encoded value; raises Unfit if it can't be encoded."""
        if self._encoded is None:
            self._encoded = kind.write(form, self.value)
        return self._encoded


class Bounded:
    """Adds to a value and keeps it between two bounds, of which `low` isn't above `high`.

    What isn't added to and lies within the bounds stays byte for byte.

    Args:
        kind: the kind of the value, and of a present one (`guard`).
        absent: what becomes of an absent cell; None in a change of the whole value, where the entry says it.
        add: what is added, None if nothing.
        low, high: the bounds.
    """

    __slots__ = ("add", "guard", "high", "initial", "low")

    def __init__(
        self, kind: Kind, absent: Bound | None, add: Any = None, low: Bound | None = None, high: Bound | None = None
    ) -> None:
        self.guard = kind
        self.initial = absent
        self.add = add
        self.low = low
        self.high = high

    def absent(self, form: Format) -> bytes | None:
        """What becomes of an absent cell; raises Unfit if it can't be encoded."""
        return None if self.initial is None else self.initial.encoded(form, self.guard)

    def present(self, form: Format, cell: bytes) -> bytes:
        """What becomes of a present value; raises Unfit."""
        return self._of(Bound(self.guard.read(form, cell), cell)).encoded(form, self.guard)

    def then(self, form: Format, later: "Change") -> "Change":
        """Both changes as one; raises Unfoldable or Unfit."""
        if isinstance(later, Const):
            return _replaced(self, later)
        kind = self.guard
        if not isinstance(later, Bounded) or later.guard is not kind:
            raise Unfoldable
        initial = None if self.initial is None else later._of(self.initial)  # noqa: SLF001 - of the same class
        add, low, high = self.add, self.low, self.high
        if later.add is not None:
            add = later.add if add is None else _sum(kind, add, later.add)
            low = None if low is None else Bound(_sum(kind, low.value, later.add))
            high = None if high is None else Bound(_sum(kind, high.value, later.add))
        # A bound of `later` that passes the other one isn't passed by another bound of `later`.
        if later.low is not None and (low is None or later.low.value > low.value):
            low = later.low
            if high is not None and low.value > high.value:
                return _settled(form, kind, low, initial)
        if later.high is not None and (high is None or later.high.value < high.value):
            high = later.high
            if low is not None and high.value < low.value:
                return _settled(form, kind, high, initial)
        return Bounded(kind, initial, add, low, high)

    def _of(self, cell: Bound) -> Bound:
        if self.add is not None:
            cell = Bound(_sum(self.guard, cell.value, self.add))
        if self.low is not None and cell.value < self.low.value:
            return self.low
        if self.high is not None and cell.value > self.high.value:
            return self.high
        return cell


@dataclass(frozen=True, slots=True, eq=False)
class Extended:
    """Appends items to the last ones of a list.

    Attributes:
        initial: the items that an absent cell gets, each encoded; None in a change of the whole value, where the entry
            says it.
        items: the items, each encoded.
        most: how many of those that were there stay, None for all.
        guard: the kind that a present value has to be of, and that this leaves.
    """

    initial: tuple[bytes, ...] | None
    items: tuple[bytes, ...]
    most: int | None = None
    guard: ClassVar[Kind] = LIST

    def absent(self, form: Format) -> bytes | None:
        """What becomes of an absent cell."""
        return None if self.initial is None else form.join(self.initial)

    def present(self, form: Format, cell: bytes) -> bytes:
        """What becomes of a present value; raises Unfit."""
        items = items_of(form, cell)
        if self.most is not None:
            items = items[max(len(items) - self.most, 0) :]
        items.extend(map(Raw, self.items))
        return form.encode(items)

    def then(self, _form: Format, later: "Change") -> "Change":
        """Both changes as one; raises Unfoldable."""
        if isinstance(later, Const):
            return _replaced(self, later)
        if not isinstance(later, Extended):
            raise Unfoldable
        most = self.most
        if later.most is not None:
            left = max(later.most - len(self.items), 0)
            most = left if most is None else min(most, left)
        initial = None if self.initial is None else later.behind(self.initial)
        return Extended(initial, later.behind(self.items), most)

    def behind(self, items: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """The items behind what stays of others."""
        if self.most is not None:
            items = items[max(len(items) - self.most, 0) :]
        return items + self.items


Change = Const | Bounded | Extended


def changed(form: Format, change: Change, cell: bytes | None) -> bytes | None:
    """What a change makes of a cell; None stands for an absent one. Raises Unfit."""
    if cell is None or form.is_nothing(cell):
        return change.absent(form)
    return change.present(form, cell)


def items_of(form: Format, cell: bytes) -> list[Raw]:
    """The items of an encoded list; raises Unfit."""
    try:
        return form.items(cell)
    except Unreadable:
        LIST.read(form, cell)  # says what it is instead
        raise Unfit("can't be read as a list") from None


def of_whole(change: Change) -> Change:
    """The same change of a whole value, where the entry says what becomes of an absent one."""
    if isinstance(change, Bounded):
        return Bounded(change.guard, None, change.add, change.low, change.high)
    return Extended(None, change.items, change.most) if isinstance(change, Extended) else change


def _replaced(former: "Bounded | Extended", later: Const) -> Const:
    if later.guard is not None and later.guard is not former.guard:
        raise Unfoldable
    return Const(later.value, former.guard)


def _settled(form: Format, kind: Kind, bound: Bound, initial: Bound | None) -> Const:
    encoded = bound.encoded(form, kind)
    if initial is not None and initial.encoded(form, kind) != encoded:
        raise Unfoldable
    return Const(encoded, kind)


def _sum(kind: Kind, one: Any, other: Any) -> Any:
    assert kind.add is not None
    return kind.add(one, other)
