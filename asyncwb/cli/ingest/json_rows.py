"""Reads rows of JSON: an object on each line, or an array of objects."""

from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import msgspec

from asyncwb.cli.ingest.json_array import BrokenArray, elements
from asyncwb.cli.ingest.rows import LONGEST, TOO_LONG, Item, Key, malformed
from asyncwb.cli.ingest.sources import Source
from asyncwb.cli.output import plain
from asyncwb.support.plain import excerpt

_BLANKS: Final = b" \t\r\n"
_decode: Final = msgspec.json.Decoder().decode


def json_rows(source: Source, stream: BinaryIO, *, key: Key) -> Iterator[Item]:
    """Yields rows and malformed lines in order, holding one row at a time in memory.

    Rows are objects, so a square bracket at the beginning can only be that of an array of rows.
    """
    line, head = 1, stream.read(1)
    while head and head in _BLANKS:
        line += head == b"\n"
        head = stream.read(1)
    if head == b"[":
        yield from _of_array(source, stream, line, key)
    elif head:
        yield from _of_lines(source, stream, line, head, key)


def _of_array(source: Source, stream: BinaryIO, line: int, key: Key) -> Iterator[Item]:
    read = elements(stream, line=line)
    try:
        for number, text in read:
            yield _row(source, number, text, key)
    except BrokenArray as error:
        yield malformed(source.name, error.line, error)


def _of_lines(source: Source, stream: BinaryIO, number: int, head: bytes, key: Key) -> Iterator[Item]:
    line = head + stream.readline(LONGEST)
    while line:
        if len(line) > LONGEST and line[-1:] != b"\n":
            while line and line[-1:] != b"\n":
                line = stream.readline(LONGEST)
            yield malformed(source.name, number, TOO_LONG)
        elif line.strip():
            yield _row(source, number, line, key)
        line = stream.readline(LONGEST + 1)
        number += 1


def _row(source: Source, line: int, text: bytes, key: Key) -> Item:
    try:
        value: Any = _decode(text)
    except UnicodeError:
        return malformed(source.name, line, f"not {source.encoding}")
    except (msgspec.MsgspecError, RecursionError) as error:
        if str(error) == "Input data was truncated":
            why = "its JSON value isn't complete: write each object on one line, or an array of objects"
            return malformed(source.name, line, why)
        return malformed(source.name, line, plain(str(error)))
    if type(value) is not dict:
        return malformed(source.name, line, "a JSON object expected")
    for name in key.names:
        if name not in value:
            return malformed(source.name, line, f"no field {excerpt(name)}")
    return key.row(source.name, line, value)
