"""The lifetimes of everything behind an open buffer: connections, the backend, batches and flushers."""

import asyncio
import contextlib
import functools
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, ClassVar, Final, NoReturn, TypeVar

import anyio
from anyio.abc import TaskGroup

from asyncwb.core.heartbeat import LEAVE_SECONDS, Heartbeat
from asyncwb.core.partition import Partition
from asyncwb.core.router import Router
from asyncwb.errors import (
    AsyncwbError,
    BackendUnavailable,
    DeadLettered,
    OutcomeUnknown,
    RedisUnavailable,
    ServerSucceeded,
    UsageError,
    WriteLost,
)
from asyncwb.events import Event, TaskCrashed
from asyncwb.flushing.pool import FlusherPool
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.protocol.epochs import Epochs
from asyncwb.protocol.messages import summed
from asyncwb.protocol.namespace import Namespace
from asyncwb.protocol.presence import Presence
from asyncwb.protocol.queue import Queue
from asyncwb.reading.drain import together
from asyncwb.records import CodecName
from asyncwb.redis.connect import Connect, connect
from asyncwb.redis.link import Link
from asyncwb.redis.suitability import Suitability, SuitabilityWatch, check_server
from asyncwb.redis.targets import RedisClient
from asyncwb.settings import Settings
from asyncwb.stats import Stats, Totals
from asyncwb.support.background import BackgroundTasks
from asyncwb.support.backoff import Backoff, retrying
from asyncwb.support.gathering import gather_bounded
from asyncwb.support.outcomes import failure, failures_of
from asyncwb.support.supervision import Supervisor
from asyncwb.support.wakeup import Bell
from asyncwb.writing.durability import DurabilitySupport

T = TypeVar("T")

_log: Final = logging.getLogger("asyncwb")

_STOP_SECONDS: Final = 5.0


