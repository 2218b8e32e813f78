"""Reads files in a separate thread, one after the other, and yields their rows in chunks."""

import asyncio
import itertools
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal

from asyncwb.cli.ingest.csv_rows import Dialect, csv_rows
from asyncwb.cli.ingest.fieldtypes import Types
from asyncwb.cli.ingest.json_rows import json_rows
from asyncwb.cli.ingest.modes import Mode
from asyncwb.cli.ingest.rows import Item, Key, MalformedLine
from asyncwb.cli.ingest.sources import Source, shown, size_of, unpacked_suffix
from asyncwb.cli.ingest.streams import DamagedSource
from asyncwb.errors import ConfigurationError

Format = Literal["csv", "json"]

_CHUNK_ROWS: Final = 1000
_CHUNKS_AHEAD: Final = 4


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows, and how many bytes of all files had been read after them, counted on disk (that is, compressed)."""

    items: list[Item]
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How files are read.

    Attributes:
        key: the columns or fields of the key.
        format: the format of all files; if None, it depends on each file's name.
        delimiter: CSV's delimiter; if None, a tab for names that end in .tsv, else a comma.
        quotechar: CSV's quote character; None if fields aren't quoted.
        encoding: the encoding, as `checked_encoding` returns it.
        types: the types of CSV's columns.
        mode: what rows do; CSV has other types for what is added or compared.
        limit: the most rows to read, including malformed ones; None for no limit.
    """

    key: Key
    format: Format | None = None
    delimiter: str | None = None
    quotechar: str | None = '"'
    encoding: str = "utf-8"
    types: Types = field(default_factory=Types)
    mode: Mode = field(default_factory=Mode)
    limit: int | None = None

    def format_of(self, file: str) -> Format:
        """Returns the format that was asked for, or else that of the file's name: CSV unless that is JSON."""
        return self.format or ("json" if unpacked_suffix(file) in (".jsonl", ".ndjson", ".json") else "csv")

    def has_csv(self, files: Sequence[str]) -> bool:
        """Whether one of the files is CSV."""
        return any(self.format_of(file) == "csv" for file in files)

    def check(self, files: Sequence[str]) -> None:
        """Raises ConfigurationError if files of these names can't be read in this way, whatever they contain."""
        if files.count("-") > 1:
            raise ConfigurationError("stdin can be read only once: name - once among the files")
        if self.types.asked and not self.has_csv(files):
            raise ConfigurationError("--types is for CSV: JSON has types of its own")
        for dialect in map(self._dialect, files):
            if dialect.delimiter == dialect.quotechar:
                raise ConfigurationError(f"--delimiter and --quotechar are both {dialect.delimiter!r}")

    def check_beginnings(self, files: Sequence[str]) -> None:
        """Raises ConfigurationError if something is wrong at the beginning of any file, before a row is ingested.

        Pipes are left out, since what is read from them can't be read again.
        """
        for file in files:
            if size_of(file) is not None:
                next(self._rows(Source(file, encoding=self.encoding), file), None)

    def _dialect(self, file: str) -> Dialect:
        return Dialect(self.delimiter or ("\t" if unpacked_suffix(file) == ".tsv" else ","), self.quotechar)

    def chunks(self, files: Sequence[str]) -> Iterator[Chunk]:
        """Yields the rows and malformed lines of all files in order.

        Raises:
            ConfigurationError: a file can't be read, or its header doesn't fit.
        """
        before, left = 0, sys.maxsize if self.limit is None else self.limit
        for file in files:
            source = Source(file, encoding=self.encoding)
            rows = self._rows(source, file)
            while left and (items := list(itertools.islice(rows, min(_CHUNK_ROWS, left)))):
                left -= len(items)
                yield Chunk(items, before + source.position)
            before += source.position

    def _rows(self, source: Source, file: str) -> Iterator[Item]:
        try:
            with source as stream:
                if self.format_of(file) == "json":
                    yield from json_rows(source, stream, key=self.key)
                else:
                    dialect = self._dialect(file)
                    yield from csv_rows(source, stream, key=self.key, dialect=dialect, types=self.types, mode=self.mode)
        except OSError as error:
            raise ConfigurationError(f"{source.name}: {error.strerror or error}") from error
        except DamagedSource as error:
            yield MalformedLine(f"{source.name}: {error}; what comes after that can't be read")


async def read_chunks(files: Sequence[str], reading: Reading) -> AsyncIterator[Chunk]:
    """Yields chunks of rows; a file named `-` is stdin. The thread reads at most a few chunks ahead of the consumer.

    Raises:
        ConfigurationError: as in `Reading.chunks`.
    """
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[Chunk | Exception | None] = asyncio.Queue()
    room = threading.Semaphore(_CHUNKS_AHEAD)
    gone = False

    def put(item: Chunk | Exception | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: the command was interrupted
            loop.call_soon_threadsafe(chunks.put_nowait, item)

    def read() -> None:
        try:
            for chunk in reading.chunks(files):
                room.acquire()
                if gone:
                    return
                put(chunk)
            put(None)
        except Exception as error:  # noqa: BLE001 - the consumer raises it again, and would otherwise wait for ever
            put(error)

    # A daemon thread, since it may be blocked on a pipe for ever when the command is interrupted.
    threading.Thread(target=read, name="asyncwb-ingest", daemon=True).start()
    try:
        while (chunk := await chunks.get()) is not None:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk
            room.release()
    finally:
        gone = True
        room.release()


def total_size(files: Sequence[str]) -> int | None:
    """Returns the size of all files in bytes; None if any of them is unknown."""
    sizes = [size_of(file) for file in files]
    return None if None in sizes else sum(size or 0 for size in sizes)


def title(files: Sequence[str]) -> str:
    """Returns a title for the files: the name of the only one, or how many there are."""
    return shown(files[0]) if len(files) == 1 else f"{len(files)} files"
