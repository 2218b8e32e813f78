"""The decisions of the epoch handshake: which epoch will do, and which number may begin one."""

import pytest

from asyncwb.protocol.handshake import can_begin, is_acceptable, number_to_allot


@pytest.mark.parametrize(
    ("epoch", "sound", "lowest", "acceptable"),
    [(5, True, 5, True), (6, True, 5, True), (4, True, 5, False), (6, False, 5, False), (0, True, 0, True)],
)
def test_epoch_is_learnt_if_meta_is_the_servers_own_and_nothing_later_is_known(
    epoch: int, sound: bool, lowest: int, acceptable: bool
) -> None:
    assert is_acceptable(epoch, sound=sound, lowest=lowest) is acceptable


@pytest.mark.parametrize(
    ("number", "lowest", "epoch", "known", "fine"),
    [
        (0, 0, 0, 0, False),  # none was allotted
        (7, 5, 4, 6, True),
        (7, 8, 4, 6, False),  # something later is known
        (7, 5, 7, 6, False),  # the server has had it
        (7, 5, 4, 7, False),  # this client has
    ],
)
def test_number_begins_an_epoch_only_above_every_history_that_is_known(
    number: int, lowest: int, epoch: int, known: int, fine: bool
) -> None:
    assert can_begin(number, lowest=lowest, epoch=epoch, known=known) is fine


def test_number_that_is_asked_for_can_begin_an_epoch() -> None:
    for lowest, epoch in ((0, 0), (5, 3), (3, 5)):
        assert can_begin(number_to_allot(lowest=lowest, epoch=epoch), lowest=lowest, epoch=epoch, known=lowest)
