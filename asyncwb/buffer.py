"""Buffer: the façade, and the lifetimes of everything behind it."""

import asyncio
import functools
import logging
import os
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Generic, Literal, NoReturn, Self, TypeVar, Unpack, overload

import anyio
from anyio.abc import TaskGroup

from asyncwb.backend import Backend
from asyncwb.codecs import Codec
from asyncwb.connecting import check_target, connect
from asyncwb.errors import (
    AsyncwbError,
    ConfigurationError,
    DecodeError,
    FlushTimeout,
    InvalidValue,
    UsageError,
    ValueTooLarge,
)
from asyncwb.events import EpochChanged, Event, Observer
from asyncwb.guard import GuardedBackend
from asyncwb.lane import Lane, in_pages
from asyncwb.pool import FlusherPool
from asyncwb.records import CodecName, Version
from asyncwb.redis.connection import RedisClient, check_server
from asyncwb.redis.epochs import TEMPORARY, Epochs
from asyncwb.redis.keys import partition_of
from asyncwb.redis.queue import Queue
from asyncwb.redis.retry import retrying
from asyncwb.redis.wire import DELETED_BODY, body_prefix
from asyncwb.registry import backend_from_url
from asyncwb.service import Service
from asyncwb.settings import SettingOptions, Settings
from asyncwb.stats import Stats, Totals
from asyncwb.urls import redact
from asyncwb.userkeys import raw_key, several_keys

T = TypeVar("T")
R = TypeVar("R")

_log: Final = logging.getLogger("asyncwb")

_CHECK_EPOCH_SECONDS: Final = 1.0
_STOP_SECONDS: Final = 5.0


