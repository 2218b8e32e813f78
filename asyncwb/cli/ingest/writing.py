"""Writes rows into a buffer: those of one key in order, and few at first, since the backend may refuse them all."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import blake2b
from typing import Any, Final

import anyio
import click

from asyncwb.buffer import Buffer
from asyncwb.cli.ingest.modes import Mode
from asyncwb.cli.ingest.reading import Chunk
from asyncwb.cli.ingest.report import Counts
from asyncwb.cli.ingest.rows import MalformedLine, Row, malformed
from asyncwb.cli.output import plain
from asyncwb.errors import DeadLettered, InvalidValue, OutcomeUnknown
from asyncwb.events import DeadLetter, Event
from asyncwb.stats import Stats

_ROWS_AHEAD: Final = 32

_FEWEST_UNSAVED: Final = 1000
_MOST_UNSAVED: Final = 20_000
"""How many rows may be unsaved at once, at most. It starts at `_FEWEST_UNSAVED`, since the backend may refuse all rows
that are written before its first refusal is known."""
_LOOK_AGAIN_SECONDS: Final = 0.005
_FIRST_REASONS: Final = 5
_LONGEST_REASON: Final = 500


class Refusals:
    """Counts rows that the backend refuses for good, and keeps the first reasons; it is an observer of the buffer."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.count = 0
        self.reasons: dict[str, str] = {}

    @property
    def too_many(self) -> bool:
        """Whether so many rows were refused that the ingest should stop."""
        return self.count >= self._most

    def __call__(self, event: Event) -> None:
        if isinstance(event, DeadLetter):
            self.count += 1
            self.note(event.key, event.reason)

    def blocked(self, key: str, reason: str) -> None:
        """Counts a row that isn't taken, because an earlier update of its key can't be applied."""
        self.count += 1
        self.note(key, reason)

    def note(self, key: str, reason: str) -> None:
        """Keeps a reason, if it is among the first few different ones."""
        if len(self.reasons) < _FIRST_REASONS:
            self.reasons.setdefault(reason, key)

    def tell(self) -> None:
        """Prints the reasons to stderr."""
        for reason, key in self.reasons.items():
            click.echo(f"key {key!r} was refused: {plain(reason, _LONGEST_REASON)}", err=True)


class _Window:
    """Limits the rows that are acknowledged but not yet saved: few at first, more while the backend accepts them.

    Thus a backend that refuses every row gets only a limited number of them before that is known.

    Args:
        stats: returns the buffer's statistics.
    """

    def __init__(self, stats: Callable[[], Awaitable[Stats]]) -> None:
        self._stats = stats
        self._size = _FEWEST_UNSAVED
        self._left = 0
        self._dead: int | None = None
        self._looking = asyncio.Lock()

    async def enter(self) -> None:
        """Waits until one more row may be written."""
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


class Writing:
    """Writes rows with several writers; all rows of a key go through the same one, which preserves their order."""

    def __init__(
        self,
        buffer: Buffer[dict[str, Any]],
        counts: Counts,
        refusals: Refusals,
        *,
        mode: Mode,
        writers: int,
        skip: bool,
    ) -> None:
        self._buffer = buffer
        self._mode = mode
        self._counts = counts
        self._refusals = refusals
        # A row that is inserted has its key already, so repeating it leaves the same.
        self._adds = mode.updates and not mode.repeatable
        self._skip = skip
        self._window = _Window(buffer.stats)
        self.stopped = False
        self._lanes: list[asyncio.Queue[Row | None]] = [asyncio.Queue(_ROWS_AHEAD) for _ in range(writers)]

    async def run(self, chunks: AsyncIterator[Chunk]) -> None:
        """Writes all rows, up to a malformed one unless those are skipped; returns when they are acknowledged.

        Once too many rows have been refused, the remaining ones are left out, and `stopped` becomes True.
        """
        try:
            async with anyio.create_task_group() as group:
                for lane in self._lanes:
                    group.start_soon(self._write, lane)
                await self._distribute(chunks)
                for lane in self._lanes:
                    await lane.put(None)
        except BaseExceptionGroup as errors:
            # Raise only the first: the others were merely cancelled because of it.
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
                    await self._apply(row)
                except InvalidValue as error:
                    self._malformed(malformed(row.file, row.line, error))
                except OutcomeUnknown as error:
                    if not self._adds:
                        continue  # write the same row again, before the next one of its key
                    self._counts.unknown += 1
                    click.echo(
                        f"unknown: {row.file}, line {row.line}: it may have been added or not: {error}", err=True
                    )
                except DeadLettered as error:
                    self._counts.blocked += 1
                    self._refusals.blocked(row.key, error.reasons.get(row.key, str(error)))
                else:
                    self._counts.acknowledged += 1
                break

    async def _apply(self, row: Row) -> None:
        if self._mode.updates:
            await self._buffer.update(row.key, self._mode.change_of(row.value), upsert=self._mode.upsert)
        else:
            await self._buffer.set(row.key, row.value)

    def _malformed(self, line: MalformedLine) -> None:
        if self._skip:
            self._counts.skipped += 1
            click.echo(f"skipped: {line}", err=True)
        elif self._counts.malformed is None:
            self._counts.malformed = line


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
