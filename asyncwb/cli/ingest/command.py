"""The command `asyncwb ingest`: its options, and the order of its steps."""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import click
from rich.console import Console

from asyncwb.buffer import Buffer
from asyncwb.cli.closing import closing_backend
from asyncwb.cli.ingest.dry_run import dry_run
from asyncwb.cli.ingest.fieldtypes import Types, types_from_option
from asyncwb.cli.ingest.modes import Mode, ModeName
from asyncwb.cli.ingest.reading import Reading, read_chunks, title, total_size
from asyncwb.cli.ingest.report import Counts, progress_bar, report, show
from asyncwb.cli.ingest.rows import Key
from asyncwb.cli.ingest.sources import checked_encoding
from asyncwb.cli.ingest.writing import Refusals, Writing
from asyncwb.cli.options import settings_options
from asyncwb.cli.shared import EXIT_FAULT, REFUSED, asynchronous, backend_option, json_option, redis_option
from asyncwb.errors import AsyncwbError, ConfigurationError, DeadLettered
from asyncwb.settings import Settings
from asyncwb.support.plain import excerpt

_DRY_ROWS: Final = 1000
_CHARACTERS: Final = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
"""Names for characters that are hard to write in a shell."""


@click.command()
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, allow_dash=True)
)
@click.option(
    "--key",
    metavar="COLUMN[,COLUMN...]",
    help="The column or field that holds the key, or several; needed in every mode but insert.",
)
@click.option(
    "--mode",
    "mode_name",
    type=click.Choice(["set", "update", "insert", "add"]),
    default="set",
    show_default=True,
    help="What a row does: set replaces the value; update changes only the fields that the row has; add adds all of "
    "them to what is there, but those of the key; insert gives each row a new key.",
)
@click.option(
    "--add",
    "added",
    multiple=True,
    metavar="COLUMN[,COLUMN...]",
    help="With --mode update: add these numbers to what is there, instead of setting them.",
)
@click.option(
    "--max",
    "highest",
    multiple=True,
    metavar="COLUMN[,COLUMN...]",
    help="With --mode update: keep the greater of what is there and what the row has.",
)
@click.option(
    "--min", "lowest", multiple=True, metavar="COLUMN[,COLUMN...]", help="With --mode update: keep the lesser one."
)
@click.option(
    "--no-upsert",
    is_flag=True,
    help="With --mode update or add: leave rows out whose key isn't there, rather than make a value of them.",
)
@backend_option
@redis_option
@settings_options(
    # The backend is the bottleneck, and memory stays bounded.
    max_dirty=100_000,
    on_full="wait",
    full_timeout_seconds=math.inf,
    max_delay_seconds=0.2,
)
@click.option(
    "--format",
    "row_format",
    type=click.Choice(["csv", "json", "jsonl"]),
    help="By default it follows from each file's name. JSON arrays and JSON Lines are told apart automatically.",
)
@click.option(
    "--delimiter",
    metavar="CHAR",
    show_default="a comma, for .tsv a tab",
    help="For CSV: a character, or tab, comma, semicolon, pipe or space.",
)
@click.option("--quotechar", metavar="CHAR", default='"', show_default=True, help='For CSV; "none" if there is none.')
@click.option(
    "--encoding", metavar="NAME", default="utf-8", show_default=True, help="The files' encoding, such as utf-16."
)
@click.option(
    "--types",
    metavar="COLUMN=TYPE,...",
    help="For CSV: int, float, number, decimal, bool, text, date, datetime or json; int? takes an empty field as null. "
    "The default is the type of the column in the backend's table if there is one, else text, or number? where it is "
    "added.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Read the first N rows only.")
