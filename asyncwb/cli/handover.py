"""`asyncwb hand-over`: gives the place of one namespace (a table, collection or folder) to another."""

import asyncio
import contextlib
from typing import Final

import click

from asyncwb.admin.inspector import Inspector
from asyncwb.cli.closing import closing_backend
from asyncwb.cli.options import LOOKING, STORING, settings_options
from asyncwb.cli.output import print_json
from asyncwb.cli.shared import (
    EXIT_FAULT,
    asynchronous,
    backend_option,
    json_option,
    redis_option,
)
from asyncwb.protocol.body import is_codec
from asyncwb.protocol.namespace import Namespace
from asyncwb.records import CodecName
from asyncwb.redis.connect import connect
from asyncwb.settings import Settings
from asyncwb.support.redaction import redact

_CHECK_SECONDS: Final = 1.0
"""How often a process checks whether the place still belongs to its namespace."""


@click.command("hand-over")
@backend_option
@click.option("--from", "former", metavar="NS", required=True, help="The namespace that has the place now.")
@click.option("--to", "namespace", metavar="NS", required=True, help="The namespace that gets it.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0.0),
    show_default="--save-timeout-seconds plus 1",
    help="Seconds to wait after the hand-over, since an unseen process of the former namespace may still have a save, "
    "and then a check of its epoch, under way.",
)
@redis_option
@settings_options((*LOOKING, *STORING), without=("namespace",))
@json_option
@asynchronous
async def hand_over(
    *,
    backend: str,
    former: str,
    namespace: str,
    wait: float | None,
    redis: str | None,
    settings: Settings,
    as_json: bool,
) -> None:
    """Give the table, collection or folder of one namespace to another, with all that is in it.

    Stop all processes of the former namespace and drain it first. Start those of the new one when this command has
    ended.

    Exit status: 0 handed over, 1 the former namespace still has processes or unsaved records, 2 wrong usage, Redis
    or the backend can't be reached, or the place belongs to a third namespace.
    """
    if former == namespace:
        raise click.UsageError("--from and --to are the same namespace")
    settings = settings.replace({"namespace": namespace})
    in_use, codec = await _in_use(redis, settings.replace({"namespace": former}))
    if in_use:
        if as_json:
            print_json({"handed_over": False, "in_use": in_use})
        else:
            click.echo(f"nothing was changed: namespace {former!r} still has {', '.join(in_use)}", err=True)
        raise SystemExit(EXIT_FAULT)
    async with closing_backend(backend, settings, codec=codec) as place:
        await place.hand_over(former)
    if wait is None:
        wait = _CHECK_SECONDS + settings.save_timeout_seconds
    if not as_json:
        click.echo(
            f"{redact(backend)} belongs to namespace {namespace!r} now; "
            f"waiting {wait:g} s for saves that may be under way"
        )
    await asyncio.sleep(wait)
    if as_json:
        print_json({"handed_over": True, "in_use": []})
    else:
        click.echo(f"namespace {namespace!r} can use it now")


async def _in_use(redis: str | None, settings: Settings) -> tuple[list[str], CodecName]:
    """Returns what shows that a namespace is still in use (processes, records), and its codec."""
    async with contextlib.AsyncExitStack() as stack:
        link = await connect(redis, stack, timeout_seconds=settings.redis_timeout_seconds)
        made = await Namespace(link, settings.namespace).read()
        if made is None:
            return [], "json"
        status = await Inspector(link, made).status()
    found = {
        "process(es), heard of within the last minute": len(status.processes),
        "dirty record(s)": status.dirty,
        "leased record(s)": status.leased,
        "dead letter(s)": status.dead,
    }
    codec = made.codec if is_codec(made.codec) else "json"
    return [f"{count:,} {what}" for what, count in found.items() if count], codec
