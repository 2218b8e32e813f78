"""Records: what one may be based on, and what shows of that."""

import pytest

from asyncwb import InvalidArgument, Record
from asyncwb.records import make_version


@pytest.mark.parametrize("based_on", [0, 1, 6])
def test_record_may_be_based_on_any_version_below_its_own(based_on: int) -> None:
    assert Record("k", 7, b"1", based_on=based_on).based_on == based_on


@pytest.mark.parametrize("based_on", [-1, 7, 8])
def test_record_based_on_what_cannot_come_before_it_is_refused(based_on: int) -> None:
    with pytest.raises(InvalidArgument, match=f"key 'k': version 7 can't be based on version {based_on}:"):
        Record("k", 7, deleted=True, based_on=based_on)


def test_what_a_record_is_based_on_makes_it_another_and_shows() -> None:
    plain, first = Record("k", make_version(1, 5), b"1"), Record("k", make_version(1, 5), b"1", based_on=0)
    assert plain != first != Record("k", make_version(1, 5), b"1", based_on=make_version(1, 4))
    assert repr(plain) == "Record('k', 1.5, json, 1 bytes)"
    assert repr(Record("k", make_version(1, 5), deleted=True, based_on=make_version(1, 4))) == (
        "Record('k', 1.5 on 1.4, deleted)"
    )
