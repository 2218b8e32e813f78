"""The newest record of each key, which storages save that can't take a key twice at once."""

import pytest

from asyncwb import InvalidArgument, Record, newest_per_key

OLD, NEW, OTHER = Record("a", 1, b"1"), Record("a", 3, b"3"), Record("b", 1, b"1", based_on=0)


def test_newest_record_of_each_key_is_left() -> None:
    assert newest_per_key([OLD, NEW, OTHER]) == newest_per_key([NEW, OTHER, OLD]) == [NEW, OTHER]
    assert newest_per_key(iter([OLD, OTHER])) == [OLD, OTHER]


@pytest.mark.parametrize("based_on", [0, 1, 2])
def test_key_that_occurs_twice_is_refused_if_one_of_its_records_may_not_apply(based_on: int) -> None:
    """If the newer one didn't apply, the older one would be missing, and count as stale."""
    newer = Record("a", 3, b"3", based_on=based_on)
    for records in ([OLD, newer, OTHER], [newer, OTHER, OLD]):
        with pytest.raises(InvalidArgument, match=f"key 'a' occurs twice in one save, once on version {based_on}"):
            newest_per_key(records)
