"""`asyncwb status`: how much is unsaved, how old it is, and who works on it."""

import asyncio
from typing import Final

import click

from asyncwb.admin.inspector import Inspector, Status, open_inspector
from asyncwb.cli.options import LOOKING, settings_options
from asyncwb.cli.output import bytes_text, plain, print_json, print_table, seconds_text
from asyncwb.cli.shared import asynchronous, json_option, redis_option
from asyncwb.protocol.presence import Process
from asyncwb.settings import Settings


@click.command()
@redis_option
@settings_options(LOOKING)
@click.option("--watch", is_flag=True, help="Again every second, until interrupted.")
@json_option
@asynchronous
async def status(*, redis: str | None, settings: Settings, watch: bool, as_json: bool) -> None:
    """Show how much is unsaved, how old it is, and who works on it.

    Exit status: 0 shown, 2 the server or the namespace can't be reached.
    """
    async with open_inspector(redis, settings.namespace, timeout_seconds=settings.redis_timeout_seconds) as inspector:
        while True:
            found = await inspector.status()
            if as_json:
                print_json(found)
            else:
                if watch:
                    click.clear()
                _show(inspector, found)
            if not watch:
                return
            await asyncio.sleep(1)


_SHOWN: Final = ("acknowledged_per_second", "saved_per_second", "saved", "retried")


def _count(fact: object) -> str:
    return f"{fact:,.0f}" if isinstance(fact, int | float) else "?"


def _state(process: Process) -> str:
    """Returns the state of a process in a few words."""
    facts = process.facts
    if process.silent_seconds > 10:
        return f"silent for {seconds_text(process.silent_seconds)}"
    flushers, batch, largest = facts.get("flushers", 0), facts.get("batch"), facts.get("largest_batch")
    if flushers and not facts.get("living", flushers):
        return "flushers down"
    if facts.get("outage"):
        return "outage: the backend accepts nothing"
    if process.stalled_seconds:
        return f"nothing saved for {seconds_text(process.stalled_seconds)} though records are due"
    if isinstance(batch, int) and isinstance(largest, int) and batch < largest:
        return f"slow backend, batches of {batch:,}"
    return "ok"


def _show(inspector: Inspector, found: Status) -> None:
    server = found.server
    name = "Valkey" if "valkey_version" in server else "Redis"
    version = server.get("valkey_version") or server.get("redis_version", "?")
    limit = int(server.get("maxmemory", "0"))
    memory = bytes_text(int(server.get("used_memory", "0")))
    click.echo(f"namespace   {inspector.namespace} at {inspector.link.where}")
    click.echo(f"dirty       {found.dirty:,}")
    click.echo(f"leased      {found.leased:,}")
    click.echo(f"oldest      {seconds_text(found.oldest_age_seconds)}")
    click.echo(f"dead        {found.dead:,}{', see `asyncwb dead list`' if found.dead else ''}")
    click.echo(f"buffered    {bytes_text(found.bytes)}")
    click.echo(f"epoch       {', '.join(map(str, sorted(set(found.epochs))))}")
    click.echo(
        f"server      {name} {version}, {memory} used of {bytes_text(limit) if limit else 'unlimited'}, "
        f"{server.get('maxmemory_policy', '?')}"
    )
    click.echo(f"processes   {len(found.processes)}")
    if found.processes:
        rows = []
        for process in found.processes:
            facts = process.facts
            state = _state(process)
            rows.append(
                (
                    f"  {plain(str(facts.get('host')))}:{facts.get('pid')}",
                    str(facts.get("flushers")),
                    *(_count(facts.get(name)) for name in _SHOWN),
                    state,
                )
            )
        print_table(("  process", "flushers", "writes/s", "saves/s", "saved", "retried", "state"), rows)
