"""Splits a batch into parts that fit into one request of a storage, which limits packets, documents or messages."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from asyncwb.records import Record

T = TypeVar("T")

_OVERHEAD_BYTES: Final = 64


def record_bytes(record: Record) -> int:
    """An estimate of a record's bytes in a request: those of its key and its payload, and 64 for everything else.

    If the request escapes them (such as quotes and NUL bytes in the text of a statement), they may take twice as many.
    """
    return len(record.key.encode("utf-8", "surrogatepass")) + len(record.payload) + _OVERHEAD_BYTES


def split_by_bytes(
    items: Iterable[T], most_bytes: int, *, size_of: Callable[[T], int], most_items: int | None = None
) -> Iterator[list[T]]:
    """Splits items into parts, in their order, of at most `most_bytes`; an item larger than that is a part of its own.

    Args:
        items: records, rows or keys.
        most_bytes: the most bytes that a part may have, the sum of its items' sizes.
        size_of: returns the size of an item in bytes, such as `record_bytes`.
        most_items: the most items that a part may have; None for no limit.
    """
    part: list[T] = []
    total = 0
    for item in items:
        size = size_of(item)
        if part and (total + size > most_bytes or len(part) == most_items):
            yield part
            part, total = [], 0
        part.append(item)
        total += size
    if part:
        yield part
