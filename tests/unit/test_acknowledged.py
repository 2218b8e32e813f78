"""Acknowledged: what this process has written and not seen saved, in bounded memory."""

from asyncwb.protocol.acknowledged import Acknowledged
from asyncwb.records import make_version


def acknowledged(most: int = 100) -> Acknowledged:
    return Acknowledged(most, lambda: 0.0)


def put(to: Acknowledged, first: int, *keys: bytes) -> None:
    to.add([[(key, b"")] for key in keys], range(first, first + len(keys)))


def test_what_is_saved_is_forgotten_and_what_was_written_since_is_not() -> None:
    known = acknowledged()
    put(known, 1, b"a", b"b")
    put(known, 3, b"a")
    known.saved([(b"a", 1), (b"b", 2)])
    assert known.unsaved() == {b"a": 3}
    known.saved([(b"a", 3)])
    assert known.unsaved() == {}


def test_answers_in_the_other_order_leave_the_newest() -> None:
    known = acknowledged()
    put(known, 5, b"a")
    put(known, 3, b"a", b"b")
    assert known.unsaved() == {b"a": 5, b"b": 4}


def test_groups_that_were_refused_were_not_acknowledged() -> None:
    known = acknowledged()
    known.add([[(b"a", b""), (b"b", b"")], [(b"c", b"")], [(b"d", b"")]], [7, RuntimeError(), 9])
    assert known.unsaved() == {b"a": 7, b"b": 8, b"d": 9}


def test_of_more_than_is_remembered_the_number_is_kept() -> None:
    known = acknowledged(10)
    first = make_version(3, 1)
    for number in range(25):
        put(known, first + number, b"%d" % number)
    assert len(known.unsaved()) <= 10
    assert b"24" in known.unsaved()
    assert sum(known.forgotten.values()) + len(known.unsaved()) == 25
    assert known.forgotten.keys() == {3}


def test_loss_that_was_told_is_told_again_only_after_another_write() -> None:
    known = acknowledged()
    put(known, 1, b"a", b"b")
    known.tell_lost([b"a"])
    assert known.unsaved() == {b"b": 2}
    assert known.version_of(b"a") == 1, "a flush still knows it"
    put(known, 3, b"a")
    assert known.unsaved() == {b"b": 2, b"a": 3}


def test_loss_that_was_told_is_remembered_no_longer_than_its_write() -> None:
    known = acknowledged(10)
    put(known, 1, b"a", b"b")
    known.tell_lost([b"a", b"b"])
    known.saved([(b"a", 1)])
    for number in range(3, 30):
        put(known, number, b"%d" % number)
    assert known._told == set()
    assert sum(known.forgotten.values()) + len(known.unsaved()) == 27, "what was told isn't told again as forgotten"


def test_age_of_a_version_is_known_about() -> None:
    now = 0.0
    known = Acknowledged(10, lambda: now)
    put(known, 1, b"a")
    now = 1800.0
    put(known, 2, b"b")
    assert not known.is_old(1)
    now = 3700.0
    assert known.is_old(1)
    assert not known.is_old(2)
    now = 7300.0
    put(known, 3, b"c")
    assert known.is_old(2)
    assert not known.is_old(3)


def test_save_of_an_older_version_is_not_that_of_the_newest() -> None:
    known = acknowledged()
    put(known, 5, b"a")
    known.saved([(b"a", 4), (b"never written here", 9)])
    assert known.unsaved() == {b"a": 5}
    assert known.version_of(b"a") == 5
    assert known.version_of(b"never written here") is None


def test_key_that_is_written_all_the_time_is_neither_forgotten_nor_counted() -> None:
    known = acknowledged(10)
    for number in range(1, 100, 2):
        put(known, number, b"hot", b"%d" % number)
    assert known.unsaved()[b"hot"] == 99
    assert sum(known.forgotten.values()) + len(known.unsaved()) == 51, "50 other keys, and this one"


def test_write_that_is_saved_is_not_among_the_forgotten() -> None:
    known = acknowledged(10)
    for number in range(1, 100):
        put(known, number, b"%d" % number)
        known.saved([(b"%d" % number, number)])
    assert not known.unsaved()
    assert not known.forgotten


def test_newest_dead_letter_of_a_key_is_known() -> None:
    known = acknowledged()
    known.note_dead(b"a", 7)
    known.note_dead(b"a", 5)
    known.note_dead(b"b", 6)
    assert known.dead == {b"a": 7, b"b": 6}


def test_dead_letters_take_no_more_memory_than_writes() -> None:
    known = acknowledged(10)
    for number in range(100):
        known.note_dead(b"%d" % number, number)
        assert len(known.dead) <= 10
        assert b"%d" % number in known.dead