class Buffer(Generic[T]):
    """A write buffer: writes return when Redis has them, and flushers carry every one of them to the backend.

    ::

        async with Buffer("redis://localhost", backend="sqlite:///app.db", type=User) as users:
            await users.set("42", User("Ada", 1))
            user = await users.get("42")

    Args:
        redis: a URL (`redis://`, `rediss://`, `valkey://`, `unix://`), a `redis.asyncio.Redis` (its connection
            arguments are used; it is never closed), `embedded://DIR`, or None: a private Valkey in `.asyncwb/`.
        backend: a URL whose scheme names an installed plugin, or a `Backend`. The buffer opens and closes it.
        type: what `get` returns: a msgspec Struct, a dataclass, or any type that msgspec knows.
        codec: "json", "msgpack" or "bytes"; kept with the namespace.
        observer: is called with every `Event`; has to be quick.
        settings: all settings; single ones can be given as keyword arguments, see `Settings`.

    Raises:
        ConfigurationError: an argument can't work.
    """

    @overload
    def __init__(
        self: "Buffer[bytes]",
        redis: str | RedisClient | None = None,
        *,
        backend: str | Backend,
        codec: Literal["bytes"],
        observer: Observer | None = None,
        settings: Settings | None = None,
        **options: Unpack[SettingOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        redis: str | RedisClient | None = None,
        *,
        backend: str | Backend,
        type: type[T],
        codec: CodecName = "json",
        observer: Observer | None = None,
        settings: Settings | None = None,
        **options: Unpack[SettingOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: "Buffer[Any]",
        redis: str | RedisClient | None = None,
        *,
        backend: str | Backend,
        codec: CodecName = "json",
        observer: Observer | None = None,
        settings: Settings | None = None,
        **options: Unpack[SettingOptions],
    ) -> None: ...
    def __init__(
        self,
        redis: str | RedisClient | None = None,
        *,
        backend: str | Backend,
        type: Any = Any,  # noqa: A002 - the word that msgspec and users say
        codec: CodecName = "json",
        observer: Observer | None = None,
        settings: Settings | None = None,
        **options: Unpack[SettingOptions],
    ) -> None:
        self.settings = (settings or Settings()).replace(options)
        self._codec: Codec[T] = Codec(codec, type)
        self._body = body_prefix(codec)
        check_target(redis)
        self._redis = redis
        self._observer = observer
        name = redact(backend) if isinstance(backend, str) else f"{backend.__class__.__name__}()"
        plugin = backend_from_url(backend, codec=self._codec) if isinstance(backend, str) else backend
        if not isinstance(plugin, Backend):
            raise ConfigurationError(f"backend={name}: pass a URL or an object with the methods of asyncwb.Backend")
        self._backend = GuardedBackend(
            plugin,
            name=name,
            connect_timeout_seconds=self.settings.connect_timeout_seconds,
            save_timeout_seconds=self.settings.save_timeout_seconds,
        )
        self._rng = random.Random()  # noqa: S311 - jitter, not secrets
        self._state: Literal["new", "opening", "open", "closing", "closed"] = "new"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._stack = AsyncExitStack()
        self._lanes: list[Lane] = []
        self._pool: FlusherPool | None = None
        self._service: Service | None = None
        self._max_value_bytes = self.settings.max_value_bytes
        self._value_limit = f"max_value_bytes={self._max_value_bytes}"
        self.totals = Totals()

    # Lifetimes

    async def open(self) -> Self:
        """Connects to Redis and the backend, agrees on an epoch, and starts the flushers.

        Raises:
            RedisUnavailable, BackendUnavailable: not reached within `connect_timeout_seconds`.
            UnsuitableServer, NamespaceMismatch: it would not be safe.
            UsageError: it is open already.
        """
        if self._state not in ("new", "closed"):
            raise UsageError(f"this buffer is {self._state} already")
        self._state = "opening"
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        try:
            await self._open()
        except BaseException:
            await self._abandon()
            raise
        self._state = "open"
        return self

    async def aclose(self, *, drain: bool = True) -> None:
        """Drains within `drain_timeout_seconds` (if this process flushes), then stops in bounded time.

        What couldn't be saved stays in Redis, safe, and a warning says how much it is.
        """
        if self._state in ("new", "closed"):
            return
        self._here()
        if self._state != "open":
            raise UsageError(f"this buffer is {self._state}")
        self._state = "closing"
        try:
            if drain:
                await self._finish()
        finally:
            await self._abandon()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose(drain=kind is None)

    async def _open(self) -> None:
        settings = self.settings
        self._stack = AsyncExitStack()
        self.totals = Totals()
        link = await connect(self._redis, self._stack, timeout_seconds=settings.redis_timeout_seconds)
        await retrying(lambda: check_server(link), limit_seconds=settings.connect_timeout_seconds, rng=self._rng)
        # Closed also after an open that failed or was cancelled: a plugin may hold half a connection.
        self._stack.push_async_callback(self._backend.close)
        await self._backend.open()
        self._limit_values()

        queues = [Queue(link, settings.namespace, number) for number in range(settings.partitions)]
        epochs = Epochs(queues, self._backend.new_epoch, codec=self._codec.name)
        await retrying(epochs.check, limit_seconds=settings.connect_timeout_seconds, rng=self._rng)
        epochs.on_change = lambda partition, epoch: self._emit(EpochChanged(partition, epoch))
        self._pool = None
        if settings.flushers:
            self._pool = FlusherPool(
                queues, self._backend, settings, totals=self.totals, emit=self._emit, rng=self._rng
            )
        self._lanes = [
            Lane(queue, epochs, self._backend, settings, rng=self._rng, on_wake=self._wake) for queue in queues
        ]

        def start(group: TaskGroup) -> None:
            for lane in self._lanes:
                lane.start(group)
            group.start_soon(self._watch_epochs, epochs)
            if self._pool is not None:
                group.start_soon(self._pool.run)

        self._service = Service(start, self._ended)

    def _limit_values(self) -> None:
        own = self._backend.limits.max_value_bytes
        self._max_value_bytes = self.settings.max_value_bytes
        self._value_limit = f"max_value_bytes={self._max_value_bytes}"
        if own is not None and own < self._max_value_bytes:
            self._max_value_bytes = own
            self._value_limit = f"the limit of {own} of backend {self._backend.name}"

    async def _finish(self) -> None:
        try:
            async with asyncio.timeout(self.settings.drain_timeout_seconds):
                for lane in self._lanes:
                    await lane.join()
                if self._pool is not None:
                    await self._drain()
        except (TimeoutError, AsyncwbError) as error:
            _log.warning("closing without having saved everything: %s", await self._left(error))

    async def _left(self, error: Exception) -> str:
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                dirty, leased = await self._pending()
        except (TimeoutError, AsyncwbError):
            return f"{str(error) or 'time is over'}; Redis can't be asked what is left"
        return (
            f"{dirty} dirty and {leased} leased record(s) of namespace {self.settings.namespace!r} are left in Redis, "
            f"safe; another flusher or the next start saves them ({str(error) or 'time is over'})"
        )

    async def _abandon(self) -> None:
        # Bounded, and shielded: a cancelled exit must not leave tasks and connections behind.
        with anyio.move_on_after(4 * _STOP_SECONDS, shield=True) as limit:
            if self._service is not None:
                await self._service.stop(_STOP_SECONDS)
                self._service = None
            for lane in self._lanes:
                lane.close(UsageError("the buffer was closed"))
            try:
                await self._stack.aclose()
            except AsyncwbError as error:
                _log.warning("closing: %s", error)
        if limit.cancelled_caught:
            _log.warning("closing took longer than %g s and was given up", 4 * _STOP_SECONDS)
        self._state = "closed"

    def _ended(self, error: BaseException | None) -> None:
        if self._state == "open":
            for lane in self._lanes:
                lane.close(UsageError(f"the buffer's background work has ended: {error!r}"))

    async def _watch_epochs(self, epochs: Epochs) -> NoReturn:
        reported = False
        while True:
            await asyncio.sleep(_CHECK_EPOCH_SECONDS * self._rng.uniform(0.9, 1.1))
            try:
                await epochs.check()
                reported = False
            except TEMPORARY as error:
                _log.log(logging.DEBUG if reported else logging.WARNING, "the epoch can't be checked now: %s", error)
                reported = True

    # Writing and reading

    async def set(self, key: str, value: T) -> Version:
        """Writes a value; returns its version when Redis has it (see `durability`).

        Raises:
            InvalidKey, InvalidValue: nothing was sent.
            BufferFull, RedisUnavailable: nothing was written.
            OutcomeUnknown: it may or may not have been written.
        """
        self._check()
        (version,) = await self._submit(raw_key(key), self._encoded(key, value))
        self.totals.acknowledged += 1
        return version

    async def delete(self, key: str) -> Version:
        """Deletes a key, whether or not it exists: a tombstone, versioned like a value. Raises as `set`."""
        self._check()
        (version,) = await self._submit(raw_key(key), DELETED_BODY)
        self.totals.acknowledged += 1
        return version

    async def get(self, key: str) -> T | None:
        """The value, never older than any write acknowledged before this call; None if there is none.

        Raises:
            DecodeError: what is stored isn't a value of this codec and type.
            RedisUnavailable, BackendError: it can't be told.
        """
        return (await self.get_many([key])).get(key)

    async def set_many(self, values: Mapping[str, T]) -> dict[str, Version]:
        """Writes several values in few calls; returns their versions.

        Not atomic over keys. A key or value that is refused is found before anything is sent. Raises as `set`, after
        the other parts have succeeded or failed.
        """
        self._check()
        return await self._put_many({raw_key(key): self._encoded(key, value) for key, value in values.items()})

    async def delete_many(self, keys: Iterable[str]) -> dict[str, Version]:
        """Deletes several keys; returns the versions of their tombstones. Raises as `set_many`."""
        self._check()
        return await self._put_many(dict.fromkeys(map(raw_key, several_keys(keys)), DELETED_BODY))

    async def get_many(self, keys: Iterable[str]) -> dict[str, T]:
        """The values of those keys that have one. Raises as `get`."""
        self._check()
        wanted: dict[int, list[str]] = {}
        for key in dict.fromkeys(several_keys(keys)):
            wanted.setdefault(partition_of(raw_key(key), len(self._lanes)), []).append(key)
        futures = [self._lanes[number].gets.submit(group, weight=len(group)) for number, group in wanted.items()]
        values: dict[str, T] = {}
        for found in await asyncio.gather(*futures):
            for key, record in found.items():
                if record.codec != self._codec.name:
                    raise DecodeError(f"key {key!r} was written by codec {record.codec!r}, not {self._codec.name!r}")
                values[key] = self._codec.decode(record.payload)
        return values

    def _submit(self, raw: bytes, body: bytes) -> asyncio.Future[list[Version]]:
        lane = self._lanes[partition_of(raw, len(self._lanes))]
        return lane.puts.submit(((raw, body),), size=len(body))

    async def _put_many(self, bodies: dict[bytes, bytes]) -> dict[str, Version]:
        parts: dict[int, list[tuple[bytes, bytes]]] = {}
        for write in bodies.items():
            parts.setdefault(partition_of(write[0], len(self._lanes)), []).append(write)
        groups: list[list[tuple[bytes, bytes]]] = []
        futures: list[asyncio.Future[list[Version]]] = []
        for number, writes in parts.items():
            for group in in_pages(writes, self.settings.batch_bytes):
                groups.append(group)
                size = sum(len(body) for _, body in group)
                futures.append(self._lanes[number].puts.submit(group, weight=len(group), size=size))
        versions: dict[str, Version] = {}
        failure: BaseException | None = None
        for group, outcome in zip(groups, await asyncio.gather(*futures, return_exceptions=True), strict=True):
            if isinstance(outcome, BaseException):
                failure = failure or outcome
            else:
                versions.update(zip((raw.decode() for raw, _ in group), outcome, strict=True))
        self.totals.acknowledged += len(versions)
        if failure is not None:
            raise failure
        return versions

    # Waiting and looking

    async def flush(self, key: str, *, version: Version | None = None, timeout: float | None = None) -> None:
        """Returns when the backend holds at least this write (by default the latest that Redis has of the key).

        Args:
            key: of the write.
            version: as `set` or `delete` returned it.
            timeout: seconds; None waits for as long as it takes.

        Raises:
            FlushTimeout: not in time; it stays in Redis, safe.
            DeadLettered: the backend refused it for good.
            WriteLost: neither Redis nor the backend has it.
        """
        self._check()
        lane = self._lanes[partition_of(raw_key(key), len(self._lanes))]
        try:
            async with asyncio.timeout(timeout):
                await lane.waiter.wait(key, version)
        except TimeoutError as error:
            raise FlushTimeout(f"key {key!r} was not saved within {timeout} s; it is still in Redis, safe") from error

    async def drain(self, *, timeout: float | None = None) -> None:
        """Returns when every write acknowledged before this call is saved.

        Raises:
            FlushTimeout: not in time; says how much is left.
        """
        self._check()
        try:
            async with asyncio.timeout(timeout):
                await self._drain()
        except TimeoutError as error:
            raise FlushTimeout(f"not drained within {timeout} s: {await self._left(error)}") from error

    async def stats(self) -> Stats:
        """What is in Redis now, of all processes, and what this process has done."""
        self._check()
        parts = [await self._patiently(lane.queue.stats) for lane in self._lanes]
        ages = [part.oldest_age_seconds for part in parts if part.oldest_age_seconds is not None]
        return Stats(
            dirty=sum(part.dirty for part in parts),
            leased=sum(part.leased for part in parts),
            dead=sum(part.dead for part in parts),
            buffered_bytes=sum(part.bytes for part in parts),
            oldest_age_seconds=max(ages, default=None),
            epoch=max(part.epoch for part in parts),
            totals=self.totals.copy(),
        )

    async def audit(self) -> int:
        """Walks over all records and makes those dirty that are in no set; returns how many. Needed after nothing
        that asyncwb does: it repairs what another program has broken."""
        self._check()
        return sum([await self._patiently(lane.queue.audit) for lane in self._lanes])

    async def revive(self, keys: Iterable[str]) -> int:
        """Tries dead-lettered records again; returns how many there were."""
        self._check()
        parts: dict[int, list[str]] = {}
        for key in several_keys(keys):
            parts.setdefault(partition_of(raw_key(key), len(self._lanes)), []).append(key)
        revived = 0
        for number, group in parts.items():
            queue = self._lanes[number].queue
            revived += await self._patiently(functools.partial(queue.revive, group))
        self._wake()
        return revived

    async def _drain(self) -> None:
        for lane in self._lanes:
            await lane.drain()

    async def _pending(self) -> tuple[int, int]:
        counts = [await self._patiently(lane.queue.pending) for lane in self._lanes]
        return sum(dirty for dirty, _ in counts), sum(leased for _, leased in counts)

    async def _patiently(self, ask: Callable[[], Awaitable[R]]) -> R:
        return await retrying(ask, limit_seconds=self.settings.redis_retry_seconds, rng=self._rng)

    # Small things

    def _check(self) -> None:
        # One line where all is well: every call passes here.
        if self._state == "open" and asyncio.get_running_loop() is self._loop and os.getpid() == self._pid:
            return
        if self._state == "new":
            raise UsageError("this buffer isn't open: use `async with buffer:` or await buffer.open()")
        self._here()
        raise UsageError(f"this buffer is {self._state}")

    def _here(self) -> None:
        if os.getpid() != self._pid:
            raise UsageError("this buffer was opened before a fork: make a new one in the child process")
        if asyncio.get_running_loop() is not self._loop:
            raise UsageError("this buffer was opened in another event loop: make one for each loop")

    def _encoded(self, key: str, value: T) -> bytes:
        try:
            payload = self._codec.encode(value)
        except InvalidValue as error:
            raise InvalidValue(f"value of key {key!r}: {error}") from error
        if len(payload) > self._max_value_bytes:
            raise ValueTooLarge(f"value of key {key!r} has {len(payload)} bytes, over {self._value_limit}")
        return self._body + payload

    def _wake(self) -> None:
        if self._pool is not None:
            self._pool.bell.ring()

    def _emit(self, event: Event) -> None:
        if self._observer is None:
            return
        try:
            self._observer(event)
        except Exception:  # noqa: BLE001 - somebody else's code, and metrics must not stop a flush
            _log.exception("the observer failed on %r", event)

    def __reduce__(self) -> NoReturn:
        raise UsageError("a Buffer holds connections and can't be pickled: make one in each process")

    def __repr__(self) -> str:
        return f"<Buffer {self.settings.namespace!r} -> {self._backend.name}, {self._state}>"
