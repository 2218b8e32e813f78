"""Splits a JSON array into its elements, one after the other, without holding the array in memory.

This only finds where each element ends, by brackets and strings; the decoder for JSON Lines decodes it. So an element
that is malformed inside is one malformed row with a known line, and values are the same as if the element had a line of
its own. Libraries that stream JSON don't report lines, and can't continue after a malformed element.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO, Final

from asyncwb.cli.ingest.rows import LONGEST, TOO_LONG

_BLOCK: Final = 128 * 1024

# The quantifiers are possessive, so that there is no backtracking and the time is proportional to the length.
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_TO_BRACKET: Final = re.compile(rb'[^"\[\]{}]*+(?:' + _STRING + rb'[^"\[\]{}]*+)*+[\[\]{}]', re.DOTALL)
_WHOLE_STRING: Final = re.compile(_STRING, re.DOTALL)
_SCALAR: Final = re.compile(rb"[^\s,\]\[{}\"]++(?=[\s,\]\[{}\"])")
_BLANKS: Final = re.compile(rb"[ \t\r\n]*+")
_CUT_OFF: Final = "the array isn't closed: is the file cut off?"


class BrokenArray(Exception):
    """The array is malformed from `line` on, so that no further elements can be found."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line


def elements(stream: BinaryIO, *, line: int) -> Iterator[tuple[int, bytes]]:
    """Yields the number of the line where each element begins, and the element's text.

    Args:
        stream: what follows the opening bracket.
        line: the number of the line that the stream begins in.

    Raises:
        BrokenArray: the end is missing, something other than a comma separates two elements, something follows the
            end, or an element is too long.
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
    """Text that was read and not yet consumed; `line` is the number of the next character's line."""

    def __init__(self, stream: BinaryIO, line: int) -> None:
        self._read = stream.read1  # type: ignore[attr-defined] # of every buffered stream
        self._text = b""
        self._at = 0
        self.line = line

    def peek(self) -> bytes:
        """Skips blanks, and returns the next character without consuming it; empty at the end."""
        while (found := self._text[self._at : self._at + 1]) <= b" ":
            blanks = _BLANKS.match(self._text, self._at)
            assert blanks is not None
            if blanks.end() > self._at:
                self._take(blanks.end())
            elif found or not self._more():
                break
        return found

    def next_is(self, character: bytes) -> bool:
        """Whether this is the next character that isn't blank; if so, consumes it."""
        if self.peek() != character:
            return False
        self._at += 1
        return True

    def element(self) -> tuple[int, bytes]:
        """Consumes one element of any kind; returns the number of its line and its text. Raises BrokenArray."""
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
        """Returns the length of the object that begins here, if it is a simple one, and otherwise 0.

        If there is no backslash and an even number of quotes before the first closing brace, the brace isn't in a
        string; and if no second brace and no bracket comes before it, it closes the object. Most rows are like that,
        and this check is three times as fast as `_end_of_brackets`, which finds the same end.
        """
        end = self._text.find(b"}", self._at) + 1
        flat = (
            end
            and self._text.find(b"\\", self._at, end) < 0
            and self._text.count(b"{", self._at, end) == 1
            and self._text.find(b"[", self._at, end) < 0
            and self._text.find(b"]", self._at, end) < 0
            and self._text.count(b'"', self._at, end) % 2 == 0
        )
        return end - self._at if flat else 0

    def _end_of_brackets(self) -> int:
        """Returns the length of the object or array that begins here, by matching its brackets."""
        depth, end = 1, 1
        while depth:
            end = self._end(_TO_BRACKET, end)
            depth += 1 if self._text[self._at + end - 1] in b"{[" else -1
        return end

    def _end(self, pattern: re.Pattern[bytes], start: int) -> int:
        """Returns where the pattern's match at `start` ends, both relative to here; reads on until that is known."""
        while (match := pattern.match(self._text, self._at + start)) is None:
            unread = len(self._text) - self._at
            if unread > LONGEST:
                raise BrokenArray(self.line, f"an element is {TOO_LONG}, and where it ends can't be told")
            # Double the text each time, so that a long string isn't scanned too often.
            if not self._more(max(unread, 1)):
                raise BrokenArray(self.line, _CUT_OFF)
        return match.end() - self._at

    def _take(self, end: int) -> None:
        self.line += self._text.count(b"\n", self._at, end)
        self._at = end

    def _more(self, least: int = 1) -> bool:
        """Reads at least `least` more bytes, if there are as many; returns False at the end."""
        parts = [self._text[self._at :]]
        while least > 0 and (block := self._read(_BLOCK)):
            parts.append(block)
            least -= len(block)
        self._text, self._at = b"".join(parts), 0
        return len(parts) > 1
