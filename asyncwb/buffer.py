"""Buffer: the façade; what is behind it lives in an `Engine` for as long as it is open."""

import asyncio
import functools
import logging
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Generic, Literal, NoReturn, Self, TypeVar, Unpack, get_args, overload

from asyncwb.backend import Backend
from asyncwb.codecs import Codec
from asyncwb.completing import completing
from asyncwb.connecting import check_target
from asyncwb.engine import Engine
from asyncwb.errors import (
    ConfigurationError,
    DecodeError,
    FlushTimeout,
    InvalidValue,
    UsageError,
    ValueTooLarge,
)
from asyncwb.events import Event, Observer
from asyncwb.guard import GuardedBackend
from asyncwb.lane import Lane
from asyncwb.lifetime import Lifetime
from asyncwb.reader import Found
from asyncwb.records import CodecName, Version
from asyncwb.redis.targets import RedisClient
from asyncwb.redis.wire import DELETED_BODY, OVERHEAD_BYTES, body_prefix, payload_of, unpack_record
from asyncwb.registry import backend_from_url
from asyncwb.settings import Durability, SettingOptions, Settings, check_choice
from asyncwb.stats import Stats, Totals
from asyncwb.urls import redact
from asyncwb.userkeys import raw_key, several_keys

T = TypeVar("T")

