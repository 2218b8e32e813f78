"""Standard streams that always exist, and end a command quietly when nobody reads its output any more."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, NoReturn

from asyncwb.cli.shared import EXIT_ERROR, EXIT_PIPE
from asyncwb.errors import ConfigurationError


@contextmanager
def standard_streams() -> Iterator[None]:
    """Replaces the standard streams while a program runs; to be entered before anything opens a file.

    - A stream that was closed from the start (`<&-`, `>&-`, `2>&-`) goes to /dev/null; reading from a closed stdin
      raises ConfigurationError.
    - If nobody reads stdout any more, as with `| head -1`, writing to it ends the program with status 141. If it can't
      be written for another reason, a full disk for instance, the program ends with an error and status 2.
    - What can't be written to stderr is dropped, as `logging` does: work doesn't stop because nobody is listening.
    """
    _occupy_descriptors()
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(_ClosedInput()))
    sys.stdout = _text(_Results(1, "w", closefd=False), sys.stdout)
    sys.stderr = _text(_Remarks(2, "w", closefd=False), sys.stderr)
    try:
        yield
    except SystemExit as ending:
        # Write what is still buffered; the interpreter would do so at its very end, and complain if that fails.
        with suppress(SystemExit) if ending.code else nullcontext():
            sys.stdout.flush()
        raise


def _occupy_descriptors() -> None:
    """Opens /dev/null as each standard descriptor that is closed.

    Otherwise the next file or socket opened would get that number, and a database could receive what is meant for
    stdout.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Open for writing only: reading the descriptor of stdin is an error then, rather than an empty file.
            opened = os.open(os.devnull, os.O_WRONLY)
            os.set_inheritable(opened, True)


def _text(raw: io.FileIO, old: Any) -> io.TextIOWrapper:
    """Returns a text stream on `raw` like `old`, Python's own, which is None if the descriptor was closed."""
    if old is None:
        return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "backslashreplace")
    return io.TextIOWrapper(
        raw if old.write_through else io.BufferedWriter(raw),  # unbuffered, as Python itself does with -u
        old.encoding,
        old.errors,
        line_buffering=old.line_buffering,
        write_through=old.write_through,
    )


class _Results(io.FileIO):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            # Discard the output: otherwise the interpreter would try to write what is buffered again when it ends.
            _discard(self.fileno())
            if not isinstance(error, BrokenPipeError):
                sys.stderr.write(f"Error: stdout can't be written: {error.strerror}\n")
                raise SystemExit(EXIT_ERROR) from None
            raise SystemExit(EXIT_PIPE) from None


class _Remarks(io.FileIO):
    def write(self, data: Any, /) -> int:
        with suppress(OSError):
            return super().write(data)
        return len(data)


class _ClosedInput(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def readinto(self, _buffer: Any, /) -> NoReturn:
        raise ConfigurationError("stdin is closed, so nothing can be read from it")

    def fileno(self) -> NoReturn:
        self.readinto(b"")


def _discard(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
