"""The decisions about records with entries, each by an example."""

import pytest

from tests.proofs.model.records import (
    NOTHING,
    Content,
    Decision,
    Pending,
    appended,
    decide,
    foldable,
    folded,
    trimmed,
    work_out,
)

PUT, ONE, TWO, THREE = 0x102, 0x104, 0x106, 0x108
LATER = 0x202
TOMBSTONE = 0x103


def test_update_of_nothing_has_no_base() -> None:
    assert appended(0, (), (ONE,)) == Pending(0, ((ONE,),))


def test_update_of_a_put_has_it_for_its_base_and_leaves_the_note() -> None:
    once = appended(PUT, (), (ONE,))
    assert once == Pending(PUT, ((ONE,),))
    assert appended(ONE, once._replace(noted=1), (TWO,)) == Pending(PUT, ((ONE,), (TWO,)), 1)


@pytest.mark.parametrize(
    ("pending", "held", "content", "result"),
    [
        (Pending(0, ((ONE,), (TWO,))), 0, NOTHING, (0, ONE, TWO)),
        (Pending(0, ((ONE,), (TWO,))), ONE, (0, ONE), (0, ONE, TWO)),
        (Pending(PUT, ((ONE,),)), 0, NOTHING, (PUT, ONE)),
        (Pending(PUT, ((ONE,), (TWO,))), ONE, (PUT, ONE), (PUT, ONE, TWO)),
        (Pending(PUT, ((LATER,),)), TWO, (PUT, ONE, TWO), (PUT, ONE, TWO, LATER)),
        (Pending(0, ((ONE, TWO),)), 0, NOTHING, (0, ONE, TWO)),
        (Pending(0, ((ONE, TWO),)), ONE, (0, ONE), None),
        (Pending(PUT, ((ONE, TWO),)), 0, NOTHING, (PUT, ONE, TWO)),
    ],
)
def test_record_is_worked_out_over_what_the_backend_holds(
    pending: Pending, held: int, content: Content, result: Content | None
) -> None:
    assert work_out(pending, held, content) == result


def test_trim_leaves_what_is_not_saved_and_moves_the_note() -> None:
    pending = Pending(PUT, ((ONE,), (TWO,), (THREE,)), 2)
    assert trimmed(pending, ONE) == Pending(0, ((TWO,), (THREE,)), 1)
    assert trimmed(pending, THREE) == ()


def test_trim_leaves_all_of_what_was_put_since() -> None:
    pending = Pending(TWO, ((THREE,),))
    assert trimmed(pending, ONE) == pending


def test_only_neighbours_behind_the_note_and_of_one_epoch_are_folded() -> None:
    entries = ((ONE,), (TWO,), (THREE,), (LATER,))
    assert foldable(Pending(0, entries, 1)) == [(1, ((TWO,), (THREE,)))]


def test_fold_changes_exactly_what_it_has_read_or_nothing() -> None:
    pending = Pending(0, ((ONE,), (TWO,), (THREE,)))
    assert folded(pending, 1, ((TWO,), (THREE,))) == Pending(0, ((ONE,), (TWO, THREE)))
    assert folded(pending, 0, ((TWO,), (THREE,))) is pending
    noted = pending._replace(noted=2)
    assert folded(noted, 1, ((TWO,), (THREE,))) is noted


@pytest.mark.parametrize(
    ("record", "token", "expected", "named", "newest", "decision"),
    [
        (ONE, 0, ONE, 0, 0, Decision.WRITE),
        (TWO, 0, ONE, 0, 0, Decision.MISMATCH),
        (TOMBSTONE, 0, 0, 0, 0, Decision.WRITE),
        (ONE, 0, 0, 0, 0, Decision.MISMATCH),
        (0, 0, 0, 0, 0, Decision.AGAIN),
        (0, THREE, 0, THREE, 0, Decision.WRITE),
        (0, THREE, ONE, THREE, ONE, Decision.WRITE),
        (0, THREE, 0, THREE, ONE, Decision.MISMATCH),
        (0, THREE, 0, TWO, 0, Decision.AGAIN),
    ],
)
def test_conditional_write_is_decided_by_the_record_or_behind_a_token(
    record: int, token: int, expected: int, named: int, newest: int, decision: Decision
) -> None:
    assert decide(record, 1, token, expected=expected, named=named, newest=newest) == decision


def test_record_and_token_of_another_epoch_decide_nothing() -> None:
    assert decide(ONE, 2, THREE, expected=ONE, named=THREE, newest=ONE) == Decision.AGAIN
