"""Keys of inserted values: UUIDs of version 7, which increase whatever the clock does."""

import time
import uuid

import pytest

from asyncwb.core.uuids import UUIDs, new_uuid7

MS = 1_000_000


class Clock:
    """A clock that a test sets, in milliseconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ms = 1_700_000_000_000
        monkeypatch.setattr(time, "time_ns", lambda: self.ms * MS)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def milliseconds(text: str) -> int:
    return int(uuid.UUID(text).int >> 80)


def test_bits_are_those_of_the_rfc(clock: Clock) -> None:
    made = UUIDs()
    for _ in range(1000):
        text = made.new()
        parsed = uuid.UUID(text)
        assert (str(parsed), len(text), text[14]) == (text, 36, "7")
        assert parsed.variant == uuid.RFC_4122
        assert parsed.version == 7
        assert text[19] in "89ab"
        assert milliseconds(text) == clock.ms
        clock.ms += 1


def test_example_of_the_rfc_is_made_of_its_time(clock: Clock) -> None:
    """Appendix A.6: 2022-02-22 19:22:22 UTC."""
    clock.ms = 0x017F22E279B0
    assert UUIDs().new().startswith("017f22e2-79b0-7")


def test_each_is_greater_than_all_before_it_as_text_within_a_millisecond(clock: Clock) -> None:
    made = UUIDs()
    keys = [made.new() for _ in range(20_000)]  # more than a counter of 12 bits has room for
    assert keys == sorted(set(keys))
    assert clock.ms <= milliseconds(keys[0]) <= milliseconds(keys[-1]) <= clock.ms + 6


def test_they_increase_also_when_the_clock_is_set_back(clock: Clock) -> None:
    made = UUIDs()
    keys = []
    for step in (0, 1, -3_600_000, 0, 0, 5, 3_600_000, -1, 10):
        clock.ms += step
        keys += [made.new() for _ in range(50)]
    assert keys == sorted(set(keys))
    assert milliseconds(keys[-1]) == clock.ms, "it goes by the clock again"


def test_counter_begins_at_random_in_its_lower_half(clock: Clock) -> None:
    begun = [uuid.UUID(UUIDs().new()).int >> 64 & 0xFFF for _ in range(300)]
    assert max(begun) < 2048
    assert len(set(begun)) > 100
    assert clock.ms == 1_700_000_000_000


def test_all_other_bits_are_random() -> None:
    every = (1 << 62) - 1
    ones, zeros = 0, 0
    for _ in range(300):
        bits = uuid.UUID(UUIDs().new()).int & every
        ones, zeros = ones | bits, zeros | ~bits & every
    assert ones == zeros == every


def test_time_is_that_of_now() -> None:
    before = time.time_ns() // MS
    made = milliseconds(new_uuid7())
    assert before - 1 <= made <= time.time_ns() // MS + 1