_log: Final = logging.getLogger("asyncwb")


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
        self._life = Lifetime()
        self._engine: Engine = self._new_engine()
        self._max_value_bytes = self.settings.max_value_bytes
        self._value_limit = f"max_value_bytes={self._max_value_bytes}"

    @property
    def totals(self) -> Totals:
        """What this process has done since the buffer was opened; counts on."""
        return self._engine.totals

    # Lifetimes

    async def open(self) -> Self:
        """Connects to Redis and the backend, agrees on an epoch, and starts the flushers.

        Raises:
            RedisUnavailable, BackendUnavailable: not reached within `connect_timeout_seconds`.
            UnsuitableServer, NamespaceMismatch: it would not be safe.
            UsageError: it is open already.
        """
        self._life.begin()
        self._engine = self._new_engine()
        try:
            await self._engine.open()
        except BaseException:
            await self._close()
            raise
        self._limit_values()
        self._life.open()
        return self

    async def aclose(self, *, drain: bool = True) -> None:
        """Drains within `drain_timeout_seconds` (if this process flushes), then stops in bounded time.

        What couldn't be saved stays in Redis, safe, and a warning says how much it is.
        """
        if not self._life.close():
            return
        try:
            if drain:
                await self._engine.finish()
        finally:
            await self._close()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose(drain=kind is None)

    def _new_engine(self) -> Engine:
        return Engine(self._redis, self._backend, self.settings, codec=self._codec.name, emit=self._emit)

    async def _close(self) -> None:
        # A cancelled exit must leave no tasks and no connections either.
        try:
            await completing(self._engine.close())
        finally:
            self._life.end()

    def _limit_values(self) -> None:
        own = self._backend.limits.max_value_bytes
        self._max_value_bytes = self.settings.max_value_bytes
        self._value_limit = f"max_value_bytes={self._max_value_bytes}"
        bound = self.settings.max_bytes
        if bound is not None and bound - OVERHEAD_BYTES < self._max_value_bytes:
            self._max_value_bytes = bound - OVERHEAD_BYTES
            self._value_limit = f"what max_bytes={bound} can ever take"
        if own is not None and own < self._max_value_bytes:
            self._max_value_bytes = own
            self._value_limit = f"the limit of {own} of backend {self._backend.name}"

    # Writing and reading

    async def set(self, key: str, value: T, *, durability: Durability | None = None) -> Version:
        """Writes a value; returns its version when Redis has it.

        Args:
            key: 1 byte to 1 KiB in UTF-8.
            value: what the codec and `type` take; not None.
            durability: how safe it has to be on return, other than `Settings.durability`.

        Raises:
            InvalidKey, InvalidValue: nothing was sent.
            BufferFull, RedisUnavailable: nothing was written.
            OutcomeUnknown: it may or may not have been written.
            NotConfirmed: it is written, but perhaps not as durably as asked for.
            UnsuitableServer: the server can't give that durability; nothing was sent.
        """
        self._life.check()
        level = self._level(durability)
        return await self._engine.writing.put(raw_key(key), self._encoded(key, value), level)

    async def delete(self, key: str, *, durability: Durability | None = None) -> Version:
        """Deletes a key, whether or not it exists: a tombstone, versioned like a value. Raises as `set`."""
        self._life.check()
        return await self._engine.writing.put(raw_key(key), DELETED_BODY, self._level(durability))

    async def get(self, key: str) -> T | None:
        """The value, never older than any write acknowledged before this call; None if there is none.

        Raises:
            DecodeError: what is stored isn't a value of this codec and type.
            RedisUnavailable, BackendError: it can't be told.
        """
        self._life.check()
        raw = raw_key(key)
        (found,) = await self._engine.lane_of(raw).gets.submit((raw,))
        return self._value(key, found)

    async def set_many(self, values: Mapping[str, T], *, durability: Durability | None = None) -> dict[str, Version]:
        """Writes several values in few calls; returns their versions.

        Not atomic over keys. A key or value that is refused is found before anything is sent. Raises as `set`, after
        the other parts have succeeded or failed.
        """
        self._life.check()
        bodies = {raw_key(key): self._encoded(key, value) for key, value in values.items()}
        return await self._engine.writing.put_many(bodies, self._level(durability))

    async def delete_many(self, keys: Iterable[str], *, durability: Durability | None = None) -> dict[str, Version]:
        """Deletes several keys; returns the versions of their tombstones. Raises as `set_many`."""
        self._life.check()
        bodies = dict.fromkeys(map(raw_key, several_keys(keys)), DELETED_BODY)
        return await self._engine.writing.put_many(bodies, self._level(durability))

    async def get_many(self, keys: Iterable[str]) -> dict[str, T]:
        """The values of those keys that have one. Raises as `get`."""
        self._life.check()
        engine = self._engine
        wanted: dict[Lane, list[bytes]] = {}
        for key in dict.fromkeys(several_keys(keys)):
            raw = raw_key(key)
            wanted.setdefault(engine.lane_of(raw), []).append(raw)
        futures = [lane.gets.submit(group, len(group)) for lane, group in wanted.items()]
        values: dict[str, T] = {}
        for group, founds in zip(wanted.values(), await asyncio.gather(*futures), strict=True):
            for raw, found in zip(group, founds, strict=True):
                key = raw.decode()
                value = self._value(key, found)
                if value is not None:
                    values[key] = value
        return values

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
            OutcomeUnknown: neither has anything of the key, and the write is old enough to have been saved, deleted
                later, and forgotten by the backend.
            RedisError, BackendError: it can't be told.
        """
        self._life.check()
        raw = raw_key(key)
        lane = self._engine.lane_of(raw)
        try:
            async with asyncio.timeout(timeout):
                await lane.waiter.wait(raw, version)
        except TimeoutError as error:
            raise FlushTimeout(f"key {key!r} was not saved within {timeout} s; it is still in Redis, safe") from error

    async def drain(self, *, timeout: float | None = None) -> None:
        """Returns when every write acknowledged before this call is saved, also those of other processes.

        Raises:
            FlushTimeout: not in time; says how much is left.
            WriteLost: a server lost writes that this process had acknowledged; `max_remembered_writes` have names.
            DeadLettered: the backend refused some while this waited; those that were dead before don't count.
            OutcomeUnknown: of writes over an hour old nothing is left anywhere.
            RedisError, BackendError: it can't be told.

        All but the first are raised when everything else is saved.
        """
        self._life.check()
        try:
            async with asyncio.timeout(timeout):
                await self._engine.drain()
        except TimeoutError as error:
            raise FlushTimeout(f"not drained within {timeout} s: {await self._engine.left(error)}") from error

    async def stats(self) -> Stats:
        """What is in Redis now, of all processes, and what this process has done."""
        self._life.check()
        parts = await self._engine.of_each_partition(lambda queue: queue.stats())
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
        self._life.check()
        return sum(await self._engine.of_each_partition(lambda queue: queue.audit()))

    async def revive(self, keys: Iterable[str]) -> int:
        """Tries dead-lettered records again; returns how many there were."""
        self._life.check()
        engine = self._engine
        parts: dict[Lane, list[str]] = {}
        for key in several_keys(keys):
            parts.setdefault(engine.lane_of(raw_key(key)), []).append(key)
        revived = 0
        for lane, group in parts.items():
            revived += await engine.patiently(functools.partial(lane.queue.revive, group))
        engine.wake()
        return revived

    # Small things

    def _level(self, durability: Durability | None) -> Durability:
        if durability is None:
            return self.settings.durability
        check_choice("durability", durability, get_args(Durability))
        return durability

    def _encoded(self, key: str, value: T) -> bytes:
        try:
            payload = self._codec.encode(value)
        except InvalidValue as error:
            raise InvalidValue(f"value of key {key!r}: {error}") from error
        if len(payload) > self._max_value_bytes:
            raise ValueTooLarge(f"value of key {key!r} has {len(payload)} bytes, over {self._value_limit}")
        return self._body + payload

    def _value(self, key: str, found: Found) -> T | None:
        if isinstance(found, bytes):
            payload = payload_of(found, self._body)
            if payload is not None:
                return self._codec.decode(payload)
            found = unpack_record(key, found)
        if found is None or found.deleted:
            return None
        if found.codec != self._codec.name:
            raise DecodeError(f"key {key!r} was written by codec {found.codec!r}, not {self._codec.name!r}")
        return self._codec.decode(found.payload)

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
        if not hasattr(self, "_life"):
            return "<Buffer that couldn't be made>"  # as a debugger or an error tracker asks it
        return f"<Buffer {self.settings.namespace!r} -> {self._backend.name}, {self._life.state}>"
