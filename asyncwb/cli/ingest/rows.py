"""Rows of a CSV or JSON Lines stream, read in a thread of their own, in chunks, with their line numbers."""

import asyncio
import csv
import io
import itertools
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

import msgspec

from asyncwb.errors import AsyncwbError, ConfigurationError, InvalidKey
from asyncwb.userkeys import raw_key

Format = Literal["csv", "jsonl"]

_CHUNK_ROWS: Final = 1000
_CHUNKS_AHEAD: Final = 4
_LONGEST_LINE: Final = 64 * 2**20


class MalformedLine(AsyncwbError):
    """A line that can't be ingested; the message begins with its number."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the number of its first line (from 1), its key, and the row as a JSON object."""

    line: int
    key: str
    value: dict[str, Any]


Item = Row | MalformedLine


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows, and how far in the stream they end: bytes read so far."""

    items: list[Item]
    position: int


def guess_format(file: str) -> Format:
    """By the file's name; CSV unless it says otherwise."""
    return "jsonl" if Path(file).suffix.lower() in (".jsonl", ".ndjson", ".json") else "csv"


def parse(stream: IO[bytes], *, key: str, format: Format) -> Iterator[Item]:  # noqa: A002 - as the option is called
    """Rows and malformed lines, in the order of the stream; memory for one row at a time.

    Raises:
        ConfigurationError: the header has no such column.
    """
    return _parse_csv(stream, key) if format == "csv" else _parse_jsonl(stream, key)


async def read_rows(
    file: str,
    *,
    key: str,
    format: Format,  # noqa: A002 - as the option is called
) -> AsyncIterator[Chunk]:
    """Chunks of rows; `-` is stdin. At most a few chunks are ahead of the consumer.

    Raises:
        ConfigurationError: the file can't be read, or its header has no such column.
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
            with _Counted(file) as stream:
                rows = parse(io.BufferedReader(stream), key=key, format=format)
                while items := list(itertools.islice(rows, _CHUNK_ROWS)):
                    room.acquire()
                    if gone:
                        return
                    put(Chunk(items, stream.position))
            put(None)
        except OSError as error:
            put(ConfigurationError(f"{file}: {error.strerror or error}"))
        except Exception as error:  # noqa: BLE001 - raised again by the consumer, who would wait for ever otherwise
            put(error)

    # A daemon: it may be blocked on a pipe for good when the command is interrupted.
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


class _Counted(io.RawIOBase):
    """A file or stdin that counts the bytes that were read of it."""

    def __init__(self, file: str) -> None:
        self._raw = io.FileIO(sys.stdin.fileno(), closefd=False) if file == "-" else io.FileIO(file)
        self.position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count = self._raw.readinto(buffer)
        self.position += count or 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _parse_csv(stream: IO[bytes], key: str) -> Iterator[Item]:
    # Bytes that are no UTF-8 become lone surrogates, so that only their row is malformed.
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
    csv.field_size_limit(_LONGEST_LINE)
    reader = csv.reader(text, strict=True)
    try:
        header = next(reader, None)
    except csv.Error as error:
        raise ConfigurationError(f"the header is no CSV: {error}") from error
    if header is None:
        return
    if key not in header:
        raise ConfigurationError(f"no column {key!r} in the header; there are {', '.join(header)[:500]}")
    if len(set(header)) != len(header):
        raise ConfigurationError(f"the header names a column twice: {', '.join(header)[:500]}")
    at = header.index(key)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield MalformedLine(f"line {line}: {error}")
            continue
        if not fields:
            continue
        if len(fields) != len(header):
            yield MalformedLine(f"line {line}: {len(fields)} fields, but the header has {len(header)}")
            continue
        if not all(map(_is_unicode, fields)):
            yield MalformedLine(f"line {line}: not UTF-8")
            continue
        yield _row(line, fields[at], dict(zip(header, fields, strict=True)))


def _parse_jsonl(stream: IO[bytes], key: str) -> Iterator[Item]:
    decode = msgspec.json.Decoder().decode
    number = 0
    while line := stream.readline(_LONGEST_LINE):
        number += 1
        if not line.strip():
            continue
        try:
            value = decode(line)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            yield MalformedLine(f"line {number}: {error}")
            continue
        if not isinstance(value, dict):
            yield MalformedLine(f"line {number}: a JSON object expected")
        elif key not in value:
            yield MalformedLine(f"line {number}: no field {key!r}")
        elif isinstance(value[key], bool) or not isinstance(value[key], str | int):
            yield MalformedLine(f"line {number}: field {key!r} has to be a string or a whole number to be a key")
        else:
            yield _row(number, str(value[key]), value)


def _row(line: int, key: str, value: dict[str, Any]) -> Item:
    try:
        raw_key(key)
    except InvalidKey as error:
        return MalformedLine(f"line {line}: {error}")
    return Row(line, key, value)


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
