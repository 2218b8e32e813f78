"""Opens a file or stdin as a stream of UTF-8 bytes: decompressed according to its name, and recoded."""

import codecs
import gzip
import io
import stat
import sys
import zlib
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

from asyncwb.cli.ingest.streams import BLOCK, Chained, Counted, DamagedSource, Recoded, Unpacked
from asyncwb.cli.output import plain
from asyncwb.errors import ConfigurationError, MissingDependency
from asyncwb.support.plain import excerpt

_UTF8: Final = ("utf-8", "utf-8-sig")
_LONGEST_NAME: Final = 200

_PACKED: Final = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd"}
"""Suffix of a compressed file's name -> the first bytes of such a file."""

_LOOKS: Final = {
    b"\x1f\x8b": "gzip: its name has to end in .gz, or pipe it through `gunzip -c`",
    b"\x28\xb5\x2f\xfd": "Zstandard: its name has to end in .zst, or pipe it through `zstd -dc`",
    b"\xfd7zXZ\x00": "xz, which isn't read: pipe it through `xz -dc`",
    b"PK\x03\x04": "a zip archive or a spreadsheet, which isn't read: unpack it, or save it as CSV",
    b"PAR1\x15": "Parquet, which isn't read: convert it to CSV or JSON Lines",
    **{b"BZh%d1AY" % size: "bzip2, which isn't read: pipe it through `bunzip2 -c`" for size in range(1, 10)},
}
"""First bytes of binary files, with which no text begins -> what the file is, and what to do about it."""
_MARKS: Final = {
    b"\xff\xfe\x00\x00": "UTF-32: try --encoding utf-32",
    b"\x00\x00\xfe\xff": "UTF-32: try --encoding utf-32",
    b"\xff\xfe": "UTF-16: try --encoding utf-16",
    b"\xfe\xff": "UTF-16: try --encoding utf-16",
}
"""Byte order marks of encodings other than UTF-8, the longer ones first -> what to do about them."""


def checked_encoding(name: str) -> str:
    """Returns the normalised name of a text encoding. Raises ConfigurationError if there is none of that name."""
    try:
        found = codecs.lookup(name)
        with suppress(UnicodeDecodeError):  # an encoding with several bytes per character
            b"a".decode(name)
        found.incrementaldecoder()
    except (LookupError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"--encoding {excerpt(name)} is not a text encoding; write for example windows-1252, latin-1 or utf-16"
        ) from error
    return found.name


def shown(file: str) -> str:
    """Returns a FILE's name for messages."""
    return "stdin" if file == "-" else plain(file, _LONGEST_NAME)


def unpacked_suffix(file: str) -> str:
    """Returns the suffix that says the format, in lower case: `.csv` for `a.csv.gz`."""
    path = Path(file)
    return (path.with_suffix("") if path.suffix.lower() in _PACKED else path).suffix.lower()


def size_of(file: str) -> int | None:
    """Returns the file's size on disk in bytes; None if it is unknown, as for a pipe."""
    if file == "-":
        return None
    try:
        found = Path(file).stat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


class Source:
    """One FILE while it is read: a context manager that returns its stream.

    Args:
        file: a path, or `-` for stdin.
        encoding: the encoding, as `checked_encoding` returns it.

    Attributes:
        name: its name for messages.
        encoding: the encoding's name for messages.

    Raises:
        ConfigurationError: on entering: judging by its first bytes, it isn't text, or not what its name says.
        OSError: on entering and reading.
        DamagedSource: on entering and reading: the compressed data are damaged or cut off.
    """

    def __init__(self, file: str, *, encoding: str) -> None:
        self.name = shown(file)
        self.encoding = "UTF-8" if encoding in _UTF8 else encoding
        self._file, self._recode = file, encoding not in _UTF8
        self._counted: Counted | None = None

    @property
    def position(self) -> int:
        """How many bytes have been read so far, as counted on disk (that is, compressed)."""
        return self._counted.position if self._counted else 0

    def __enter__(self) -> BinaryIO:
        if self._file == "-" and sys.stdin is None:
            raise ConfigurationError("stdin is closed, and FILE is -: name a file, or pipe the rows into it")
        self._counted = Counted.open(self._file)
        try:
            return self._open(io.BufferedReader(self._counted, BLOCK))
        except BaseException:
            self._counted.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._counted is not None:
            self._counted.close()

    def _open(self, stream: BinaryIO) -> BinaryIO:
        suffix = "" if self._file == "-" else Path(self._file).suffix.lower()
        if suffix in _PACKED:
            head, stream = _beginning(stream, (_PACKED[suffix],))
            if not head:
                raise DamagedSource(f"it is empty, and its name ends in {suffix}")
            if head != _PACKED[suffix]:
                raise ConfigurationError(f"{self.name}: its name ends in {suffix}, but that isn't what it holds")
            stream = io.BufferedReader(_unpacked(stream, suffix), BLOCK)
        looks = _LOOKS if self._recode else {**_MARKS, **_LOOKS}
        head, stream = _beginning(stream, tuple(looks))
        for mark, what in looks.items():
            if head.startswith(mark):
                raise ConfigurationError(f"{self.name} looks like {what}")
        if self._recode:
            stream = io.BufferedReader(Recoded(stream, self.encoding), BLOCK)
        head, stream = _beginning(stream, (codecs.BOM_UTF8,))
        if head == codecs.BOM_UTF8:
            stream.read(len(head))
        return stream


def _beginning(stream: BinaryIO, marks: tuple[bytes, ...]) -> tuple[bytes, BinaryIO]:
    """Reads just enough bytes to tell whether a mark is there; returns them, and a stream that begins with them again.

    It doesn't read a byte more than needed, since the next one may be long in coming.
    """
    head = b""
    while any(mark != head and mark.startswith(head) for mark in marks):
        byte = stream.read(1)
        if not byte:
            break
        head += byte
    return head, io.BufferedReader(Chained(head, stream), BLOCK) if head else stream


def _unpacked(stream: BinaryIO, suffix: str) -> Unpacked:
    if suffix == ".gz":
        return Unpacked(gzip.GzipFile(fileobj=stream), "gzip", (gzip.BadGzipFile, zlib.error))
    in_python = sys.version_info >= (3, 14)
    try:
        zstd: Any = import_module("compression.zstd" if in_python else "backports.zstd")
    except ImportError as error:
        raise MissingDependency(
            "this Python was built without Zstandard: pipe the file through `zstd -dc`"
            if in_python
            else "files in .zst need 'backports.zstd', which isn't installed: run pip install 'asyncwb[zstd]'"
        ) from error
    return Unpacked(zstd.ZstdFile(stream), "Zstandard", (zstd.ZstdError,))
