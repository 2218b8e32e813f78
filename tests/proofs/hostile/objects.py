"""Objects that no caller should pass as an argument, and some that look like what is expected."""

import datetime as dt
import decimal
import enum
import uuid
from collections import UserDict, UserString
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from unittest.mock import MagicMock


class Trap(Exception):
    """What the objects below raise in their own methods."""


def _raise(*_: Any, **__: Any) -> Any:
    raise Trap("an object of the caller's")


_METHODS: Final = (
    "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__bool__", "__len__", "__iter__",
    "__contains__", "__getitem__", "__index__", "__int__", "__float__", "__str__", "__repr__", "__format__", "__add__",
    "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "encode", "decode", "items", "keys", "values", "get",
)  # fmt: skip


def _trapped(name: str, *bases: type) -> type:
    """A class whose every method raises; where its base is built in, C code still knows what it is."""
    return type(name, bases, dict.fromkeys(_METHODS, _raise))


class Yes:
    """Is equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


class Pretender:
    """Says that it is of another class."""

    def __init__(self, pretended: type) -> None:
        self._pretended = pretended

    @property  # type: ignore[misc] # that is the point
    def __class__(self) -> Any:
        return self._pretended


class HalfMapping(Mapping[str, int]):
    """Fails while it is read."""

    def __getitem__(self, key: str) -> int:
        raise Trap(key)

    def __iter__(self) -> Iterator[str]:
        yield "a"

    def __len__(self) -> int:
        return 1


class Word(str):  # noqa: SLOT000 - as users write them
    """A str that isn't quite one."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = str.__hash__


class Zone(dt.tzinfo):
    """Fails when a value is encoded."""

    def utcoffset(self, when: object) -> Any:
        raise Trap("the zone")

    dst = tzname = utcoffset


class Colour(enum.StrEnum):
    FSYNC = "fsync"
    RED = "red"


class Endless(enum.IntEnum):
    ONE = 1


def _stops() -> Iterator[str]:
    yield "a"
    raise Trap("in the middle")


async def _async() -> Any:
    yield "a"


_OBJECTS: Final[list[Callable[[], Any]]] = [
    *(lambda value=value: value for value in (
        None, True, False, ..., NotImplemented,
        0, 1, -1, 2, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**62, 2**63 - 1, 2**63, 2**64, -(2**63), 10**400, -(10**400),
        10**5000, 0.0, -0.0, 0.5, 1.5, -1.0, 1e-300, 1e18, 1e300, float("nan"), float("inf"), float("-inf"), 1j,
        decimal.Decimal("1.5"), decimal.Decimal("NaN"), dt.timedelta(seconds=1), uuid.UUID(int=7),
        "", "a", "7", "-1", "memory", "fsync", "Fsync", "false", "x" * 1025, "é" * 600, "\ud800", "a\udfff", "\0",
        b"", b"a", b"\xff", (), ("a",), ("a", "b"), (1,), (None,), ("a", None), frozenset(), frozenset({"a"}), range(3),
        object, int, str, dict, Trap, len, print, Colour.FSYNC, Colour.RED, Endless.ONE, dt.date(2024, 1, 1),
    )),
    object, bytearray, lambda: bytearray(b"a"), lambda: memoryview(b"a"), list, dict, set,
    lambda: ["a"], lambda: ["a", ["b"]], lambda: [["a"]], lambda: ["a", b"b"], lambda: [None], lambda: [1],
    lambda: ["a" * 2000], lambda: {"a"}, lambda: {"a": 1}, lambda: {1: 1}, lambda: {None: 1}, lambda: {"": 1},
    lambda: {"a": None}, lambda: {"a": object()}, lambda: {"a": 1, b"b": 2}, lambda: {("a", "b"): 1},
    lambda: iter(["a"]), lambda: iter([1]), lambda: (key for key in ["a", 7]), _stops, _async,
    lambda: map(int, ["x"]), lambda: zip("ab"), lambda: UserDict(a=1), lambda: UserString("a"),
    HalfMapping, Yes, Trap, lambda: Pretender(str), lambda: Pretender(int), lambda: Pretender(dict),
    lambda: Word("a"), lambda: Word("fsync"), lambda: [Word("a"), "a"], lambda: MagicMock(spec=str), MagicMock,
    lambda: {"a": dt.datetime(2024, 1, 1, tzinfo=Zone())}, lambda: dt.datetime(2024, 1, 1, tzinfo=Zone()),
    _trapped("TrapObject", object), lambda: _trapped("TrapStr", str)("a"),
    lambda: _trapped("TrapLevel", str)("fsync"), lambda: _trapped("TrapInt", int)(2**32 + 1),
    lambda: _trapped("TrapSeconds", int)(1), lambda: _trapped("TrapFloat", float)(0.5),
    lambda: _trapped("TrapBytes", bytes)(b"a"), lambda: _trapped("TrapDict", dict)(a=1),
    lambda: _trapped("TrapList", list)(["a"]), lambda: [_trapped("TrapKey", str)("a")],
    lambda: _trapped("TrapTuple", tuple)(("a",)), lambda: _trapped("TrapSet", set)({"a"}),
]  # fmt: skip


def nasty() -> Iterator[Any]:
    """Each of them, made anew: generators are used up."""
    for make in _OBJECTS:
        yield make()


def name_of(thing: object) -> str:
    """For messages: many of them have no `repr`."""
    try:
        return f"{type(thing).__name__} {repr(thing)[:60]}"
    except Exception:
        return type(thing).__name__
