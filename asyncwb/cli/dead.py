"""`asyncwb dead`: lists, shows, retries and drops dead letters."""

from typing import Final

import click

from asyncwb.admin.inspector import Inspector, open_inspector
from asyncwb.cli.leaving_out import LeftOut, leave_out
from asyncwb.cli.options import LOOKING, STORING, settings_options
from asyncwb.cli.output import plain, print_json, print_table, time_text, value_of, version_text
from asyncwb.cli.shared import EXIT_FAULT, asynchronous, json_option, redis_option
from asyncwb.cli.shown import pending_dict, show_pending
from asyncwb.protocol.messages import DeadRecord
from asyncwb.protocol.pending import PendingRecord
from asyncwb.settings import Settings

_PAGE = 1000
_WHAT_TO_DO: Final = "write the key anew, drop it, or run `asyncwb dead retry KEY --without-failed-update`"


@click.group()
def dead() -> None:
    """Look at records that the backend refused or that failed too often; try them again, or drop them.

    They stay readable, and the next write of a key brings it back to life by itself. Only a record with an update that
    can't be applied has no value, and takes no further updates, until it is written anew, dropped, or retried without
    that update.
    """


@dead.command("list")
@redis_option
@settings_options(LOOKING)
@click.option("--limit", type=click.IntRange(0), default=100, show_default=True, help="The most to list; 0 lists all.")
@json_option
@asynchronous
async def list_(*, redis: str | None, settings: Settings, limit: int, as_json: bool) -> None:
    """List dead letters with their reasons.

    Exit status: 0 listed (also if there are none), 2 the server or the namespace can't be reached.
    """
    found: list[DeadRecord] = []
    more = False
    async with open_inspector(redis, settings.namespace, timeout_seconds=settings.redis_timeout_seconds) as inspector:
        async for letter in inspector.dead():
            if limit and len(found) == limit:
                more = True
                break
            found.append(letter)
    if as_json:
        print_json({"dead": found, "more": more})
        return
    if not found:
        click.echo("no dead letters")
        return
    stuck = sum(letter.stuck for letter in found)
    rows = [
        (letter.key, str(letter.attempts), time_text(letter.died), version_text(letter.version), letter.reason)
        for letter in found
    ]
    print_table(("key", "attempts", "died", "version", "reason"), rows)
    if stuck:
        click.echo(f"{stuck} of them have an update that can't be applied, and take no more: {_WHAT_TO_DO}", err=True)
    if more:
        click.echo(f"… and more than these {limit}: --limit 0 lists all", err=True)


@dead.command("show")
@click.argument("key")
@redis_option
@settings_options(LOOKING)
@json_option
@asynchronous
async def show_dead(*, key: str, redis: str | None, settings: Settings, as_json: bool) -> None:
    """Show one dead letter with its value and the whole reason.

    Exit status: 0 shown, 1 the key isn't dead-lettered, 2 the server or the namespace can't be reached.
    """
    async with open_inspector(redis, settings.namespace, timeout_seconds=settings.redis_timeout_seconds) as inspector:
        found = await inspector.part_of(key).describe(key)
    if found is None or found.dead is None:
        raise _not_dead([key])
    letter, record = found.dead, found.record
    if isinstance(record, PendingRecord):
        content, value = pending_dict(record), None
    else:
        content, value = {}, value_of(record) if record else None
    if as_json:
        deleted = bool(record and not isinstance(record, PendingRecord) and record.deleted)
        print_json({"letter": letter, "deleted": deleted, "value": value, **content})
        return
    click.echo(f"key       {plain(key)}")
    if not isinstance(record, PendingRecord):
        click.echo(f"version   {version_text(letter.version)}")
    click.echo(f"failed    {letter.attempts} time(s), first {time_text(letter.first_failed)}")
    click.echo(f"died      {time_text(letter.died)}")
    click.echo(f"reason    {plain(letter.reason, longest=10_000)}")
    if letter.stuck:
        click.echo(f"          it takes no further updates: {_WHAT_TO_DO}")
    if isinstance(record, PendingRecord):
        show_pending(record)
    else:
        click.echo(f"value     {value!r}")


