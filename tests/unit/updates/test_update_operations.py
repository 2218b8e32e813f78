"""Operations: small immutable values, checked when they are made."""

import copy
import enum
import pickle
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from asyncwb import UNSET, Add, Append, InvalidValue, Max, Min
from asyncwb.records import CodecName
from asyncwb.updates import Changes, apply
from tests.harness.value_types import BOTH

NOW = datetime(2026, 6, 1, tzinfo=UTC)


class Level(enum.IntEnum):
    HIGH = 2


@pytest.mark.parametrize(
    ("operation", "shown"),
    [
        (Add(), "Add(1)"),
        (Add(Decimal("0.5")), "Add(Decimal('0.5'))"),
        (Max("x"), "Max('x')"),
        (Min(-1.5), "Min(-1.5)"),
        (Append(1, "x"), "Append(1, 'x')"),
        (Append([1], keep=3), "Append([1], keep=3)"),
        (Append(), "Append()"),
        (UNSET, "UNSET"),
    ],
)
def test_operations_are_shown_as_they_are_written_and_survive_copying(operation: Any, shown: str) -> None:
    assert repr(operation) == shown
    for twin in (copy.deepcopy(operation), pickle.loads(pickle.dumps(operation))):
        assert twin == operation
        assert hash(twin) == hash(operation)
    assert pickle.loads(pickle.dumps(UNSET)) is UNSET


def test_operations_are_equal_if_they_do_the_same() -> None:
    assert Add(1) == Add() != Add(2)
    assert Add(1) != Add(1.0), "one keeps an int, the other makes a float"
    assert Max(1) != Min(1)
    assert Append(1, keep=2) != Append(1, keep=3)
    assert Append(1) != Append(1, None)
    assert Add(1) != 1
    assert len({Add(1), Add(), Max(1), Max(NOW), Append([1])}) == 4


def test_operations_are_immutable() -> None:
    operation: Any = Add(1)
    with pytest.raises(AttributeError, match="immutable"):
        operation.amount = 2
    with pytest.raises(AttributeError, match="immutable"):
        operation._parts = (2,)
    with pytest.raises(AttributeError, match="immutable"):
        del operation._parts
    with pytest.raises(AttributeError):
        operation.other = 1


def test_parts_are_plain() -> None:
    assert type(Add(Level.HIGH).amount) is int
    assert Max(NOW).value is NOW
    assert (Append(1, 2, keep=3).items, Append(1, 2, keep=3).keep) == ((1, 2), 3)
    assert Append(1).keep is None


@pytest.mark.parametrize("value", [None, b"x", [1], 1j, object(), True])
def test_what_cannot_be_compared_is_refused(value: Any) -> None:
    for operation in (Max, Min):
        with pytest.raises(InvalidValue, match=f"{operation.__name__} takes a number"):
            operation(value)


@pytest.mark.parametrize("codec", BOTH)
def test_numbers_too_long_to_be_written_are_refused(codec: CodecName) -> None:
    changes = Changes(codec)
    for operation in (Add(10**5000), Max(10**5000), Append(10**5000)):
        for change in (operation, {"a": operation}):
            with pytest.raises(InvalidValue, match="update of key 'k'"):
                changes.encode("k", change)
    assert apply(codec, None, [changes.encode("k", Add(Decimal("1e99999")))])


def test_infinite_number_may_be_a_maximum_and_is_no_amount() -> None:
    assert Max(float("inf")).value == float("inf")
    with pytest.raises(InvalidValue, match="finite"):
        Add(float("inf"))


@pytest.mark.parametrize("operation", [Add(1), Max(1), Append(1), UNSET])
@pytest.mark.parametrize("encode", [msgspec.json.encode, msgspec.msgpack.encode])
def test_no_codec_takes_an_operation_for_a_value(operation: Any, encode: Any) -> None:
    for value in (operation, [operation], {"a": operation}):
        with pytest.raises(TypeError, match="unsupported"):
            encode(value)