@click.option(
    "--dry-run",
    "dry",
    is_flag=True,
    help=f"Check the first {_DRY_ROWS:,} rows, or --limit of them, and write nothing; needs no Redis.",
)
@click.option("--writers", type=click.IntRange(1, 10_000), default=200, show_default=True, help="Concurrent writers.")
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="What to do at a malformed line; the rows before it are ingested in either case.",
)
@click.option(
    "--max-refused",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Stop once the backend has refused this many rows for good.",
)
@json_option
@asynchronous
async def ingest(
    *,
    files: Sequence[str],
    key: str | None,
    mode_name: ModeName,
    added: Sequence[str],
    highest: Sequence[str],
    lowest: Sequence[str],
    no_upsert: bool,
    backend: str,
    redis: str | None,
    settings: Settings,
    row_format: str | None,
    delimiter: str | None,
    quotechar: str,
    encoding: str,
    types: str | None,
    limit: int | None,
    dry: bool,
    writers: int,
    on_error: str,
    max_refused: int,
    as_json: bool,
) -> None:
    """Stream rows of each FILE (or - for stdin) into a backend, each as a JSON object under its key.

    A FILE is CSV with a header, JSON Lines, or a JSON array of objects; .gz and .zst after its name mean that it is
    compressed. Several are read one after the other.

    Rows of one key are applied in their order: the last one wins, or with --mode update or add, each changes what the
    one before has left. Ends when all is saved, or refused for good. Once --max-refused rows were refused it reads no
    more, and ends when what was written by then is saved or refused. An interrupted run loses nothing that was
    acknowledged; run it again to complete it.

    What is added or inserted, by --mode add, --add or --mode insert, is added or inserted once more if the same rows
    are ingested again, also after an interrupted run. A row whose outcome is unknown, since Redis did not answer, is
    reported, and isn't added again.

    A key of several columns is their texts with a colon between them; a colon or backslash in them has a backslash
    before it.

    --dry-run finds what is malformed or too long, and asks the backend what it would refuse, as far as it can tell
    without keeping anything. It can't know what others write until the rows really come.

    Exit status: 0 all is saved, or a dry run found nothing; 1 a line was malformed (skipped or not), the backend
    refused a row for good, or would, an update can't be applied, or it is unknown whether a row was added; 2 wrong
    usage, a file that can't be read at all, Redis or the backend can't be reached, or dead letters of this namespace
    leave no room.
    """
    columns = Key() if key is None else Key.from_option(key)
    operands = {"--add": added, "--max": highest, "--min": lowest}
    mode = Mode.from_options(mode_name, columns, operands, upsert=not no_upsert)
    reading = Reading(
        key=columns,
        mode=mode,
        format=None if row_format is None else "csv" if row_format == "csv" else "json",
        delimiter=None if delimiter is None else _character("--delimiter", delimiter),
        quotechar=None if quotechar == "none" else _character("--quotechar", quotechar),
        encoding=checked_encoding(encoding),
        types=Types(asked=types_from_option(types)),
        limit=limit or (_DRY_ROWS if dry else None),
    )
    reading.check(files)
    async with closing_backend(backend, settings, codec="json") as place:
        if reading.has_csv(files):
            told = await place.column_types()
            reading = replace(reading, types=replace(reading.types, told=told))
        await asyncio.to_thread(reading.check_beginnings, files)
        if dry:
            await dry_run(place, files, reading, settings, as_json=as_json)
            return
    started = time.monotonic()
    counts, refusals = Counts(), Refusals(max_refused)
    buffer: Buffer[dict[str, Any]] = Buffer(
        redis,
        backend=backend,
        settings=settings,
        observer=refusals,
    )
    work = Writing(buffer, counts, refusals, mode=mode, writers=writers, skip=on_error == "skip")
    try:
        async with buffer:
            await _write(work, buffer=buffer, counts=counts, refusals=refusals, files=files, reading=reading)
    except (asyncio.CancelledError, KeyboardInterrupt, AsyncwbError):
        if counts.acknowledged:
            then = (
                "run the same command again to go on" if mode.repeatable else "the same command would apply them twice"
            )
            click.echo(f"{counts.acknowledged} row(s) are acknowledged and safe; {then}", err=True)
        raise
    report(counts, buffer.totals, time.monotonic() - started, as_json=as_json)
    stopped = f" (--max-refused {max_refused})" if work.stopped else ""
    _end(counts, refusals, buffer.totals.dead, mode=mode, stopped=stopped)


async def _write(
    work: Writing,
    *,
    buffer: Buffer[dict[str, Any]],
    counts: Counts,
    refusals: Refusals,
    files: Sequence[str],
    reading: Reading,
) -> None:
    """Ingests the rows; returns when everything that was read is saved, or refused for good."""
    with progress_bar(Console(stderr=True)) as progress:
        shown = asyncio.create_task(show(progress, counts, buffer, title=title(files), size=total_size(files)))
        try:
            await work.run(read_chunks(files, reading))
            try:
                await buffer.drain()
            except DeadLettered as error:
                counts.refused = len(error.reasons)
                for name, reason in error.reasons.items():
                    refusals.note(name, reason)
        finally:
            shown.cancel()
            await asyncio.wait([shown])


def _end(counts: Counts, refusals: Refusals, dead: int, *, mode: Mode, stopped: str) -> None:
    """Reports what went wrong, if anything, and then raises SystemExit."""
    if counts.malformed is not None:
        after = "" if mode.repeatable else "; the rows before it are applied, and would be applied twice by another run"
        click.echo(f"Error: {counts.malformed}; stopped there (--on-error skip goes on){after}", err=True)
    refused = max(counts.refused, dead)
    if refused or counts.blocked:
        refusals.tell()
    then = f"; stopped there{stopped}" if stopped else ""
    if refused:
        click.echo(f"Error: {refused:,} {REFUSED}{then}", err=True)
    if counts.blocked:
        click.echo(
            f"Error: {counts.blocked:,} row(s) weren't taken, since an earlier update of their key can't be applied: "
            f"see `asyncwb dead list`{then}",
            err=True,
        )
    if counts.unknown:
        click.echo(
            f"Error: of {counts.unknown:,} row(s), listed above, it is unknown whether they were added: look at what "
            "the backend holds before you add them again",
            err=True,
        )
    if counts.malformed is not None or counts.skipped or refused or counts.blocked or counts.unknown:
        raise SystemExit(EXIT_FAULT)


def _character(option: str, text: str) -> str:
    """Returns the character that `text` is or names. Raises ConfigurationError."""
    found = _CHARACTERS.get(text.lower(), text)
    if len(found) != 1 or found in "\r\n":
        raise ConfigurationError(
            f"{option} {excerpt(text)}: write one character, or one of {', '.join(name for name in _CHARACTERS)}"
        )
    return found
