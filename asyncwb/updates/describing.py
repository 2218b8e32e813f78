"""Shows entries of updates to people."""

from typing import Any, Final

import msgspec

from asyncwb.updates.cells import Bounded, Change, Const
from asyncwb.updates.entry import MalformedEntry, format_of, parse
from asyncwb.updates.formats import Format, Unreadable

_LONGEST: Final = 80


def describe(codec: str, payload: bytes) -> str:
    """One line that says what an entry does, as `visits + 3, last_seen max "2026-11-27T10:00:00Z"; if absent: nothing`.

    It shows parts of values, cut if they are long; names and values are JSON where they need quotes. Bytes that are no
    entry are said to be unreadable, and why.

    Args:
        codec: the namespace's codec.
        payload: what `Changes.encode` or `fold` made.
    """
    try:
        form = format_of(codec)
        entry = parse(form, payload)
    except MalformedEntry as error:
        return f"unreadable ({len(payload)} bytes): {error}"
    if isinstance(entry.changes, dict):
        parts = [f"{_name(name)} {_change(form, change)}" for name, change in entry.changes.items()]
        what = ", ".join(parts) or "changes no field"
    else:
        what = f"value {_change(form, entry.changes)}"
    absent = "nothing" if entry.absent is None else _shown(form, entry.absent)
    return f"{what}; if absent: {absent}"


def _change(form: Format, change: Change) -> str:
    if isinstance(change, Const):
        return "removed" if change.value is None else f"= {_shown(form, change.value)}"
    if isinstance(change, Bounded):
        steps = []
        if change.add is not None:
            amount = str(change.add)  # its text, since abs() would round a Decimal
            steps.append(f"- {_cut(amount[1:])}" if amount.startswith("-") else f"+ {_cut(amount)}")
        for name, bound in (("max", change.low), ("min", change.high)):
            if bound is not None:
                steps.append(f"{name} {_shown(form, bound.encoded(form, change.guard))}")
        return " then ".join(steps) or "unchanged"
    items = f"append [{_cut(', '.join(_shown(form, item) for item in change.items))}]"
    return items if change.most is None else f"{items} keep {change.most + len(change.items)}"


def _name(name: str) -> str:
    return name if name.replace("_", "").isalnum() else _cut(msgspec.json.encode(name).decode())


def _shown(form: Format, encoded: bytes) -> str:
    try:
        value: Any = form.decode(encoded)
        return _cut(msgspec.json.encode(value).decode())
    except (Unreadable, ValueError, TypeError, OverflowError, RecursionError):
        return f"<{len(encoded)} bytes>"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
