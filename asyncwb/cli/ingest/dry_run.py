"""`asyncwb ingest --dry-run`: checks what would happen to the first rows, without Redis and without writing."""

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import click

from asyncwb.backend import Limits
from asyncwb.cli.ingest.modes import Mode
from asyncwb.cli.ingest.reading import Reading, read_chunks
from asyncwb.cli.ingest.rows import Item, MalformedLine, Row, malformed
from asyncwb.cli.output import plain
from asyncwb.cli.shared import EXIT_FAULT
from asyncwb.codecs import Codec
from asyncwb.core.values import Values
from asyncwb.errors import BackendUnavailable, InvalidValue
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.records import MAX_EPOCH, Record, make_version
from asyncwb.settings import Settings
from asyncwb.updates import ABSENT

_LONGEST_REASON: Final = 500
_SHOWN: Final = 20
"""How many reasons are shown; further ones are only counted."""


async def dry_run(
    backend: BackendAdapter, files: Sequence[str], reading: Reading, settings: Settings, *, as_json: bool
) -> None:
    """Reads and checks the rows, and reports. Raises SystemExit with status 1 if one of them can't be ingested."""
    check = _Check(backend, settings, reading.mode)
    async for chunk in read_chunks(files, reading):
        await check.look(chunk.items)
    check.report(as_json=as_json)
    if check.malformed or check.refused:
        raise SystemExit(EXIT_FAULT)


class _Check:
    """Checks rows, and counts what it finds.

    Attributes:
        malformed: how many rows couldn't be acknowledged.
        refused: how many rows the backend would refuse.
        asked: whether the backend could tell what it would refuse.
    """

    def __init__(self, backend: BackendAdapter, settings: Settings, mode: Mode) -> None:
        self._backend = backend
        self._mode = mode
        self._codec: Codec[Any] = Codec("json", check=settings.check_values)
        self._values: Values[Any] = Values(self._codec, settings)
        self._page = Limits().max_batch
        with suppress(BackendUnavailable):  # a plugin need not know its limits before it is open
            self._values.limit(backend)
            self._page = backend.limits.max_batch
        self._rows = 0
        self._keys: set[str] = set()
        self.malformed = 0
        self.refused = 0
        # What an update makes depends on what the backend holds when it comes.
        self.asked = not mode.updates

    async def look(self, items: Sequence[Item]) -> None:
        good: list[tuple[Row, Record]] = []
        for item in items:
            self._rows += 1
            found = item if isinstance(item, MalformedLine) else self._checked(item)
            if isinstance(found, MalformedLine):
                self.malformed += 1
                self._tell(str(found))
            elif found is not None:
                assert isinstance(item, Row)
                good.append((item, found))
        for start in range(0, len(good), self._page):
            await self._ask(good[start : start + self._page])

    def _checked(self, row: Row) -> Record | MalformedLine | None:
        """The record that a row makes; None if it is an update that can be taken."""
        self._keys.add(row.key)
        raw = row.key.encode()
        try:
            if self._mode.updates:
                change = self._mode.change_of(row.value)
                self._values.update(raw, change, default=ABSENT, upsert=self._mode.upsert)
                return None
            payload = self._values.payload(raw, row.value)
        except InvalidValue as error:
            return malformed(row.file, row.line, error)
        # Versions are of the highest epoch and rising, so that no record is stale and the backend checks them all.
        version = make_version(MAX_EPOCH, self._rows)
        return Record(row.key, version, payload, codec=self._codec.name)

    async def _ask(self, rows: Sequence[tuple[Row, Record]]) -> None:
        reasons = await self._backend.refused([record for _, record in rows])
        if reasons is None:
            self.asked = False
            return
        for (row, _), reason in zip(rows, reasons, strict=True):
            if reason is not None:
                self.refused += 1
                why = plain(reason, _LONGEST_REASON)
                self._tell(f"{row.file}, line {row.line}: key {row.key!r} would be refused: {why}")

    def _tell(self, what: str) -> None:
        if self.malformed + self.refused <= _SHOWN:
            click.echo(what, err=True)

    def report(self, *, as_json: bool) -> None:
        """Prints the figures to stdout."""
        figures = {
            "rows": self._rows,
            "malformed": self.malformed,
            "refused": self.refused,
            "distinct_keys": len(self._keys),
            "backend_asked": self.asked,
        }
        if as_json:
            sys.stdout.write(json.dumps(figures) + "\n")
            return
        refused = (
            f"{self.refused:,} that the backend would refuse"
            if self.asked
            else "whether the backend would refuse any is unknown, since "
            + ("that depends on what it holds" if self._mode.updates else "it can't be asked")
        )
        click.echo(
            f"{self._rows:,} rows checked, {len(self._keys):,} keys: {self.malformed:,} malformed, {refused}; "
            "nothing was written"
        )
