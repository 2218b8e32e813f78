"""`asyncwb ingest`: streams rows through a buffer into a backend."""

import asyncio
import json
import math
import sys
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import anyio
import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from asyncwb.buffer import Buffer
from asyncwb.cli.ingest.rows import Chunk, Format, MalformedLine, Row, guess_format, read_rows
from asyncwb.cli.options import settings_options
from asyncwb.cli.shared import (
    EXIT_FAULT,
    REFUSED,
    asynchronous,
    backend_option,
    json_option,
    redis_option,
)
from asyncwb.errors import AsyncwbError, DeadLettered, InvalidValue, OutcomeUnknown
from asyncwb.events import DeadLetter, Event
from asyncwb.settings import Settings
from asyncwb.stats import Stats, Totals

_ROWS_AHEAD: Final = 32

_FEWEST_UNSAVED: Final = 1000
_MOST_UNSAVED: Final = 20_000
"""Rows that may be unsaved at once, at first and in the end: what is ahead of the first refusals may be refused too."""
_LOOK_AGAIN_SECONDS: Final = 0.005
_FIRST_REASONS: Final = 5


@dataclass(slots=True)
class _Counts:
    """What has been done so far; distinct keys are counted by an 8-byte hash each, `position` is in bytes."""

    rows: int = 0
    acknowledged: int = 0
    skipped: int = 0
    position: int = 0
    refused: int = 0
    hashes: set[bytes] = field(default_factory=set)
    malformed: MalformedLine | None = None


