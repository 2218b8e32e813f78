"""What the readers of all formats yield: rows with their keys, and malformed lines."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from asyncwb.core.userkeys import raw_key
from asyncwb.core.uuids import new_uuid7
from asyncwb.errors import AsyncwbError, ConfigurationError, InvalidKey
from asyncwb.support.plain import excerpt

LONGEST: Final = 64 * 2**20
"""The longest line, and the longest row of several lines, in bytes of JSON or characters of CSV; it bounds memory."""

TOO_LONG: Final = "longer than 64 MiB"

_SEPARATOR: Final = ":"
_ESCAPES: Final = str.maketrans({"\\": "\\\\", _SEPARATOR: f"\\{_SEPARATOR}"})


class MalformedLine(AsyncwbError):
    """A line that can't be ingested; the message begins with the file and the line's number."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """One row: its file's name for messages, the number of its first line (from 1), its key, and its value."""

    file: str
    line: int
    key: str
    value: dict[str, Any]


Item = Row | MalformedLine


def malformed(file: str, line: int, why: object) -> MalformedLine:
    """Makes a malformed line; `file` is the file's name for messages."""
    return MalformedLine(f"{file}, line {line}: {why}")


@dataclass(frozen=True, slots=True)
class Key:
    """The columns or fields that hold the key.

    The key of one column is its text. The key of several columns is their texts, none of which may be empty, joined
    with colons; a colon or backslash in a text is escaped with a backslash, so that rows with different texts never
    share a key.

    Without any column, each row gets a new key: a UUID of version 7, greater than those before it.
    """

    names: tuple[str, ...] = ()

    @classmethod
    def from_option(cls, text: str) -> "Key":
        """Parses names separated by commas; a name that contains a comma is put in double quotes.

        Raises:
            ConfigurationError: it can't be parsed, or a name is empty or occurs twice.
        """
        return cls(names_of("--key", text))

    def row(self, file: str, line: int, value: dict[str, Any]) -> Item:
        """Makes a row, or a malformed line if its key isn't valid; `value` has to have every field of the key."""
        if not self.names:
            return Row(file, line, new_uuid7(), value)
        try:
            key = self._of(value)
            raw_key(key)
        except (ValueError, InvalidKey) as error:
            return malformed(file, line, error)
        return Row(file, line, key, value)

    def _of(self, value: Mapping[str, Any]) -> str:
        if len(self.names) == 1:
            return _text(self.names[0], value)
        parts = [_text(name, value) for name in self.names]
        if not all(parts):
            empty = self.names[parts.index("")]
            raise ValueError(f"field {excerpt(empty)} is empty, and it is a part of the key")
        return _SEPARATOR.join(part.translate(_ESCAPES) for part in parts)


def _text(name: str, fields: Mapping[str, Any]) -> str:
    value = fields[name]
    if type(value) is str:
        return value
    if type(value) is not int:
        raise ValueError(f"field {excerpt(name)} has to be a string or a whole number to be a key")
    return str(value)


def names_of(option: str, text: str) -> tuple[str, ...]:
    """Parses names of columns, separated by commas; a name that contains a comma is put in double quotes.

    Raises:
        ConfigurationError: they can't be parsed, or a name is empty or occurs twice.
    """
    try:
        (names,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError) as error:
        raise ConfigurationError(f"{option} {excerpt(text)} can't be read: {error}") from error
    if not names or not all(names) or len(set(names)) != len(names):
        raise ConfigurationError(
            f"{option} {excerpt(text)}: name one column or several, as in {option} id or {option} a,b"
        )
    return tuple(names)


def named(names: Sequence[str], *, most: int = 30) -> str:
    """Lists names of columns for a message: escaped, since they come from a file, and at most `most` of them."""
    return ", ".join(map(excerpt, names[:most])) + (", …" if len(names) > most else "")
