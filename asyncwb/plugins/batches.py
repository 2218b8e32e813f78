"""A batch in parts that a storage takes: no request longer than a packet, a document or a message may be."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from asyncwb.records import Record

T = TypeVar("T")

_OVERHEAD_BYTES: Final = 64


def record_bytes(record: Record) -> int:
    """About how many bytes a record takes in a request: its key and its payload as they are, and 64 for the rest.

    Where they are escaped on the way (quotes and NUL bytes in the text of a statement), they may take twice as many.
    """
    return len(record.key.encode("utf-8", "surrogatepass")) + len(record.payload) + _OVERHEAD_BYTES


def split_by_bytes(
    items: Iterable[T], most_bytes: int, *, size_of: Callable[[T], int], most_items: int | None = None
) -> Iterator[list[T]]:
    """The items in their order, in parts of at most `most_bytes`; one that is larger is a part of its own.

    Args:
        items: records, rows or keys.
        most_bytes: the sum of the sizes of a part, at most.
        size_of: gives the size of an item in bytes, such as `record_bytes`.
        most_items: how many items a part has, at most; None for no such bound.
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
