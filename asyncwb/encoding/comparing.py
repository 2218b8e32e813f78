"""Compares a value with what is read back after encoding it, part by part, and says where they differ."""

import math
from collections.abc import Set as AbstractSet
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from asyncwb.encoding.dialect import BINARY
from asyncwb.support.plain import excerpt

_TEXTUAL: Final = (date, time, timedelta, UUID, Decimal)
"""Types whose values are encoded as text, and read back as this text unless a type says otherwise."""


def difference(value: Any, back: Any) -> str | None:
    """Why and where a value and what was read back differ; None if they are the same.

    Conversions that lose nothing aren't differences: a whole number as a float that equals it, a tuple or a set as a
    list, a date as text. Of the contents, only names of fields are shown, because values may be confidential.

    Args:
        value, back: the two as images, see `Dialect`.
    """
    reason = _difference(value, back)
    if reason is None or _difference(_sorted(value), _sorted(back)) is None:
        return None  # sets are lists here, and equal sets may be iterated in different orders
    return reason


def _difference(value: Any, back: Any) -> str | None:
    pending = [(value, back, "$")]
    while pending:
        one, other, at = pending.pop()
        if isinstance(one, dict) and isinstance(other, dict):
            if reason := _keys(one, other, at):
                return reason
            pending.extend((one[key], other[key], f"{at}.{_shown(key)}") for key in one)
        elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
            if len(one) != len(other):
                return f"{len(other)} items are read back instead of {len(one)}, at `{at}`"
            pairs = zip(one, other, strict=True)
            pending.extend((each, another, f"{at}[{number}]") for number, (each, another) in enumerate(pairs))
        elif reason := _single(one, other, at):
            return reason
    return None


def _sorted(image: Any) -> Any:
    if isinstance(image, dict):
        return {key: _sorted(each) for key, each in image.items()}
    return sorted(map(_sorted, image), key=repr) if isinstance(image, list | tuple) else image


def _keys(one: dict[Any, Any], other: dict[Any, Any], at: str) -> str | None:
    for key in one:
        if key in other:
            continue
        if isinstance(key, str):
            return f"`{at}.{_shown(key)}` is not read back"
        kind = type(key).__name__
        return (
            f"a key of type {kind} is read back as text, at `{at}`; use text, codec='msgpack', or a type that says so, "
            f"as dict[{kind}, ...]"
        )
    for key in other:
        if key not in one:
            return f"`{at}.{_shown(key)}` is read back, but isn't there"
    return None


def _single(one: Any, other: Any, at: str) -> str | None:
    if isinstance(one, Enum) and not isinstance(other, Enum):
        one = one.value
    if isinstance(one, float) and not math.isfinite(one):
        same = isinstance(other, float) and (one == other or (math.isnan(one) and math.isnan(other)))
        return None if same else f"JSON has no {one}, at `{at}`; use codec='msgpack'"
    if isinstance(one, BINARY):
        if isinstance(other, BINARY):
            return None if bytes(one) == bytes(other) else f"other bytes are read back, at `{at}`"
        return f"bytes are read back as text, at `{at}`; use codec='msgpack', or a type that says bytes"
    if _is_converted(one, other):
        return None
    if type(one) is not type(other) and not any(kind(one) and kind(other) for kind in (_is_number, _is_text)):
        return f"{type(one).__name__} is read back as {type(other).__name__}, at `{at}`"
    return None if one == other else f"another {type(one).__name__} is read back, at `{at}`"


def _is_converted(one: object, other: object) -> bool:
    if isinstance(one, AbstractSet):
        return isinstance(other, list) and len(one) == len(other)
    return isinstance(one, _TEXTUAL) and isinstance(other, str)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _shown(key: object) -> str:
    return excerpt(key)[1:-1] if isinstance(key, str) else excerpt(key)
