"""Records as they are packed in Redis."""

from asyncwb import Record
from asyncwb.protocol.body import record_of


def test_record_of_a_body_is_what_a_put_makes() -> None:
    assert record_of("a", 7, b"pj1") == Record("a", 7, b"1", codec="json")
    assert record_of("a", 7, b"dj") == Record("a", 7, deleted=True)
