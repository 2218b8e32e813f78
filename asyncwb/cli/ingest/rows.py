"""What every format gives: rows with their keys, and lines that can't be rows."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from asyncwb.core.userkeys import raw_key
from asyncwb.errors import AsyncwbError, ConfigurationError, InvalidKey
from asyncwb.support.plain import excerpt

LONGEST: Final = 64 * 2**20
"""Of a line, and of a row of several lines: bytes of JSON, characters of CSV. So memory is bounded, whatever comes."""

TOO_LONG: Final = "longer than 64 MiB"

_SEPARATOR: Final = ":"
_ESCAPES: Final = str.maketrans({"\\": "\\\\", _SEPARATOR: f"\\{_SEPARATOR}"})


class MalformedLine(AsyncwbError):
    """A line that can't be ingested; the message begins with the file and the line's number."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """One row: its file as messages call it, the number of its first line (from 1), its key, and its value."""

    file: str
    line: int
    key: str
    value: dict[str, Any]


Item = Row | MalformedLine


def malformed(file: str, line: int, why: object) -> MalformedLine:
    """A malformed line of a file, which is called as messages call it."""
    return MalformedLine(f"{file}, line {line}: {why}")


@dataclass(frozen=True, slots=True)
class Key:
    """The columns or fields that hold the key.

    The key of one column is its text. Of several columns it is their texts, none of them empty, with a colon between
    them; a colon or backslash in a text has a backslash before it, so that no two rows with other parts share a key.
    """

    names: tuple[str, ...]

    @classmethod
    def from_option(cls, text: str) -> "Key":
        """From names with commas between them; a name that has a comma itself is put in double quotes.

        Raises:
            ConfigurationError: there is an empty name, or one occurs twice.
        """
        try:
            (names,) = csv.reader([text], strict=True)
        except (csv.Error, ValueError) as error:
            raise ConfigurationError(f"--key {excerpt(text)} can't be read: {error}") from error
        if not names or not all(names) or len(set(names)) != len(names):
            raise ConfigurationError(f"--key {excerpt(text)}: name one column or several, as in --key id or --key a,b")
        return cls(tuple(names))

    def row(self, file: str, line: int, value: dict[str, Any]) -> Item:
        """The row, if its key is one. Every name has to be a field of the value."""
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


def named(names: Sequence[str], *, most: int = 30) -> str:
    """Names of columns in a message: escaped, as they come from a file, and not all of them if they are many."""
    return ", ".join(map(excerpt, names[:most])) + (", …" if len(names) > most else "")
