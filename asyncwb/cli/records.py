"""`asyncwb keys` and `asyncwb show`: which records are unsaved, and everything about one of them."""

from typing import Any

import click

from asyncwb.admin.inspector import open_inspector
from asyncwb.admin.partition_view import Described, Listed, Place
from asyncwb.admin.working_out import worked_out
from asyncwb.cli.closing import closing_backend
from asyncwb.cli.options import LOOKING, STORING, settings_options
from asyncwb.cli.output import (
    Duration,
    bytes_text,
    plain,
    print_json,
    print_table,
    seconds_text,
    time_text,
    version_text,
)
from asyncwb.cli.shared import (
    EXIT_FAULT,
    asynchronous,
    json_option,
    optional_backend_option,
    redis_option,
)
from asyncwb.cli.shown import (
    pending_dict,
    record_dict,
    show_pending,
    show_record,
    show_worked_out,
    worked_out_dict,
)
from asyncwb.core.userkeys import raw_key
from asyncwb.protocol.pending import PendingRecord
from asyncwb.records import Record
from asyncwb.settings import Settings
from asyncwb.support.redaction import redact


@click.command()
@redis_option
@settings_options(LOOKING)
@click.option("--dirty", "place", flag_value="dirty", default=True, help="Those that wait to be saved (default).")
@click.option("--leased", "place", flag_value="leased", help="Those that are being saved.")
@click.option("--older", type=Duration(), default="0", help="Unsaved for longer than that: 10s, 5m, 2h.")
@click.option("--limit", type=click.IntRange(0), default=100, show_default=True, help="The most to list; 0 lists all.")
@json_option
@asynchronous
async def keys(*, redis: str | None, settings: Settings, place: Place, older: float, limit: int, as_json: bool) -> None:
    """List unsaved records, those that are due first.

    Exit status: 0 listed, 2 the server or the namespace can't be reached.
    """
    found: list[Listed] = []
    more = False
    async with open_inspector(redis, settings.namespace, timeout_seconds=settings.redis_timeout_seconds) as inspector:
        async for record in inspector.listed(place):
            if record.age_seconds < older:
                continue
            if limit and len(found) == limit:
                more = True
                break
            found.append(record)
    if as_json:
        print_json({"keys": found, "more": more})
        return
    if not found:
        click.echo(f"nothing is {place}{f' for longer than {seconds_text(older)}' if older else ''}")
        return
    rows = [
        (
            record.key,
            seconds_text(record.age_seconds),
            seconds_text(record.due_in_seconds),
            version_text(record.version),
            bytes_text(record.bytes),
            f"{record.attempts} times: {record.reason}" if record.attempts else "",
        )
        for record in found
    ]
    print_table(
        ("key", "unsaved for", "due in" if place == "dirty" else "lease ends", "version", "size", "failed"), rows
    )
    if more:
        click.echo(f"… and more than these {limit}: --limit 0 lists all", err=True)


@click.command()
@click.argument("key")
@redis_option
@settings_options((*LOOKING, *STORING), save_timeout_seconds=30.0)
@optional_backend_option
@json_option
@asynchronous
async def show(*, key: str, redis: str | None, settings: Settings, backend: str | None, as_json: bool) -> None:
    """Show everything about one record: where it is, its version and value, its failures.

    Of a record with updates that aren't saved yet it shows the updates and what they begin with. Its value is worked
    out from these with what the backend holds, so that takes --backend.

    Exit status: 0 shown, 1 neither Redis nor (with --backend) the backend has it, 2 they can't be reached.
    """
    raw_key(key)
    async with open_inspector(redis, settings.namespace, timeout_seconds=settings.redis_timeout_seconds) as inspector:
        found = await inspector.part_of(key).describe(key)
        held = await _held(backend, settings, inspector.made.codec, key) if backend else None
    pending = found.record if found is not None and isinstance(found.record, PendingRecord) else None
    result = worked_out(pending, held) if pending is not None and backend else None
    if as_json:
        print_json(
            {
                "key": key,
                "redis": _as_dict(found),
                "backend": None if held is None else record_dict(held),
                "worked_out": worked_out_dict(result, pending.codec) if result and pending else None,
            }
        )
    else:
        _show_redis(key, found)
        if backend:
            _show_backend(held, redact(backend))
        if result is not None:
            show_worked_out(result)
        elif pending is not None:
            click.echo("worked out with what the backend holds, its value is shown if you name --backend")
    if found is None and held is None:
        raise SystemExit(EXIT_FAULT)


async def _held(url: str, settings: Settings, codec: Any, key: str) -> Record | None:
    async with closing_backend(url, settings, codec=codec) as backend:
        await backend.open()
        return (await backend.load([key])).get(key)


def _as_dict(found: Described | None) -> dict[str, Any] | None:
    if found is None:
        return None
    listed, dead = found.listed, found.dead
    return {
        "where": found.where,
        **_content_dict(found),
        "age_seconds": listed.age_seconds,
        "due_in_seconds": listed.due_in_seconds if found.where in ("dirty", "leased") else None,
        "attempts": dead.attempts if dead else listed.attempts,
        "reason": dead.reason if dead else listed.reason,
        "died": dead.died if dead else None,
    }


def _content_dict(found: Described) -> dict[str, Any]:
    if isinstance(found.record, PendingRecord):
        return {**pending_dict(found.record), "bytes": found.listed.bytes}
    return {"garbage": True, "bytes": found.listed.bytes} if found.record is None else record_dict(found.record)


def _show_redis(key: str, found: Described | None) -> None:
    click.echo(f"key       {plain(key)}")
    if found is None:
        click.echo("in Redis  nothing: it is saved, or was never written")
        return
    listed = found.listed
    when = {"dirty": "due in", "leased": "its lease ends in"}.get(found.where)
    click.echo(f"in Redis  {found.where}{f', {when} {seconds_text(listed.due_in_seconds)}' if when else ''}")
    click.echo(f"unsaved   for {seconds_text(listed.age_seconds)}")
    if found.dead:
        dead = found.dead
        click.echo(f"died      {time_text(dead.died)} after {dead.attempts} attempt(s): {plain(dead.reason)}")
    elif listed.attempts:
        click.echo(f"failed    {listed.attempts} time(s), the last one: {plain(listed.reason)}")
    if found.where == "stray":
        click.echo("          it is in no set: run `asyncwb audit`")
    if found.record is None:
        click.echo(f"record    {listed.bytes} bytes that another program wrote")
    elif isinstance(found.record, PendingRecord):
        show_pending(found.record)
    else:
        show_record(found.record)


def _show_backend(held: Record | None, name: str) -> None:
    click.echo(f"backend   {name}{'' if held else ' has nothing of it'}")
    if held:
        show_record(held)
