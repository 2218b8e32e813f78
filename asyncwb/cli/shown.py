"""How one record is shown: its version and value, and its updates that aren't saved yet; as text, and for JSON."""

import json
from typing import Any, Final

import click

from asyncwb.admin.working_out import WorkedOut
from asyncwb.cli.output import bytes_text, plain, value_of, version_text
from asyncwb.protocol.pending import Entry, PendingRecord
from asyncwb.records import CodecName, Record
from asyncwb.updates import describe

_LONGEST_VALUE: Final = 2000
_LONGEST_UPDATE: Final = 500
_MOST_UPDATES: Final = 50


def record_dict(record: Record) -> dict[str, Any]:
    """A record for JSON."""
    return {
        "version": record.version,
        "deleted": record.deleted,
        "codec": record.codec,
        "bytes": len(record.payload),
        "value": value_of(record),
    }


def pending_dict(pending: PendingRecord) -> dict[str, Any]:
    """A record with updates for JSON; the base is None if only the backend knows it."""
    return {
        "version": pending.version,
        "codec": pending.codec,
        "base": None if pending.base is None else record_dict(pending.base),
        "updates": [_entry_dict(entry, pending.codec) for entry in pending.entries],
    }


def worked_out_dict(found: WorkedOut, codec: CodecName) -> dict[str, Any]:
    """What a record with updates leads to, for JSON."""
    if found.record is not None:
        return record_dict(found.record)
    return {"problem": found.problem, "update": None if found.entry is None else _entry_dict(found.entry, codec)}


def update_text(entry: Entry, codec: CodecName) -> str:
    """What an update does, in one line."""
    return plain(describe(codec, entry.payload), _LONGEST_UPDATE)


def versions_text(entry: Entry) -> str:
    """The version of an update; of several that were folded into one, the first and the last."""
    last = version_text(entry.last)
    return last if entry.first == entry.last else f"{version_text(entry.first)} to {last}"


def show_record(record: Record) -> None:
    """Prints a record's version and value."""
    click.echo(f"version   {version_text(record.version)} ({record.version})")
    show_value(record)


def show_value(record: Record) -> None:
    """Prints a record's value."""
    if record.deleted:
        click.echo("value     deleted")
        return
    click.echo(f"value     {record.codec}, {bytes_text(len(record.payload))}")
    text = json.dumps(value_of(record), indent=2, default=str)
    for line in text[:_LONGEST_VALUE].splitlines():
        click.echo(f"          {line}")
    if len(text) > _LONGEST_VALUE:
        click.echo("          … (--json shows all of it)")


def show_pending(pending: PendingRecord) -> None:
    """Prints the updates of a record, oldest first, and what they begin with."""
    click.echo(f"version   {version_text(pending.version)} ({pending.version})")
    count = len(pending.entries)
    click.echo(f"updates   {count} that {'is' if count == 1 else 'are'} not saved, {pending.codec}, oldest first")
    for entry in pending.entries[:_MOST_UPDATES]:
        click.echo(f"          {versions_text(entry)}: {update_text(entry, pending.codec)}")
    if count > _MOST_UPDATES:
        click.echo(f"          … and {count - _MOST_UPDATES} more (--json shows all of them)")
    if pending.base is None:
        click.echo("base      what the backend holds")
        return
    click.echo(
        f"base      written with version {version_text(pending.base.version)}, unless the backend has a newer one"
    )
    show_value(pending.base)


def show_worked_out(found: WorkedOut) -> None:
    """Prints what a record with updates leads to."""
    if found.record is not None:
        click.echo("worked out with what the backend holds:")
        show_record(found.record)
        return
    click.echo(f"worked out: no value, since {plain(found.problem, _LONGEST_VALUE)}")
    if found.entry is not None:
        click.echo(f"          it is the update {versions_text(found.entry)}")


def _entry_dict(entry: Entry, codec: CodecName) -> dict[str, Any]:
    return {"first": entry.first, "last": entry.last, "does": describe(codec, entry.payload)}
