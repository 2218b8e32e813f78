"""Streams that wrap other streams, to count, decompress and recode the bytes of a file."""

import codecs
import io
import select
import sys
from typing import Any, BinaryIO, Final, cast

BLOCK: Final = 128 * 1024
_UNDECODABLE: Final = "asyncwb.undecodable"


class DamagedSource(Exception):
    """Data end too early or can't be decoded; everything that was read before that is good."""


class _Reading(io.RawIOBase):
    """Base class of the streams here."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._next(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _next(self, most: int) -> bytes:
        """Returns at most `most` bytes; empty at the end."""
        raise NotImplementedError


class Counted(_Reading):
    """A file or stdin, with a count of the bytes that were read."""

    def __init__(self, raw: io.FileIO) -> None:
        """Wraps a file that is open already.

        If opening failed in here, closing would fail again when the object is finalised, and Python 3.14 prints that.
        """
        self._raw = raw
        self.position = 0

    @classmethod
    def open(cls, file: str) -> "Counted":
        """Opens a file by its name, or stdin for `-`. Raises OSError."""
        return cls(io.FileIO(sys.stdin.fileno(), closefd=False) if file == "-" else io.FileIO(file))

    def readinto(self, buffer: Any) -> int:
        count: int | None
        while (count := self._raw.readinto(buffer)) is None:  # a pipe that doesn't block, with nothing in it yet
            select.select([self._raw], [], [])
        self.position += count
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class Chained(_Reading):
    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream = head, stream

    def readinto(self, buffer: Any) -> int:
        if self._head:
            return super().readinto(buffer)
        return cast("io.BufferedReader", self._stream).readinto1(buffer)

    def _next(self, most: int) -> bytes:
        data, self._head = self._head[:most], self._head[most:]
        return data


class Unpacked(_Reading):
    """The output of a decompressing stream; errors of the data become DamagedSource.

    Args:
        stream: a stream with a method `read1`.
        what: the format's name for messages.
        errors: what it raises for damaged data; EOFError is treated as data that end too early.
    """

    def __init__(self, stream: Any, what: str, errors: tuple[type[Exception], ...]) -> None:
        self._read = stream.read1
        self._what, self._errors = what, errors

    def _next(self, most: int) -> bytes:
        try:
            data: bytes = self._read(most)
        except EOFError as error:
            raise DamagedSource(f"its {self._what} data end too early: the file is cut off") from error
        except self._errors as error:
            raise DamagedSource(f"its {self._what} data are damaged") from error
        return data


class Recoded(_Reading):
    """Recodes text from another encoding to UTF-8; bytes that are invalid there become bytes that aren't UTF-8."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream = cast("io.BufferedReader", stream)
        self._decoder = codecs.getincrementaldecoder(encoding)(_UNDECODABLE)
        self._encoding = encoding
        self._ready = b""
        self._ended = False

    def _next(self, most: int) -> bytes:
        while not self._ready and not self._ended:
            block = self._stream.read1(BLOCK)
            self._ended = not block
            try:
                text = self._decoder.decode(block, final=self._ended)
            except UnicodeError as error:  # from a codec that doesn't use the error handler
                raise DamagedSource(f"it isn't {self._encoding}") from error
            self._ready = text.encode("utf-8", "surrogatepass")
        data, self._ready = self._ready[:most], self._ready[most:]
        return data


def _surrogate(error: UnicodeError) -> tuple[str, int]:
    if isinstance(error, UnicodeDecodeError):
        return "\udcff", error.end
    raise error


codecs.register_error(_UNDECODABLE, _surrogate)