class Engine:
    """Everything that runs while a buffer is open; it is opened once and closed once.

    Args:
        redis: a URL, a client, or None for an embedded server.
        backend: opened and closed by the engine.
        settings: the settings of the buffer.
        codec: recorded with the namespace.
        emit: called with every event.
        rng: for jitter; a simulator passes its own.
        connect: makes the link to Redis; a simulator passes its own.

    Attributes:
        partitions: a `Partition` for each partition of the namespace.
        pool: the flushers, None if this process has none.
        router: routes reads and writes; set by `open`.
        totals: what this process has done.
    """

    check_seconds: ClassVar[float] = 1.0
    """How often the epoch and the server are checked, since they may change at any time."""

    def __init__(
        self,
        redis: str | RedisClient | None,
        backend: BackendAdapter,
        settings: Settings,
        *,
        codec: CodecName,
        emit: Callable[[Event], None],
        rng: random.Random | None = None,
        connect: Connect = connect,
    ) -> None:
        self._redis = redis
        self._backend = backend
        self._settings = settings
        self._codec: CodecName = codec
        self._emit = emit
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        self._connect = connect
        self._stack = AsyncExitStack()
        self._background: BackgroundTasks | None = None
        self.partitions: list[Partition] = []
        self.pool: FlusherPool | None = None
        self.totals = Totals()
        self.router: Router

    async def open(self) -> None:
        """Opens everything. Raises the same errors as `Buffer.open`; `close` has to be called even if it does."""
        settings = self._settings
        self._backend.reserve()
        self._stack.callback(self._backend.release)
        link = await self._connect(
            self._redis, self._stack, timeout_seconds=settings.redis_timeout_seconds, emit=self._emit
        )
        await self._at_open(lambda: check_server(link))
        # Close the backend even if opening it fails or is cancelled: a plugin may hold half a connection.
        self._stack.push_async_callback(self._backend.close)
        suitability = Suitability()
        entered: tuple[list[Queue], Epochs] | None = None

        async def enter() -> tuple[list[Queue], Epochs]:
            nonlocal entered
            if entered is None:
                entered = await self._enter(link, suitability)
            return entered

        async def disown(first: int, last: int) -> None:
            _, epochs = await enter()
            await epochs.disown(first, last)

        check_epochs = Epochs.check_at_open
        try:
            await self._backend.open(disown)
        except BackendUnavailable as error:
            # As long as Redis continues in its epoch the backend isn't needed yet, and a service must be able to start
            # during an outage.
            _log.warning("starting without the backend: %s", error)
            check_epochs = Epochs.join
        # Only now: a place that belongs to another namespace must not fix the number of partitions.
        queues, epochs = await enter()
        await self._patient_with_failovers(lambda: check_epochs(epochs))
        support = DurabilitySupport(link, settings)
        await self._at_open(lambda: support.require(settings.durability))
        supervisor = Supervisor(
            initial_seconds=settings.backoff_initial_seconds,
            longest_seconds=settings.backoff_max_seconds,
            on_crash=self._crashed,
            rng=self._rng,
        )
        bell = Bell()
        self.partitions = [
            Partition(
                queue,
                epochs,
                self._backend,
                support,
                settings,
                totals=self.totals,
                rng=self._rng,
                wake=bell.ring,
                emit=self._emit,
            )
            for queue in queues
        ]
        if settings.flushers:
            self.pool = FlusherPool(
                queues,
                self._backend,
                epochs,
                settings,
                totals=self.totals,
                emit=self._emit,
                bell=bell,
                waits=[partition.waits for partition in self.partitions],
                rng=self._rng,
                supervisor=supervisor,
            )
        self._stack.push_async_callback(self._leave)
        self.router = Router(self.partitions, support, settings, self._rng)

        heartbeat = Heartbeat(
            Presence(queues[0]),
            settings,
            self.totals,
            condition=self._condition,
            progress=self._backend.progress,
            rng=self._rng,
        )

        watch = SuitabilityWatch(link, suitability, patience_seconds=settings.redis_retry_seconds, emit=self._emit)

        async def look_at_server() -> None:
            await watch.check()
            support.forget()  # the durability that it can promise may have been configured away, too

        def start(group: TaskGroup) -> None:
            for partition in self.partitions:
                partition.start(group, supervisor)
            group.start_soon(supervisor.keep, "serving writes to all partitions", self.router.serve)
            for what, check in (("the epoch", epochs.check), ("the server", look_at_server)):
                group.start_soon(supervisor.keep, f"the watch over {what}", partial(self._watch, what, check))
            group.start_soon(supervisor.keep, "the heartbeat", heartbeat.run)
            if self.pool is not None:
                group.start_soon(supervisor.keep, "the pool of flushers", self.pool.run)

        self._background = BackgroundTasks(start, self._ended)

    async def _enter(self, link: Link, suitability: Suitability) -> tuple[list[Queue], Epochs]:
        """Learns how many partitions the namespace has, and makes their queues. Raises as `Namespace.enter`."""
        name, wanted = self._settings.namespace, self._settings.partitions
        count = await self._at_open(lambda: Namespace(link, name).enter(partitions=wanted, codec=self._codec))
        queues = [Queue(link, name, number, count, suitability) for number in range(count)]
        epochs = Epochs(
            queues,
            self._backend.new_epoch,
            codec=self._codec,
            note_server=self._backend.note_server,
            emit=self._emit,
        )
        return queues, epochs

    async def finish(self) -> None:
        """Waits for acknowledgements and, if this process has flushers, drains; logs a warning about what is left.

        It takes at most `drain_timeout_seconds`, plus a few seconds to count what is left.
        """
        try:
            async with asyncio.timeout(self._settings.drain_timeout_seconds):
                await self.router.join()
                await gather_bounded([partition.join for partition in self.partitions])
                if self.pool is not None:
                    await self.drain()
        except (DeadLettered, WriteLost) as error:
            _log.warning("closing the buffer: %s", error)
        except (TimeoutError, AsyncwbError) as error:
            _log.warning("closing without having saved everything: %s", await self.left(error))

    async def confirmed(self) -> None:
        """Returns when no call waits for a confirmation, or after a moment: the writes are in Redis in any case."""
        seconds = min(self._settings.drain_timeout_seconds, _STOP_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.router.confirmed()

    async def close(self) -> None:
        """Stops everything in bounded time."""
        with anyio.move_on_after(4 * _STOP_SECONDS) as limit:
            if self._background is not None:
                await self._background.stop(_STOP_SECONDS)
            self._refuse(UsageError("the buffer was closed"))
            try:
                await self._stack.aclose()
            except AsyncwbError as error:
                _log.warning("closing the buffer: %s", error)
        if limit.cancelled_caught:
            _log.warning("closing took longer than %g s and was given up", 4 * _STOP_SECONDS)

    async def _leave(self) -> None:
        """Removes from Redis what only this process needed; if Redis doesn't answer, it expires there."""
        with anyio.move_on_after(LEAVE_SECONDS, shield=True):
            await gather_bounded([partition.leave for partition in self.partitions])

    def wake(self) -> None:
        """Tells the flushers of this process that something may be due."""
        if self.pool is not None:
            self.pool.bell.ring()

    async def drain(self) -> None:
        """Returns when every write acknowledged before this call is saved.

        Raises:
            WriteLost, OutcomeUnknown, DeadLettered: some writes can't be saved any more; all others have been.
            RedisError, BackendError, NamespaceMismatch: it can't be determined what is saved.
        """
        drains = [partition.drain() for partition in self.partitions]
        parts = await gather_bounded([drain.run for drain in drains])
        if self.pool is not None:
            await self.pool.acked()
        drained = together(parts)
        if not drained.errors:
            for partition, part in zip(self.partitions, parts, strict=True):
                partition.acknowledged.tell_lost(part.gone)
        drained.raise_for_loss()

    async def retry_dead(self, keys: Sequence[bytes]) -> int:
        """Makes dead-lettered records dirty; returns how many. Raises the same errors as `Buffer.retry_dead`."""
        retried, failed = 0, dict[str, AsyncwbError]()

        async def of_one(partition: Partition, raws: list[bytes]) -> None:
            nonlocal retried
            group = [raw.decode() for raw in raws]
            try:
                count = await self.patiently(functools.partial(partition.queue.retry_dead, group))
            except AsyncwbError as error:
                failed.update(failures_of(group, error))
            else:
                retried += count

        await gather_bounded([functools.partial(of_one, *part) for part in self.router.grouped(keys).items()])
        self.wake()
        if failed:
            raise failure(failed, of=len(keys))
        return retried

    async def stats(self) -> Stats:
        """Returns what all processes have in Redis now, and what this process has done. Raises RedisError."""
        held = summed(await self.of_each_partition(lambda queue: queue.stats()))
        return Stats(
            dirty=held.dirty,
            leased=held.leased,
            dead=held.dead,
            buffered_bytes=held.bytes,
            oldest_age_seconds=held.oldest_age_seconds,
            epoch=max(held.epochs),
            totals=self.totals.copy(),
        )

    async def left(self, error: Exception) -> str:
        """Describes for a message how much is unsaved, and why (`error`)."""
        reason = str(error) or "the time limit has passed"
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                counts = await self.of_each_partition(lambda queue: queue.pending())
        except (TimeoutError, AsyncwbError):
            return f"{reason}; how much is left can't be determined, since Redis doesn't answer"
        dirty, leased = (sum(column) for column in zip(*counts, strict=True))
        return (
            f"{dirty} dirty and {leased} leased record(s) of namespace {self._settings.namespace!r} are left in "
            f"Redis, where they are safe until another flusher or the next start saves them ({reason})"
        )

    async def patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Sends Redis an idempotent request, and repeats it after a lost connection. Raises RedisError."""
        return await retrying(ask, limit_seconds=self._settings.redis_retry_seconds, rng=self._rng)

    async def of_each_partition(self, ask: Callable[[Queue], Awaitable[T]]) -> list[T]:
        """Sends an idempotent request to all partitions concurrently; returns their answers. Raises RedisError."""

        async def one(queue: Queue) -> T:
            return await self.patiently(lambda: ask(queue))

        return await gather_bounded([functools.partial(one, partition.queue) for partition in self.partitions])

    def _crashed(self, name: str, error: BaseException, seconds: float) -> None:
        self.totals.crashes += 1
        self._emit(TaskCrashed(name, error, seconds))

    async def _patient_with_failovers(self, check: Callable[[], Awaitable[None]]) -> None:
        """Runs an epoch check, and repeats it for a while if it raises `ServerSucceeded`.

        During a failover a connection may still lead to the former primary: it is refused only if that lasts longer
        than `connect_timeout_seconds`.
        """
        backoff = Backoff(self._settings.connect_timeout_seconds, self._rng)
        while True:
            try:
                return await self._at_open(check)
            except ServerSucceeded:
                if not await backoff.pause():
                    raise

    async def _at_open(self, ask: Callable[[], Awaitable[T]]) -> T:
        return await retrying(ask, limit_seconds=self._settings.connect_timeout_seconds, rng=self._rng)

    def _condition(self) -> dict[str, Any]:
        """What the heartbeat reports about the flushers."""
        return {"outage": False, "living": 0} if self.pool is None else self.pool.condition()

    def _ended(self, error: BaseException | None) -> None:
        reason = "the buffer was closed" if error is None else f"the buffer's background work has ended: {error!r}"
        self._refuse(UsageError(reason))

    def _refuse(self, error: UsageError) -> None:
        """Fails every call that still waits, and every later one."""
        if self.partitions:
            self.router.close(error)
        for partition in self.partitions:
            partition.close(error)

    async def _watch(self, what: str, check: Callable[[], Awaitable[None]]) -> NoReturn:
        """Runs a check about once a second, since what it checks may change at any time without notice."""
        reported = False
        while True:
            await asyncio.sleep(self.check_seconds * self._rng.uniform(0.9, 1.1))
            try:
                await check()
                reported = False
            except AsyncwbError as error:
                # The link has already reported a lost server.
                lost = isinstance(error, RedisUnavailable | OutcomeUnknown)
                level = logging.DEBUG if reported or lost else logging.WARNING
                _log.log(level, "%s can't be checked now: %s", what, error)
                reported = not lost
