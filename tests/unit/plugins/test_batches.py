"""A batch is split where a storage takes no more at once."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from asyncwb import Record
from asyncwb.plugins import record_bytes, split_by_bytes


@given(st.lists(st.integers(0, 20)), st.integers(1, 30), st.none() | st.integers(1, 4))
def test_parts_keep_order_and_bounds_and_are_as_few_as_they_can_be(
    sizes: list[int], most_bytes: int, most_items: int | None
) -> None:
    parts = list(split_by_bytes(sizes, most_bytes, size_of=int, most_items=most_items))
    assert [size for part in parts for size in part] == sizes
    for part in parts:
        assert part
        assert sum(part) <= most_bytes or len(part) == 1
        assert most_items is None or len(part) <= most_items
    for part, following in itertools.pairwise(parts):
        assert sum(part) + following[0] > most_bytes or len(part) == most_items


def test_record_counts_with_the_bytes_of_its_key() -> None:
    assert record_bytes(Record("é" * 100, 1, b"x" * 1000)) == 200 + 1000 + 64
    assert record_bytes(Record("\ud800", 1, deleted=True)) == 3 + 64
