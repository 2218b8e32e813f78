"""Buffer: the façade; what is behind it lives in an `Engine` for as long as it is open."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Literal,
    NoReturn,
    Self,
    TypeVar,
    Unpack,
    cast,
    get_args,
    overload,
)

from asyncwb.backend import Backend
from asyncwb.codecs import Codec
from asyncwb.core.arguments import checked_flag, checked_items, checked_timeout, checked_version
from asyncwb.core.engine import Engine
from asyncwb.core.lifecycle import Lifetime
from asyncwb.core.userkeys import raw_key, raw_keys
from asyncwb.core.values import Values
from asyncwb.errors import (
    AsyncwbError,
    ConfigurationError,
    FlushTimeout,
    UsageError,
)
from asyncwb.events import Observer
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.plugins.registry import named_backend
from asyncwb.protocol.wire import DELETED_BODY
from asyncwb.records import CodecName, Version
from asyncwb.redis.connect import checked_target
from asyncwb.redis.targets import RedisClient
from asyncwb.settings import Durability, SettingOptions, Settings, check_choice
from asyncwb.stats import Stats, Totals
from asyncwb.support.completion import completing
from asyncwb.support.observing import Announcer
from asyncwb.support.outcomes import failure
from asyncwb.support.plain import excerpt

if TYPE_CHECKING:
    from typing_extensions import TypeForm

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
        type: what `set` takes and `get` returns: a msgspec Struct, a dataclass, an attrs class, a TypedDict, a pydantic
            model, a builtin type, or a union of them; see docs/values.md.
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
    def __init__(  # a union, Annotated[...] and what else is no class
        self,
        redis: str | RedisClient | None = None,
        *,
        backend: str | Backend,
        type: "TypeForm[T]",
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
        if settings is not None and not isinstance(settings, Settings):
            raise ConfigurationError(f"settings={excerpt(settings)}: pass asyncwb.Settings(...)")
        if observer is not None and not callable(observer):
            raise ConfigurationError(f"observer={excerpt(observer)}: pass a function that takes an event")
        self.settings = (Settings() if settings is None else settings).replace(options)
        self._codec: Codec[T] = Codec(codec, type, check=self.settings.check_values)
        self._values = Values(self._codec, self.settings)
        self._redis = checked_target(redis)
        self._emit: Observer = Announcer(observer).emit
        plugin, name = named_backend(backend, codec=self._codec)
        self._backend = BackendAdapter(
            plugin,
            name=name,
            namespace=self.settings.namespace,
            connect_timeout_seconds=self.settings.connect_timeout_seconds,
            save_timeout_seconds=self.settings.save_timeout_seconds,
        )
        self._life = Lifetime()
        self._engine: Engine  # there from `open` on
        self._totals = Totals()

    @property
    def totals(self) -> Totals:
        """What this process has done since the buffer was opened; counts on."""
        return self._totals

    # Lifetimes

    async def open(self) -> Self:
        """Connects to Redis and the backend, agrees on an epoch, and starts the flushers.

        Raises:
            RedisUnavailable, BackendUnavailable: not reached within `connect_timeout_seconds`.
            UnsuitableServer, NamespaceMismatch: it would not be safe.
            UsageError: it is open already, another open buffer has its backend object, or this isn't run by asyncio.
        """
        self._life.begin()
        self._engine = self._new_engine()
        self._totals = self._engine.totals
        try:
            await self._engine.open()
            self._values.limit(self._backend)
        except BaseException:
            await self._close()
            raise
        self._life.open()
        return self

    async def aclose(self, *, drain: bool = True) -> None:
        """Drains within `drain_timeout_seconds` (if this process flushes), then stops in bounded time.

        What couldn't be saved stays in Redis, safe, and a warning says how much it is. Calls that are under way when it
        stops raise `UsageError` if nothing was sent, `OutcomeUnknown` if the answer didn't come in time, `NotConfirmed`
        if a write is in Redis and only the confirmation of its durability didn't come in time.

        Args:
            drain: False stops at once, but for a moment in which confirmations that are under way may come.

        Raises:
            InvalidArgument: `drain` is neither True nor False; the buffer stays open.
            UsageError: it is just being opened, or closed already.
        """
        drains = checked_flag("drain", drain)
        if not self._life.close():
            return
        try:
            if drains:
                await self._engine.finish()
            await self._engine.confirmed()
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
        raw = raw_key(key)
        return await self._engine.router.put(raw, self._values.body(raw, value), self._level(durability))

    async def delete(self, key: str, *, durability: Durability | None = None) -> Version:
        """Deletes a key, whether or not it exists: a tombstone, versioned like a value. Raises as `set`."""
        self._life.check()
        return await self._engine.router.put(raw_key(key), DELETED_BODY, self._level(durability))

    async def get(self, key: str) -> T | None:
        """The value, never older than any write acknowledged before this call; None if there is none.

        Raises:
            InvalidKey: nothing was asked.
            DecodeError: what is stored isn't a value of this codec and type.
            RedisUnavailable, BackendError: it can't be told.
        """
        self._life.check()
        raw = raw_key(key)
        (found,) = await self._engine.router.get(raw)
        return self._values.value(raw, found)

    async def set_many(self, values: Mapping[str, T], *, durability: Durability | None = None) -> dict[str, Version]:
        """Writes several values in few calls; returns their versions.

        Not atomic over keys. What can't be a key or a value is found before anything is sent, and then nothing is
        written.

        Raises:
            PartialFailure: some keys were written, and it has their versions; or none, for several kinds of reasons.
                It has each other key's error, which is one that `set` would raise.
            Any error of `set`: it is true of all keys. `NotConfirmed` has the versions of them all.
        """
        self._life.check()
        level = self._level(durability)
        bodies: dict[bytes, bytes] = {}
        for key, value in checked_items(values):
            raw = raw_key(key)
            bodies[raw] = self._values.body(raw, value)
        return await self._engine.router.put_many(bodies, level)

    async def delete_many(self, keys: Iterable[str], *, durability: Durability | None = None) -> dict[str, Version]:
        """Deletes several keys; returns the versions of their tombstones. Raises as `set_many`."""
        self._life.check()
        level = self._level(durability)
        return await self._engine.router.put_many(dict.fromkeys(raw_keys(keys), DELETED_BODY), level)

    async def get_many(self, keys: Iterable[str]) -> dict[str, T]:
        """The values of those keys that have one.

        Raises:
            PartialFailure: some keys couldn't be read: it has the values of the others, and each error, which is one
                that `get` would raise. Or none could, for several kinds of reasons.
            Any error of `get`: it is true of all keys, and speaks of the first.
        """
        self._life.check()
        several = raw_keys(keys)
        values: dict[str, T] = {}
        failed: dict[str, AsyncwbError] = {}
        for raw, found in await self._engine.router.get_many(several):
            try:
                value = self._values.value(raw, found)
            except AsyncwbError as error:
                failed[raw.decode()] = error
            else:
                if value is not None:
                    values[raw.decode()] = value
        if failed:
            raise failure(failed, of=len(several), values=values)
        return values

    # Waiting and looking

    async def flush(self, key: str, *, version: Version | None = None, timeout: float | None = None) -> None:
        """Returns when the backend holds at least this write (by default the latest that Redis has of the key).

        Args:
            key: of the write.
            version: as `set` or `delete` returned it.
            timeout: seconds; None waits for as long as it takes.

        Raises:
            InvalidKey, InvalidArgument: nothing was asked.
            FlushTimeout: not in time; it stays in Redis, safe.
            DeadLettered: the backend refused it for good, or it failed `max_attempts` times.
            WriteLost: neither Redis nor the backend has it.
            OutcomeUnknown: neither has anything of the key, and the write is old enough to have been saved, deleted
                later, and forgotten by the backend.
            RedisError, BackendError: it can't be told.
        """
        self._life.check()
        raw, wanted, seconds = raw_key(key), checked_version(version), checked_timeout(timeout)
        name = raw.decode()
        try:
            async with asyncio.timeout(seconds):
                await self._engine.router.wait(raw, wanted)
        except TimeoutError as error:
            raise FlushTimeout(
                f"key {name!r} was not saved within {seconds:g} s; what Redis has of it stays there, safe, until it is"
            ) from error

    async def drain(self, *, timeout: float | None = None) -> None:
        """Returns when every write acknowledged before this call is saved, also those of other processes.

        Raises:
            InvalidArgument: `timeout` is no number of seconds; nothing was asked.
            FlushTimeout: not in time; says how much is left.
            WriteLost: a server lost writes that this process had acknowledged; `max_remembered_writes` have names.
            DeadLettered: the backend refused some while this waited, perhaps also later writes; those that were dead
                before don't count.
            OutcomeUnknown: of writes over an hour old nothing is left anywhere.
            RedisError, BackendError: it can't be told.

        All but the first are raised when everything else is saved.
        """
        self._life.check()
        seconds = checked_timeout(timeout)
        try:
            async with asyncio.timeout(seconds):
                await self._engine.drain()
        except TimeoutError as error:
            raise FlushTimeout(f"not drained within {seconds:g} s: {await self._engine.left(error)}") from error

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

    async def retry_dead(self, keys: Iterable[str]) -> int:
        """Tries dead-lettered records again; returns how many there were.

        Raises:
            InvalidKey: nothing was done.
            PartialFailure: the keys of some partitions couldn't be reached, and are in its `failed`; the others were
                retried. To retry a key again is safe.
            RedisError: none could be reached.
        """
        self._life.check()
        return await self._engine.retry_dead(raw_keys(keys))

    # Small things

    def _level(self, durability: Durability | None) -> Durability:
        if durability is None:
            return self.settings.durability
        return cast("Durability", check_choice("durability", durability, get_args(Durability)))

    def __reduce__(self) -> NoReturn:
        raise UsageError("a Buffer holds connections and can't be pickled: make one in each process")

    def __repr__(self) -> str:
        if not hasattr(self, "_life"):
            return "<Buffer that couldn't be made>"  # as a debugger or an error tracker asks it
        return f"<Buffer {self.settings.namespace!r} -> {self._backend.name}, {self._life.state}>"