class _Refusals:
    """Rows that the backend refuses for good: how many, and the first reasons; an observer of the buffer."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.count = 0
        self.reasons: dict[str, str] = {}

    @property
    def too_many(self) -> bool:
        return self.count >= self._most

    def __call__(self, event: Event) -> None:
        if isinstance(event, DeadLetter):
            self.count += 1
            self.note(event.key, event.reason)

    def note(self, key: str, reason: str) -> None:
        if len(self.reasons) < _FIRST_REASONS:
            self.reasons.setdefault(reason, key)

    def tell(self) -> None:
        for reason, key in self.reasons.items():
            click.echo(f"key {key!r} was refused: {reason}", err=True)


class _Window:
    """Bounds the rows that are acknowledged and not yet saved: few at first, more as long as the backend takes them.

    So a backend that refuses every row is given no more than a few of them before that is known.

    Args:
        stats: of the buffer.
    """

    def __init__(self, stats: Callable[[], Awaitable[Stats]]) -> None:
        self._stats = stats
        self._size = _FEWEST_UNSAVED
        self._left = 0
        self._dead: int | None = None
        self._looking = asyncio.Lock()

    async def enter(self) -> None:
        """Returns when one more row may be written."""
        while self._left <= 0:
            async with self._looking:
                if self._left <= 0:
                    await self._look()
        self._left -= 1

    async def _look(self) -> None:
        stats = await self._stats()
        unsaved = stats.dirty + stats.leased
        if self._dead is not None and stats.dead > self._dead:
            self._size = max(self._size // 2, _FEWEST_UNSAVED)
        elif self._dead is not None and unsaved < self._size // 2:
            self._size = min(2 * self._size, _MOST_UNSAVED)
        self._dead = stats.dead
        room = self._size - unsaved
        if room >= self._size // 10:
            self._left = room
        else:
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--key", required=True, metavar="COLUMN", help="The column or field that holds the key.")
@backend_option
@redis_option
@settings_options(
    # The backend is the bottleneck, and memory stays bounded.
    max_dirty=100_000,
    on_full="wait",
    full_timeout_seconds=math.inf,
    max_delay_seconds=0.2,
)
@click.option("--format", "row_format", type=click.Choice(["csv", "jsonl"]), help="By default from the file's name.")
@click.option("--writers", type=click.IntRange(1, 10_000), default=200, show_default=True, help="Concurrent writers.")
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="What to do at a malformed line; what stands before it is ingested in either case.",
)
@click.option(
    "--max-refused",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Stop once the backend has refused so many rows for good.",
)
@json_option
@asynchronous
async def ingest(
    *,
    file: str,
    key: str,
    backend: str,
    redis: str | None,
    settings: Settings,
    row_format: Format | None,
    writers: int,
    on_error: str,
    max_refused: int,
    as_json: bool,
) -> None:
    """Stream rows of FILE (or - for stdin) into a backend, each as a JSON object under its key.

    Rows of one key are applied in their order: the last one wins. Values of CSV are strings. Ends when all is saved, or
    refused for good. Once --max-refused rows were refused it reads no more, and ends when what was written by then is
    saved or refused. An interrupted run loses nothing that was acknowledged; run it again to complete it.

    Exit status: 0 all is saved, 1 a line was malformed or the backend refused a row for good, 2 wrong usage, not
    reached, or no room beside the dead letters of this namespace.
    """
    started = time.monotonic()
    counts = _Counts()
    refusals = _Refusals(max_refused)
    console = Console(stderr=True)
    buffer: Buffer[dict[str, Any]] = Buffer(
        redis,
        backend=backend,
        settings=settings,
        observer=refusals,
    )
    try:
        async with buffer:
            with _progress(console) as progress:
                shown = asyncio.create_task(_show(progress, counts, buffer, file))
                try:
                    chunks = read_rows(file, key=key, format=row_format or guess_format(file))
                    work = _Ingest(buffer, counts, refusals, writers=writers, skip=on_error == "skip")
                    await work.run(chunks)
                    try:
                        await buffer.drain()
                    except DeadLettered as error:
                        counts.refused = len(error.reasons)
                        for name, reason in error.reasons.items():
                            refusals.note(name, reason)
                finally:
                    shown.cancel()
                    await asyncio.wait([shown])
    except (asyncio.CancelledError, KeyboardInterrupt, AsyncwbError):
        if counts.acknowledged:
            click.echo(f"{counts.acknowledged} row(s) are acknowledged and safe; run the same again to go on", err=True)
        raise
    _report(counts, buffer.totals, time.monotonic() - started, as_json=as_json)
    if counts.malformed is not None:
        click.echo(f"Error: {counts.malformed}; stopped there (--on-error skip goes on)", err=True)
        raise SystemExit(EXIT_FAULT)
    if refused := max(counts.refused, buffer.totals.dead):
        refusals.tell()
        stopped = f"; stopped there (--max-refused {max_refused})" if work.stopped else ""
        click.echo(f"Error: {refused:,} {REFUSED}{stopped}", err=True)
        raise SystemExit(EXIT_FAULT)


class _Ingest:
    """All rows of a key pass through the same writer, one after the other, so their order stands."""

    def __init__(
        self, buffer: Buffer[dict[str, Any]], counts: _Counts, refusals: _Refusals, *, writers: int, skip: bool
    ) -> None:
        self._buffer = buffer
        self._counts = counts
        self._refusals = refusals
        self._skip = skip
        self._window = _Window(buffer.stats)
        self.stopped = False
        self._lanes: list[asyncio.Queue[Row | None]] = [asyncio.Queue(_ROWS_AHEAD) for _ in range(writers)]

    async def run(self, chunks: AsyncIterator[Chunk]) -> None:
        """Returns when every row is acknowledged, up to a malformed one unless that is skipped.

        Once too many were refused, rows that aren't written by then are left out; `stopped` is True.
        """
        try:
            async with anyio.create_task_group() as group:
                for lane in self._lanes:
                    group.start_soon(self._write, lane)
                await self._distribute(chunks)
                for lane in self._lanes:
                    await lane.put(None)
        except BaseExceptionGroup as errors:
            # One is enough: that the others were cancelled says nothing.
            raise _first(errors) from errors

    async def _distribute(self, chunks: AsyncIterator[Chunk]) -> None:
        counts = self._counts
        async for chunk in chunks:
            counts.position = chunk.position
            for item in chunk.items:
                self.stopped = self.stopped or self._refusals.too_many
                if counts.malformed is not None or self.stopped:
                    return
                counts.rows += 1
                if isinstance(item, MalformedLine):
                    self._malformed(item)
                    continue
                raw = item.key.encode()
                counts.hashes.add(blake2b(raw, digest_size=8).digest())
                await self._lanes[zlib.crc32(raw) % len(self._lanes)].put(item)

    async def _write(self, lane: "asyncio.Queue[Row | None]") -> None:
        while (row := await lane.get()) is not None:
            await self._window.enter()
            while True:
                if self._refusals.too_many:
                    self.stopped = True
                    break
                try:
                    await self._buffer.set(row.key, row.value)
                except InvalidValue as error:
                    self._malformed(MalformedLine(f"line {row.line}: {error}"))
                except OutcomeUnknown:
                    continue  # the same row once more, still before the next of its key
                else:
                    self._counts.acknowledged += 1
                break

    def _malformed(self, line: MalformedLine) -> None:
        if self._skip:
            self._counts.skipped += 1
            click.echo(f"skipped: {line}", err=True)
        elif self._counts.malformed is None:
            self._counts.malformed = line


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _report(counts: _Counts, totals: Totals, seconds: float, *, as_json: bool) -> None:
    report = {
        "rows": counts.rows,
        "acknowledged": counts.acknowledged,
        "skipped": counts.skipped,
        "distinct_keys": len(counts.hashes),
        "saved": totals.saved,
        "coalesced": max(0, counts.acknowledged - totals.saved - totals.dead),
        "dead": totals.dead,
        "seconds": round(seconds, 3),
    }
    if as_json:
        sys.stdout.write(json.dumps(report) + "\n")
        return
    click.echo(
        f"{counts.acknowledged:,} of {counts.rows:,} rows acknowledged ({counts.skipped:,} skipped), "
        f"{len(counts.hashes):,} keys; {totals.saved:,} records saved, {report['coalesced']:,} writes coalesced; "
        f"{seconds:.1f} s, {counts.acknowledged / seconds:,.0f} rows/s"
    )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rows]:,} rows, {task.fields[rate]:,.0f}/s"),
        TextColumn("{task.fields[buffered]:,} buffered, {task.fields[saved]:,} saved"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


async def _show(progress: Progress, counts: _Counts, buffer: Buffer[dict[str, Any]], file: str) -> None:
    size = None if file == "-" else (await anyio.Path(file).stat()).st_size
    task = progress.add_task(Path(file).name, total=size, rows=0, rate=0.0, buffered=0, saved=0)
    started = time.monotonic()
    while not progress.disable:
        stats = await buffer.stats()
        progress.update(
            task,
            completed=counts.position,
            rows=counts.acknowledged,
            rate=counts.acknowledged / max(0.001, time.monotonic() - started),
            buffered=stats.dirty + stats.leased,
            saved=buffer.totals.saved,
        )
        await asyncio.sleep(0.2)
