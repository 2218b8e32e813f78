"""The elements of a JSON array, one after the other, without the array in memory.

Only where an element ends is found here, by its brackets and strings; what it says is up to the decoder of JSON Lines.
So an element that is malformed inside is one malformed row, its line is known, and its values are those that it had on
a line of its own. Libraries that stream JSON know no lines, and can't go on after a malformed element.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO, Final

from asyncwb.cli.ingest.rows import LONGEST, TOO_LONG

_BLOCK: Final = 128 * 1024

# Possessive: never tried again in another way, so that the time is proportional to the length.
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_TO_BRACKET: Final = re.compile(rb'[^"\[\]{}]*+(?:' + _STRING + rb'[^"\[\]{}]*+)*+[\[\]{}]', re.DOTALL)
_WHOLE_STRING: Final = re.compile(_STRING, re.DOTALL)
_SCALAR: Final = re.compile(rb"[^\s,\]\[{}\"]++(?=[\s,\]\[{}\"])")
_BLANKS: Final = re.compile(rb"[ \t\r\n]*+")
_CUT_OFF: Final = "the array isn't closed: is the file cut off?"


class BrokenArray(Exception):
    """It isn't an array from here on, or what comes can't be told; `line` is where."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line


def elements(stream: BinaryIO, *, line: int) -> Iterator[tuple[int, bytes]]:
    """Each element as it is written, with the number of the line where it begins.

    Args:
        stream: what comes after the opening bracket.
        line: the number of the line of that.

    Raises:
        BrokenArray: the end is missing, something else than a comma is between two elements, something comes after
            the end, or an element is too long.
    """
    text = _Text(stream, line)
    if text.next_is(b"]"):
        _nothing_more(text)
        return
    while True:
        yield text.element()
        if text.next_is(b"]"):
            break
        if not text.next_is(b","):
            raise BrokenArray(text.line, "a comma or the end of the array expected" if text.peek() else _CUT_OFF)
        if text.peek() == b"]":
            raise BrokenArray(text.line, "a comma before the end of the array")
    _nothing_more(text)


def _nothing_more(text: "_Text") -> None:
    if text.peek():
        raise BrokenArray(text.line, "there is more after the end of the array")


class _Text:
    """What was read and not yet taken; `line` is the number of the line of the next character."""

    def __init__(self, stream: BinaryIO, line: int) -> None:
        self._read = stream.read1  # type: ignore[attr-defined] # of every buffered stream
        self._text = b""
        self._at = 0
        self.line = line

    def peek(self) -> bytes:
        """The next character that isn't blank; empty at the end."""
        while (found := self._text[self._at : self._at + 1]) <= b" ":
            blanks = _BLANKS.match(self._text, self._at)
            assert blanks is not None
            if blanks.end() > self._at:
                self._take(blanks.end())
            elif found or not self._more():
                break
        return found

    def next_is(self, character: bytes) -> bool:
        """Takes it if it is."""
        if self.peek() != character:
            return False
        self._at += 1
        return True

    def element(self) -> tuple[int, bytes]:
        """Takes one element, of any kind; and the number of its line. Raises BrokenArray."""
        first, line = self.peek(), self.line
        if first and first in b",:]}":
            raise BrokenArray(line, "an element expected")
        if first == b"{":
            end = self._end_of_flat() or self._end_of_brackets()
        elif first == b"[":
            end = self._end_of_brackets()
        else:
            end = self._end(_WHOLE_STRING if first == b'"' else _SCALAR, 0)
        found = self._text[self._at : self._at + end]
        self._take(self._at + end)
        return line, found

    def _end_of_flat(self) -> int:
        """How far from here the object ends that comes now; 0 if it takes a closer look.

        Where no backslash comes before the first closing brace and an even number of quotes, it is in no string; and if
        no other brace was opened, it closes this one. Most rows are like that, and this is three times as fast.
        """
        end = self._text.find(b"}", self._at) + 1
        flat = (
            end
            and self._text.find(b"\\", self._at, end) < 0
            and self._text.count(b"{", self._at, end) == 1
            and self._text.count(b'"', self._at, end) % 2 == 0
        )
        return end - self._at if flat else 0

    def _end_of_brackets(self) -> int:
        """How far from here the bracket is that closes the one that comes now."""
        depth, end = 1, 1
        while depth:
            end = self._end(_TO_BRACKET, end)
            depth += 1 if self._text[self._at + end - 1] in b"{[" else -1
        return end

    def _end(self, pattern: re.Pattern[bytes], start: int) -> int:
        """Where it ends that begins at `start`, both counted from here; reads on until that is known."""
        while (match := pattern.match(self._text, self._at + start)) is None:
            unread = len(self._text) - self._at
            if unread > LONGEST:
                raise BrokenArray(self.line, f"an element is {TOO_LONG}, and where it ends can't be told")
            # Twice as much each time, so that a long string isn't looked at too often.
            if not self._more(max(unread, 1)):
                raise BrokenArray(self.line, _CUT_OFF)
        return match.end() - self._at

    def _take(self, end: int) -> None:
        self.line += self._text.count(b"\n", self._at, end)
        self._at = end

    def _more(self, least: int = 1) -> bool:
        """Reads on; False at the end."""
        parts = [self._text[self._at :]]
        while least > 0 and (block := self._read(_BLOCK)):
            parts.append(block)
            least -= len(block)
        self._text, self._at = b"".join(parts), 0
        return len(parts) > 1
