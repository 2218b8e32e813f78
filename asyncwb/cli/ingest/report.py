"""What an ingest has done so far, and how it shows that: a progress bar, and a report at the end."""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from asyncwb.buffer import Buffer
from asyncwb.cli.ingest.rows import MalformedLine
from asyncwb.stats import Totals


@dataclass(slots=True)
class Counts:
    """What has been done so far; `position` is how many bytes of the files were read.

    Attributes:
        unknown: rows that may or may not have been applied, and that would be applied twice if they were repeated.
        blocked: rows that weren't taken, because an earlier update of their key can't be applied.
        hashes: an 8-byte hash of each key, to count distinct keys.
        malformed: the first malformed line, if it ended the work.
    """

    rows: int = 0
    acknowledged: int = 0
    skipped: int = 0
    unknown: int = 0
    blocked: int = 0
    position: int = 0
    refused: int = 0
    hashes: set[bytes] = field(default_factory=set)
    malformed: MalformedLine | None = None


def report(counts: Counts, totals: Totals, seconds: float, *, as_json: bool) -> None:
    """Prints the report to stdout."""
    figures = {
        "rows": counts.rows,
        "acknowledged": counts.acknowledged,
        "skipped": counts.skipped,
        "unknown": counts.unknown,
        "blocked": counts.blocked,
        "distinct_keys": len(counts.hashes),
        "saved": totals.saved,
        "coalesced": max(0, counts.acknowledged - totals.saved - totals.dead),
        "dead": totals.dead,
        "seconds": round(seconds, 3),
    }
    if as_json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    click.echo(
        f"{counts.acknowledged:,} of {counts.rows:,} rows acknowledged ({counts.skipped:,} skipped), "
        f"{len(counts.hashes):,} keys; {totals.saved:,} records saved, {figures['coalesced']:,} writes coalesced; "
        f"{seconds:.1f} s, {counts.acknowledged / seconds:,.0f} rows/s"
    )


def progress_bar(console: Console) -> Progress:
    """Returns a progress bar, which is shown only on a terminal."""
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


async def show(
    progress: Progress, counts: Counts, buffer: Buffer[dict[str, Any]], *, title: str, size: int | None
) -> None:
    """Updates the progress bar until cancelled; `size` is the size of all files in bytes, or None if unknown."""
    task = progress.add_task(escape(title), total=size, rows=0, rate=0.0, buffered=0, saved=0)
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
