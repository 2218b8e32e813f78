"""Values of worlds with updates: documents that show which changes are in them, how often, and in which order."""

from collections.abc import Iterable
from typing import Literal

import msgspec

ChangeKind = Literal["set", "update", "append", "add"]
"""`update` changes all fields but the sum, `append` the log, `add` the sum."""


class Document(msgspec.Struct):
    """A value. Every change has a number of its own.

    Attributes:
        log: the changes that were set or appended, in their order.
        sum: of the powers of 4 that were added: its digits to that base tell which, and how often.
        top, last: the highest and the latest number that was set by `set` or `update`.
    """

    log: list[int] = []
    sum: int = 0
    top: int = 0
    last: int = 0


def amount(number: int) -> int:
    """What a change of this number adds to the sum."""
    return 1 << 2 * number


def document(payload: bytes) -> Document:
    """The document that is encoded so. (Untyped JSON would take a long integer for a float.)"""
    return msgspec.json.decode(payload, type=Document)


def visible(value: Document) -> list[int]:
    """The numbers of the changes in it, as often as they are in it."""
    numbers, left, number = [*value.log], value.sum, 0
    while left:
        left, times = divmod(left, 4)
        numbers += [number] * times
        number += 1
    return numbers


def replayed(changes: Iterable[tuple[int, ChangeKind]]) -> Document:
    """What these changes make of nothing."""
    value = Document()
    for number, kind in changes:
        if kind == "set":
            value = Document([number], 0, number, number)
            continue
        if kind == "add":
            value.sum += amount(number)
        else:
            value.log.append(number)
        if kind == "update":
            value.top, value.last = max(value.top, number), number
    return value
