"""Checks of the arguments that users pass, other than keys, before they join a batch shared with other callers."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from asyncwb.errors import InvalidArgument
from asyncwb.records import MAX_EPOCH, MAX_SEQ, Version, make_version
from asyncwb.support.plain import excerpt, plain_int, plain_number

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
