"""Checks of the arguments that users pass, other than keys, before they join a batch shared with other callers."""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final

from asyncwb.errors import InvalidArgument, InvalidValue
from asyncwb.records import MAX_EPOCH, MAX_SEQ, Version, make_version
from asyncwb.support.plain import excerpt, plain_int, plain_number, plain_str

_LOWEST: Final = make_version(1, 1)
_HIGHEST: Final = make_version(MAX_EPOCH, MAX_SEQ)

_FOREVER_SECONDS: Final = 1e9
"""Longer timeouts count as none: no wait lasts as long, and event loops can't handle much more."""


def checked_version(version: object) -> Version | None:
    """Returns the version as a plain int, or None for None.

    Raises:
        InvalidArgument: it isn't a version that `set` or `delete` could have returned.
    """
    if version is None:
        return None
    number = plain_int(version)
    if number is None or not _LOWEST <= number <= _HIGHEST:
        raise InvalidArgument(f"version={excerpt(version)}: pass what set() or delete() returned")
    return number


class AnyVersion(Enum):
    """The default of `expected`: whatever version the key has. (None means that it has to be absent.)"""

    ANY_VERSION = "any version"

    def __repr__(self) -> str:
        return "ANY_VERSION"


ANY_VERSION: Final = AnyVersion.ANY_VERSION


def checked_expected(expected: object) -> Version | AnyVersion | None:
    """Returns the expected version as a plain int, None for absence, or `ANY_VERSION`.

    Raises:
        InvalidArgument: it isn't a version that `get_versioned`, `set` or `delete` could have returned. 0 is one: a row
            that was there before asyncwb has it.
    """
    if expected is None or isinstance(expected, AnyVersion):
        return expected
    number = plain_int(expected)
    if number is None or not (number == 0 or _LOWEST <= number <= _HIGHEST):
        raise InvalidArgument(
            f"expected={excerpt(expected)}: pass a version that get_versioned() or a write returned, or None if the "
            "key has to be absent"
        )
    return number


def checked_timeout(timeout: object) -> float | None:
    """Returns a timeout in seconds, or None for no limit; 1e9 seconds and more count as none.

    Raises:
        InvalidArgument: it isn't a number, or it is negative or NaN.
    """
    if timeout is None:
        return None
    seconds = plain_number(timeout)
    if seconds is None or not seconds >= 0:
        raise InvalidArgument(f"timeout={excerpt(timeout)}: pass a number of seconds, 0 or more, or None")
    return seconds if seconds < _FOREVER_SECONDS else None


def checked_flag(name: str, value: object) -> bool:
    """Returns the flag; raises `InvalidArgument` unless it is True or False: the text "false" would count as true."""
    if value is True or value is False:
        return value
    raise InvalidArgument(f"{name}={excerpt(value)}: pass True or False")


def checked_field(field: object) -> str | None:
    """Returns the name of a field as a plain str, or None for the whole value; raises `InvalidValue` otherwise."""
    name = plain_str(field)
    if name is None and field is not None:
        raise InvalidValue(f"field={excerpt(field)}: pass the name of a field, or None for the whole value")
    return name


def checked_items(values: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Returns the keys and values of a mapping.

    Raises:
        InvalidArgument: it isn't a mapping, or reading it failed.
    """
    if not isinstance(values, Mapping):
        raise InvalidArgument(f"a mapping of keys to values expected, not {excerpt(values)}")
    try:
        return [(key, value) for key, value in values.items()]
    except Exception as error:
        raise InvalidArgument(f"reading the mapping of keys to values failed: {excerpt(error)}") from error


def checked_values(values: Iterable[Any]) -> list[Any]:
    """Returns several values as a list.

    Raises:
        InvalidArgument: it isn't iterable, iterating over it failed, or it is a text or a mapping, whose items would be
            taken for values.
    """
    if isinstance(values, str | bytes | bytearray | Mapping):
        raise InvalidArgument(f"several values expected, not the single {type(values).__name__} {excerpt(values)}")
    try:
        return list(values)
    except Exception as error:
        raise InvalidArgument(
            f"several values expected, but iterating over {excerpt(values)} failed: {excerpt(error)}"
        ) from error
