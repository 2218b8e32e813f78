"""`asyncwb audit` and `asyncwb flush`: repair what another program broke, and save now."""

import asyncio
from collections.abc import Awaitable

import click

from asyncwb.admin.inspector import open_inspector
from asyncwb.buffer import Buffer
from asyncwb.cli.options import LOOKING, WRITING, check_flushers, settings_options
from asyncwb.cli.output import plain, print_json
from asyncwb.cli.shared import (
    EXIT_FAULT,
    asynchronous,
    backend_option,
    json_option,
    redis_option,
)
from asyncwb.errors import DeadLettered, FlushTimeout, OutcomeUnknown, WriteLost
from asyncwb.settings import Settings
from asyncwb.support.gathering import gather_bounded


@click.command()
@redis_option
@settings_options(LOOKING)
@json_option
@asynchronous
async def audit(*, redis: str | None, settings: Settings, as_json: bool) -> None:
    """Walk over all records: those that are in no set become dirty, and the byte estimate is corrected.

    Exit status: 0 all was in order, 1 something was put right, 2 the server or the namespace can't be reached.
    """
    async with open_inspector(redis, settings.namespace, timeout_seconds=settings.redis_timeout_seconds) as inspector:
        before = await inspector.status()
        strays = sum(await gather_bounded([part.queue.audit for part in inspector.parts]))
        after = await inspector.status()
    if as_json:
        print_json({"strays": strays, "bytes_before": before.bytes, "bytes": after.bytes})
    else:
        click.echo(
            f"{strays} stray record(s) made dirty; {after.bytes:,} bytes buffered (estimate was {before.bytes:,})"
        )
    if strays:
        raise SystemExit(EXIT_FAULT)


@click.command()
@click.argument("keys", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Everything that is unsaved now.")
@click.option("--timeout", type=float, default=60.0, show_default=True, help="The most seconds to wait.")
@redis_option
@backend_option
@settings_options(without=(*WRITING, "partitions", "drain_timeout_seconds"))
@json_option
@asynchronous
async def flush(
    *,
    keys: tuple[str, ...],
    everything: bool,
    timeout: float,
    redis: str | None,
    backend: str,
    settings: Settings,
    as_json: bool,
) -> None:
    """Save now what is unsaved, including delayed writes, also while workers run. With keys, it waits only for
    those; other records that are due may be saved, too.

    Exit status: 0 saved, 1 something wasn't (too late, dead-lettered or lost), 2 wrong usage, or Redis
    or the backend can't be reached.
    """
    if bool(keys) == everything:
        raise click.UsageError("name keys, or pass --all")
    check_flushers(settings)
    async with open_inspector(redis, settings.namespace, timeout_seconds=settings.redis_timeout_seconds) as inspector:
        codec = inspector.made.known_codec()
    problems: dict[str, str] = {}
    buffer = Buffer[object](redis, backend=backend, codec=codec, settings=settings, drain_timeout_seconds=0.0)
    await buffer.open()
    try:
        if everything:
            await _note(problems, "", buffer.drain(timeout=timeout))
        else:
            await asyncio.gather(*(_note(problems, key, buffer.flush(key, timeout=timeout)) for key in keys))
        saved = buffer.totals.saved
    finally:
        await buffer.aclose(drain=False)
    if as_json:
        print_json({"saved": saved, "problems": problems})
    else:
        click.echo(f"{saved} record(s) saved by this command")
        for key, problem in problems.items():
            click.echo(f"{plain(key) + ': ' if key else ''}{problem}", err=True)
    if problems:
        raise SystemExit(EXIT_FAULT)


async def _note(problems: dict[str, str], key: str, waiting: Awaitable[None]) -> None:
    try:
        await waiting
    except (FlushTimeout, DeadLettered, WriteLost, OutcomeUnknown) as error:
        problems[key] = str(error)
