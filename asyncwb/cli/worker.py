"""`asyncwb worker`: flushes what other processes write, until it is told to stop."""

import click

from asyncwb.cli.shared import asynchronous, backend_option, namespace_option, redis_option
from asyncwb.settings import Commit, Settings


@click.command()
@redis_option
@backend_option
@namespace_option
@click.option("--flushers", type=click.IntRange(1, 1024), default=4, show_default=True, help="Concurrent flushers.")
@click.option(
    "--commit", type=click.Choice(["script", "watch"]), default="script", show_default=True, help="How a flush ends."
)
@click.option("--max-delay", type=float, default=0.0, show_default=True, help="Seconds to coalesce rewritten records.")
@click.option(
    "--lease", type=float, default=30.0, show_default=True, help="Seconds until a dead worker's records move."
)
@click.option("--drain-timeout", type=float, default=30.0, show_default=True, help="Seconds to drain when stopping.")
@asynchronous
async def worker(
    *,
    redis: str | None,
    backend: str,
    namespace: str,
    flushers: int,
    commit: Commit,
    max_delay: float,
    lease: float,
    drain_timeout: float,
) -> None:
    """Flush what other processes write. Several workers may run, anywhere.

    SIGTERM and SIGINT drain and stop; a second one stops at once, which is safe as well.
    """
    from asyncwb.cli.flushing import flush_until_told  # noqa: PLC0415 - not for --help

    settings = Settings(
        namespace=namespace,
        flushers=flushers,
        commit=commit,
        max_delay_seconds=max_delay,
        lease_seconds=lease,
        drain_timeout_seconds=drain_timeout,
    )
    await flush_until_told(redis, backend, settings)
