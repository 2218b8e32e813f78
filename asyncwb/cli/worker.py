"""`asyncwb worker`: flushes what other processes write, until it is told to stop."""

import asyncio
import contextlib
import logging
import os
import random
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

import click

from asyncwb.buffer import Buffer
from asyncwb.cli.shared import EXIT_INTERRUPTED, asynchronous, backend_option, namespace_option, redis_option
from asyncwb.codecs import WIRE_CODECS, Codec
from asyncwb.connecting import connect
from asyncwb.errors import ConfigurationError
from asyncwb.records import CodecName
from asyncwb.redis.queue import Queue
from asyncwb.redis.retry import retrying
from asyncwb.registry import backend_from_url
from asyncwb.settings import Commit, Settings
from asyncwb.urls import redact

_log: Final = logging.getLogger("asyncwb.worker")

_LOOK_EVERY_SECONDS: Final = 0.25
_REPORT_EVERY_SECONDS: Final = 10.0


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
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stopping = asyncio.Event()
    for which in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(which, _stopper(stopping))
    settings = Settings(
        namespace=namespace,
        flushers=flushers,
        commit=commit,
        max_delay_seconds=max_delay,
        lease_seconds=lease,
        drain_timeout_seconds=drain_timeout,
    )
    where = redact(redis or "embedded://.asyncwb")
    backend_from_url(backend, codec=Codec())  # a wrong URL is an error now, not when there is something to flush
    async with AsyncExitStack() as stack:
        layout = await _made_with(redis, settings, stack, stopping)
        if layout is None:
            return
        partitions, codec = layout
        buffer = await Buffer(redis, backend=backend, codec=codec, settings=settings, partitions=partitions).open()
        try:
            _log.info("flushing namespace %s from %s to %s", namespace, where, redact(backend))
            await _report_until(stopping, buffer)
            _log.info("draining, then stopping; another signal stops at once")
        finally:
            await buffer.aclose(drain=stopping.is_set())
        _log.info("stopped; %d record(s) saved", buffer.totals.saved)


async def _made_with(
    redis: str | None, settings: Settings, stack: AsyncExitStack, stopping: asyncio.Event
) -> tuple[int, CodecName] | None:
    """Partition count and codec of the namespace: its writers choose them, so a new one is waited for.

    None if the worker has to stop first.
    """
    link = await connect(redis, stack, timeout_seconds=settings.connect_timeout_seconds)
    queue, rng = Queue(link, settings.namespace, 0), random.Random()  # noqa: S311 - jitter, not secrets
    waiting = False
    while not stopping.is_set():
        hello = await retrying(queue.hello, limit_seconds=settings.connect_timeout_seconds, rng=rng)
        if hello.layout:
            if hello.codec not in WIRE_CODECS or not hello.partitions.isdecimal():
                raise ConfigurationError(f"namespace {settings.namespace!r} was made by another version of asyncwb")
            return int(hello.partitions), hello.codec
        if not waiting:
            waiting = True
            _log.info("namespace %s is new, waiting for its first writer", settings.namespace)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), _LOOK_EVERY_SECONDS)
    return None


def _stopper(stopping: asyncio.Event) -> Callable[[], None]:
    def stop() -> None:
        if stopping.is_set():
            # Nothing is lost: what was being saved is leased, and another flusher takes it when the lease ends.
            os._exit(EXIT_INTERRUPTED)
        stopping.set()

    return stop


async def _report_until(stopping: asyncio.Event, buffer: Buffer[object]) -> None:
    reported = 0
    while not stopping.is_set():
        try:
            await asyncio.wait_for(stopping.wait(), _REPORT_EVERY_SECONDS)
        except TimeoutError:
            if buffer.totals.saved != reported:
                reported = buffer.totals.saved
                _log.info("%d record(s) saved, %d failed save(s) tried again", reported, buffer.totals.retried)
