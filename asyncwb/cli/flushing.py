"""The work of `asyncwb worker`: flushes what other processes write, until it is told to stop."""

import asyncio
import contextlib
import logging
import os
import random
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

from asyncwb.buffer import Buffer
from asyncwb.cli.shared import EXIT_INTERRUPTED
from asyncwb.codecs import Codec
from asyncwb.plugins.registry import backend_from_url
from asyncwb.protocol.namespace import Namespace
from asyncwb.records import CodecName
from asyncwb.redis.connect import connect
from asyncwb.settings import Settings
from asyncwb.support.backoff import retrying
from asyncwb.support.redaction import redact

_log: Final = logging.getLogger("asyncwb.worker")

_LOOK_EVERY_SECONDS: Final = 0.25
_REPORT_EVERY_SECONDS: Final = 10.0


async def flush_until_told(redis: str | None, backend: str, settings: Settings) -> None:
    """Flushes until SIGTERM or SIGINT; then returns when everything is saved or `drain_timeout_seconds` have passed.

    Args:
        redis, backend: URLs; `redis` is None for an embedded server.
        settings: those of the buffer.

    Raises:
        NamespaceMismatch: the namespace has another layout or number of partitions, or its codec is unknown.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stopping = asyncio.Event()
    for which in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(which, _stopper(stopping))
    where = redact(redis or "embedded://.asyncwb")
    backend_from_url(backend, codec=Codec())  # report a wrong URL now, rather than when there is something to flush
    async with AsyncExitStack() as stack:
        codec = await _codec_of(redis, settings, stack, stopping)
        if codec is None:
            return
        buffer = Buffer[object](redis, backend=backend, codec=codec, settings=settings)
        await buffer.open()
        try:
            _log.info("flushing namespace %s from %s to %s", settings.namespace, where, redact(backend))
            await _report_until(stopping, buffer)
            _log.info("draining, then stopping; another signal stops at once")
        finally:
            await buffer.aclose(drain=stopping.is_set())
        _log.info("stopped; %d record(s) saved", buffer.totals.saved)


async def _codec_of(
    redis: str | None, settings: Settings, stack: AsyncExitStack, stopping: asyncio.Event
) -> CodecName | None:
    """Returns the codec of the namespace, or None if the worker has to stop first.

    Writers choose it, and the number of partitions, so if the namespace is new this waits for its first writer.
    """
    link = await connect(redis, stack, timeout_seconds=settings.connect_timeout_seconds)
    namespace, rng = Namespace(link, settings.namespace), random.Random()  # noqa: S311 - jitter, not secrets
    waiting = False
    while not stopping.is_set():
        made = await retrying(namespace.read, limit_seconds=settings.connect_timeout_seconds, rng=rng)
        if made is not None:
            made.count()  # speaks of an overwritten layout or number first
            return made.known_codec()
        if not waiting:
            waiting = True
            _log.info("namespace %s is new, waiting for its first writer", settings.namespace)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), _LOOK_EVERY_SECONDS)
    return None


def _stopper(stopping: asyncio.Event) -> Callable[[], None]:
    def stop() -> None:
        if stopping.is_set():
            # Nothing is lost: records being saved are leased, and another flusher claims them when the lease ends.
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