@dead.command("retry")
@click.argument("keys", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Retry all dead letters.")
@click.option(
    "--without-failed-update",
    "without",
    is_flag=True,
    help="Leave out the update that can't be applied to what the --backend holds, one of each key.",
)
@click.option("--yes", is_flag=True, help="Don't ask before an update is left out.")
@click.option(
    "--backend",
    envvar="ASYNCWB_BACKEND",
    show_envvar=True,
    metavar="URL",
    help="For --without-failed-update: the backend, to find out which update can't be applied.",
)
@redis_option
@settings_options((*LOOKING, *STORING), save_timeout_seconds=30.0)
@json_option
@asynchronous
async def retry(
    *,
    keys: tuple[str, ...],
    everything: bool,
    without: bool,
    yes: bool,
    backend: str | None,
    redis: str | None,
    settings: Settings,
    as_json: bool,
) -> None:
    """Make dead letters dirty again, with their attempts counted from 0. A worker saves them.

    With --without-failed-update, the update of a record that can't be applied is lost for good; all others of the
    record, before and behind it, are kept. If another one can't be applied either, the record will be dead again. A
    record in which none fails is retried as it is.

    Exit status: 0 done, 1 a key isn't dead-lettered, or no update of it can be left out (the others are done), or you
    said no, 2 wrong usage, or the server, the namespace or the backend can't be reached.
    """
    if bool(keys) == everything:
        raise click.UsageError("name keys, or pass --all")
    if without and not backend:
        raise click.UsageError("--without-failed-update needs --backend, to find out which update that is")
    async with open_inspector(redis, settings.namespace, timeout_seconds=settings.redis_timeout_seconds) as inspector:
        letters = rest = await _letters(inspector, keys)
        left_out = None
        if without and backend:
            left_out = await leave_out(inspector, letters, backend=backend, settings=settings, yes=yes)
            rest = left_out.rest
        retried = len(left_out.updates) if left_out else 0
        for part in inspector.parts:
            mine = [letter.key for letter in rest if inspector.part_of(letter.key) is part]
            for start in range(0, len(mine), _PAGE):
                retried += await part.queue.retry_dead(mine[start : start + _PAGE])
    _report("retried", retried, keys, letters, as_json=as_json, left_out=left_out)


@dead.command("drop")
@click.argument("keys", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Don't ask.")
@redis_option
@settings_options(LOOKING)
@json_option
@asynchronous
async def drop(*, keys: tuple[str, ...], yes: bool, redis: str | None, settings: Settings, as_json: bool) -> None:
    """Give dead letters up for good: their values are lost. A key that was written meanwhile is left alone.

    Exit status: 0 done, 1 a key isn't dead-lettered (the others are done) or you said no, 2 the server
    or the namespace can't be reached.
    """
    async with open_inspector(redis, settings.namespace, timeout_seconds=settings.redis_timeout_seconds) as inspector:
        letters = await _letters(inspector, keys)
        if letters and not yes:
            for letter in letters:
                click.echo(f"{plain(letter.key)}  {version_text(letter.version)}  {plain(letter.reason)}", err=True)
            if not click.confirm(f"Lose {len(letters)} value(s) for good?", err=True):
                raise SystemExit(EXIT_FAULT)
        dropped = 0
        for part in inspector.parts:
            mine = [letter for letter in letters if inspector.part_of(letter.key) is part]
            if mine:
                dropped += await part.drop(mine)
    _report("dropped", dropped, keys, letters, as_json=as_json)


async def _letters(inspector: Inspector, keys: tuple[str, ...]) -> list[DeadRecord]:
    """Returns the dead letters of those keys that have one; without keys, all dead letters."""
    if not keys:
        return [letter async for letter in inspector.dead()]
    found = [await inspector.part_of(key).describe(key) for key in dict.fromkeys(keys)]
    return [each.dead for each in found if each is not None and each.dead is not None]


def _report(
    what: str,
    count: int,
    keys: tuple[str, ...],
    letters: list[DeadRecord],
    *,
    as_json: bool,
    left_out: LeftOut | None = None,
) -> None:
    missing = sorted(set(keys) - {letter.key for letter in letters})
    if as_json:
        more = {} if left_out is None else {"left_out": left_out.updates, "problems": left_out.problems}
        print_json({what: count, "not_dead": missing, **more})
    else:
        click.echo(f"{count} record(s) {what}")
        for key, update in left_out.updates.items() if left_out else ():
            click.echo(f"left out of {plain(key)}: {update}")
    for key, problem in left_out.problems.items() if left_out else ():
        click.echo(f"{plain(key)}: {problem}", err=True)
    if missing:
        raise _not_dead(missing)
    if left_out and left_out.problems:
        raise SystemExit(EXIT_FAULT)


class _NotDead(click.ClickException):
    exit_code = EXIT_FAULT


def _not_dead(keys: list[str]) -> _NotDead:
    return _NotDead(f"not dead-lettered: {', '.join(map(plain, keys))}")
