"""`asyncwb worker`: flushes what other processes write, until it is told to stop."""

import click

from asyncwb.cli.options import check_flushers, settings_options
from asyncwb.cli.shared import asynchronous, backend_option, redis_option
from asyncwb.settings import Settings


@click.command()
@redis_option
@backend_option
@settings_options(shown={"partitions": "as the namespace has it"})
@asynchronous
async def worker(*, redis: str | None, backend: str, settings: Settings) -> None:
    """Flush what other processes write. Several workers may run, anywhere.

    Whoever flushes a record decides by its own settings what becomes of it: a worker with --max-attempts 10 gives up
    what a service with max_attempts=None would try for ever, so give both the same. A worker takes every setting, so
    that services can share its variables; those of limits and durability matter only where something is written.

    SIGTERM and SIGINT drain and stop; a second one stops at once, which is safe as well.
    """
    from asyncwb.cli.flushing import flush_until_told  # noqa: PLC0415 - not for --help

    check_flushers(settings)
    await flush_until_told(redis, backend, settings)
