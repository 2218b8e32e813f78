"""Reads rows of CSV."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal

from asyncwb.cli.ingest.fieldtypes import Types
from asyncwb.cli.ingest.modes import Mode
from asyncwb.cli.ingest.rows import LONGEST, TOO_LONG, Item, Key, malformed, named
from asyncwb.cli.ingest.sources import Source
from asyncwb.cli.output import plain
from asyncwb.errors import ConfigurationError
from asyncwb.support.plain import excerpt

_NAMES: Final = {",": "','", ";": "';'", "\t": "tab", "|": "'|'"}
"""Common delimiters, and how to write each for the option in a shell."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """The characters that separate and quote fields; `quotechar` is None if fields aren't quoted."""

    delimiter: str = ","
    quotechar: str | None = '"'

    def reader(self, lines: Iterator[str]) -> Iterator[list[str]]:
        """Returns a reader of rows, which is strict: it raises csv.Error for malformed rows rather than guess."""
        quoting: Literal[0, 3] = csv.QUOTE_NONE if self.quotechar is None else csv.QUOTE_MINIMAL
        return csv.reader(lines, delimiter=self.delimiter, quotechar=self.quotechar, quoting=quoting, strict=True)


def csv_rows(
    source: Source, stream: BinaryIO, *, key: Key, dialect: Dialect, types: Types, mode: Mode
) -> Iterator[Item]:
    """Yields rows and malformed lines in order, holding one row at a time in memory.

    Raises:
        ConfigurationError: the header can't be read, or lacks a column of the key, of the types or of the mode.
    """
    csv.field_size_limit(LONGEST)
    # Bytes that aren't UTF-8 become lone surrogates, so that only their row is malformed.
    lines = _Lines(io.TextIOWrapper(stream, "utf-8", errors="surrogateescape", newline=""))
    reader = dialect.reader(lines)
    header = _header(source, reader, lines, key, dialect)
    if header is None:
        return
    converters = types.converters(source.name, header, mode)
    width = len(header)
    while True:
        line = lines.begin_row()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except (csv.Error, _TooLong) as error:
            yield malformed(source.name, line, plain(str(error)))
            continue
        if not fields:
            continue
        if len(fields) != width:
            yield malformed(source.name, line, f"{len(fields)} fields, but the header has {width}")
            continue
        if not is_unicode("".join(fields)):
            yield malformed(source.name, line, f"not {source.encoding}")
            continue
        try:
            for at, convert in converters:
                fields[at] = convert(fields[at])
        except ValueError as error:
            yield malformed(source.name, line, error)
            continue
        yield key.row(source.name, line, dict(zip(header, fields, strict=True)))


def is_unicode(text: str) -> bool:
    """Whether the text has no lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _TooLong(Exception):
    """A row that is too long to be held in memory."""


class _Lines:
    """Iterates over the lines of a text, counts them, and limits the length of lines and rows.

    Attributes:
        first: the first line that isn't blank, used to guess what is wrong with the header.
    """

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._readline = text.readline
        self._number = 0
        self._size = 0
        self.first = ""

    def begin_row(self) -> int:
        """Starts a new row; returns the number of its first line."""
        self._size = 0
        return self._number + 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._readline(LONGEST + 1)
        if not line:
            raise StopIteration
        self._number += 1
        self._size += len(line)
        if self._size > LONGEST:
            if len(line) <= LONGEST:
                raise _TooLong(f"its row is {TOO_LONG}: is a quote not closed?")
            while line and line[-1] not in "\r\n":
                line = self._readline(LONGEST)
            raise _TooLong(TOO_LONG)
        if not self.first:
            self.first = line.strip("\r\n")
        return line


def _header(source: Source, reader: Iterator[list[str]], lines: _Lines, key: Key, dialect: Dialect) -> list[str] | None:
    """Returns the names of the columns, or None if the file has no rows at all. Raises ConfigurationError."""
    file, encoding = source.name, source.encoding
    lines.begin_row()
    try:
        header = next((fields for fields in reader if fields), None)
    except (csv.Error, _TooLong) as error:
        hint = _hint(lines.first, key, dialect, width=1)
        raise ConfigurationError(f"{file}: the header is not valid CSV: {plain(str(error))}{hint}") from error
    if header is None:
        return None
    text = "".join(header)
    if "\0" in text:
        raise ConfigurationError(
            f"{file}: the header has a NUL character: it is binary, or in another encoding (try --encoding utf-16)"
        )
    if not is_unicode(text):
        hint = "" if encoding != "UTF-8" else ", as in --encoding windows-1252"
        raise ConfigurationError(f"{file}: the header isn't {encoding}: name the encoding of the file{hint}")
    if missing := [name for name in key.names if name not in header]:
        hint = _hint(lines.first, key, dialect, width=len(header))
        raise ConfigurationError(
            f"{file}: no column {excerpt(missing[0])} in the header; there are {named(header)}{hint}"
        )
    if len(set(header)) != len(header):
        raise ConfigurationError(f"{file}: the header names a column twice: {named(header)}")
    return header


def _hint(line: str, key: Key, dialect: Dialect, *, width: int) -> str:
    """Returns a hint at the delimiter that the header seems to have, or "" if that isn't a different one."""
    best, most = "", width
    for delimiter in _NAMES:
        try:
            (fields,) = Dialect(delimiter, dialect.quotechar).reader(iter([line]))
        except (csv.Error, ValueError, TypeError):  # TypeError: the delimiter is the quotechar
            continue
        if key.names and all(name in fields for name in key.names):
            best = delimiter
            break
        if len(fields) > most and width == 1:
            best, most = delimiter, len(fields)
    if not best or best == dialect.delimiter:
        return ""
    return f". It looks as if it were separated by {_NAMES[best]}: try --delimiter {_NAMES[best]}"
