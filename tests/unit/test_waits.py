"""Waits: whoever waits for a write is told by the flushers of the same process, once and for all."""

import asyncio

import pytest

from asyncwb.errors import WriteLost
from asyncwb.protocol.acknowledged import Acknowledged
from asyncwb.protocol.waits import Wait, Waits
from asyncwb.records import make_version

TWO = (make_version(2, 3), make_version(2, 4))


@pytest.fixture
def waits() -> Waits:
    return Waits(Acknowledged(100, lambda: 0.0))


def wait_for(waits: Waits, key: bytes, version: int | None) -> Wait:
    """Begins a wait; its version is None if Redis hasn't been asked yet which one it is."""
    wait = Wait(key, version, 0, asyncio.get_running_loop().create_future())
    waits.add(wait)
    return wait


async def test_save_ends_the_waits_for_its_version_and_for_earlier_ones(waits: Waits) -> None:
    earlier, same, later = (wait_for(waits, b"a", version) for version in (4, 5, 6))
    other = wait_for(waits, b"b", 5)
    waits.saved([(b"a", 5)])
    assert [each.done.done() for each in (earlier, same, later, other)] == [True, True, False, False]
    waits.saved([(b"b", 7), (b"a", 6)])
    assert later.done.done()
    assert other.done.done()


async def test_save_of_updates_ends_the_waits_for_exactly_these(waits: Waits) -> None:
    """An earlier one may have been lost or dropped before these were made."""
    waits.acknowledged.add([[(b"a", b"")]], [4])
    earlier, first, between, last, later = (wait_for(waits, b"a", version) for version in (4, 5, 6, 7, 8))
    waits.updated(b"a", [(5, 5), (7, 7)])
    assert [each.done.done() for each in (earlier, first, between, last, later)] == [False, True, False, True, False]
    assert waits.acknowledged.version_of(b"a") == 4
    waits.updated(b"a", [(3, 6)])  # folded
    assert [each.done.done() for each in (earlier, between, later)] == [True, True, False]
    assert waits.acknowledged.version_of(b"a") is None


async def test_save_that_is_told_before_the_version_is_known_is_kept_for_it(waits: Waits) -> None:
    wait = wait_for(waits, b"a", None)
    waits.saved([(b"a", 5)])
    waits.saved([(b"a", 3)])
    assert not wait.done.done(), "perhaps a later one is meant"
    assert wait.saved == 5


async def test_who_has_left_is_told_nothing_and_takes_nobody_along(waits: Waits) -> None:
    left, stays = wait_for(waits, b"a", 1), wait_for(waits, b"a", 1)
    waits.remove(left)
    waits.saved([(b"a", 1)])
    assert not left.done.done()
    assert stays.done.done()
    waits.remove(stays)
    assert [*waits] == []


async def test_waits_may_end_and_leave_while_they_are_gone_through(waits: Waits) -> None:
    for key in (b"a", b"a", b"b"):
        wait_for(waits, key, 1)
    for each in waits:
        each.end()
        waits.remove(each)
    assert [*waits] == []


async def test_first_word_counts(waits: Waits) -> None:
    saved, lost = wait_for(waits, b"a", 1), wait_for(waits, b"b", 1)
    saved.end()
    saved.end(WriteLost("it seems", keys=("a",)))
    await saved.done
    lost.end(WriteLost("told", keys=("b",)))
    waits.saved([(b"b", 1)])
    with pytest.raises(WriteLost, match="told"):
        await lost.done


async def test_save_is_no_loss_any_more_though_nobody_waits_for_it(waits: Waits) -> None:
    waits.acknowledged.add([[(b"a", b""), (b"b", b"")]], [7])
    waits.saved([(b"a", 7)])
    assert waits.acknowledged.unsaved() == {b"b": 8}


async def test_death_is_that_of_the_newest_version_that_this_process_has_written(waits: Waits) -> None:
    waits.acknowledged.add([[(b"a", b"")]], [7])
    waits.died(b"a")
    waits.died(b"of another process")
    assert waits.acknowledged.dead == {b"a": 7}


async def test_updates_confirm_no_write_of_an_earlier_epoch(waits: Waits) -> None:
    """It may have been lost in a failover before they were made."""
    lost, kept, same, later = (
        wait_for(waits, b"a", version) for version in (make_version(1, 9), make_version(1, 4), *TWO)
    )
    unknown = wait_for(waits, b"a", None)
    waits.acknowledged.add([[(b"a", b"")]], [make_version(1, 9)])
    waits.updated(b"a", [(make_version(1, 4), make_version(1, 5)), (TWO[0], TWO[0])])
    assert [each.done.done() for each in (lost, kept, same, later)] == [False, True, True, False]
    assert unknown.saved == 0, "Redis and the backend are asked"
    assert waits.acknowledged.version_of(b"a") == make_version(1, 9)
    waits.acknowledged.add([[(b"a", b"")]], [TWO[0]])
    waits.updated(b"a", [(TWO[0], TWO[0])])
    assert waits.acknowledged.version_of(b"a") is None
