"""The public `Buffer` class: a façade over an `Engine`, which exists only while the buffer is open."""

import asyncio
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
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
from asyncwb.errors import ConfigurationError, FlushTimeout, UsageError
from asyncwb.events import Observer
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.plugins.registry import named_backend
from asyncwb.protocol.body import DELETE_BODY
from asyncwb.records import CodecName, Version
from asyncwb.redis.connect import checked_target
from asyncwb.redis.targets import RedisClient
from asyncwb.settings import Durability, SettingOptions, Settings, check_choice
from asyncwb.stats import Stats, Totals
from asyncwb.support.completion import completing
from asyncwb.support.observing import Announcer
from asyncwb.support.plain import excerpt

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")


class Buffer(Generic[T]):
    """A write buffer: a write returns once Redis has it, and flushers later save it to the backend.

    ::

        async with Buffer("redis://localhost", backend="sqlite:///app.db", type=User) as users:
            await users.set("42", User("Ada", 1))
            user = await users.get("42")

    Args:
        redis: a URL (`redis://`, `rediss://`, `valkey://`, `unix://`), a `redis.asyncio.Redis` (its connection
            arguments are used; the client itself is never closed), `embedded://DIR`, or None for a private Valkey
            server in `.asyncwb/`.
        backend: a URL whose scheme names an installed plugin, or a `Backend`. The buffer opens and closes it.
        type: what `set` takes and `get` returns: a msgspec Struct, a dataclass, an attrs class, a TypedDict, a pydantic
            model, a builtin type, or a union of them; see docs/values.md.
        codec: "json", "msgpack" or "bytes". It is recorded with the namespace and can't be changed later.
        observer: called with every `Event`; it has to return quickly.
        settings: a complete `Settings`. Individual settings can be given as keyword arguments, and override it.

    Raises:
        ConfigurationError: an argument is invalid.
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
    def __init__(  # a union, Annotated[...] and other types that aren't classes
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
        type: Any = Any,  # noqa: A002 - the name that msgspec uses and users expect
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
        self._engine: Engine  # set by `open`
        self._totals = Totals()

    @property
    def totals(self) -> Totals:
        """What this process has done since the buffer was opened: a live object whose counts go on."""
        return self._totals

    # Lifetimes

    async def open(self) -> Self:
        """Connects to Redis and the backend, agrees on an epoch, and starts the flushers.

        Raises:
            RedisUnavailable, BackendUnavailable: it could not be reached within `connect_timeout_seconds`.
            UnsuitableServer, NamespaceMismatch: using this server or namespace would not be safe.
            UsageError: the buffer is open already, another open buffer uses the same backend object, or the caller
                isn't run by asyncio.
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
        """Drains for up to `drain_timeout_seconds` (if this process has flushers), then stops in bounded time.

        Records that couldn't be saved stay safely in Redis, and a warning says how many there are. Calls that are under
        way when the buffer stops raise `UsageError` if nothing was sent, `OutcomeUnknown` if the answer didn't come in
        time, or `NotConfirmed` if a write is in Redis and only the confirmation of its durability didn't come in time.

        Args:
            drain: False skips the drain, and only waits a moment for confirmations that are under way.

        Raises:
            InvalidArgument: `drain` is neither True nor False; the buffer stays open.
            UsageError: it is being opened, or being closed already.
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
        # No tasks and no connections may be left behind, even if the exit is cancelled.
        try:
            await completing(self._engine.close())
        finally:
            self._life.end()

    # Writing and reading

    async def set(self, key: str, value: T, *, durability: Durability | None = None) -> Version:
        """Writes a value; returns its version once Redis has it.

        Args:
            key: 1 byte to 1 KiB in UTF-8.
            value: anything that the codec and `type` accept, except None.
            durability: how safe the write has to be on return; by default `Settings.durability`.

        Raises:
            InvalidKey, InvalidValue: nothing was sent.
            BufferFull, RedisUnavailable: nothing was written.
            OutcomeUnknown: it may or may not have been written.
            NotConfirmed: it was written, but perhaps not as durably as asked for.
            UnsuitableServer: the server can't provide that durability; nothing was sent.
            NamespaceMismatch: others have made the namespace anew, with another codec or number of partitions; nothing
                was written to Redis.
        """
        self._life.check()
        raw = raw_key(key)
        return await self._engine.router.put(raw, self._values.body(raw, value), self._level(durability))

    async def delete(self, key: str, *, durability: Durability | None = None) -> Version:
        """Deletes a key, whether or not it exists, by writing a tombstone; returns its version.

        Raises the same errors as `set`.
        """
        self._life.check()
        return await self._engine.router.put(raw_key(key), DELETE_BODY, self._level(durability))

    async def get(self, key: str) -> T | None:
        """Returns the value of a key, or None; it is never older than a write acknowledged before this call.

        Raises:
            InvalidKey: nothing was sent.
            DecodeError: the stored bytes aren't a value of this codec and type.
            RedisUnavailable, BackendError: the value could not be read.
            NamespaceMismatch: as in `set`.
        """
        self._life.check()
        raw = raw_key(key)
        (found,) = await self._engine.router.get(raw)
        return self._values.value(raw, found)

    async def set_many(self, values: Mapping[str, T], *, durability: Durability | None = None) -> dict[str, Version]:
        """Writes several values in few calls; returns their versions by key.

        It isn't atomic across keys. All keys and values are checked before anything is sent: if one is invalid, nothing
        is written.

        Raises:
            PartialFailure: some keys failed, or all of them for different kinds of reasons. It has the versions of the
                keys that were written, and for each other key an error that `set` would raise.
            Any error of `set`: it applies to all keys. `NotConfirmed` has the versions of all of them.
        """
        self._life.check()
        level = self._level(durability)
        bodies: dict[bytes, bytes] = {}
        for key, value in checked_items(values):
            raw = raw_key(key)
            bodies[raw] = self._values.body(raw, value)
        return await self._engine.router.put_many(bodies, level)

    async def delete_many(self, keys: Iterable[str], *, durability: Durability | None = None) -> dict[str, Version]:
        """Deletes several keys; returns the versions of their tombstones. Raises the same errors as `set_many`."""
        self._life.check()
        level = self._level(durability)
        return await self._engine.router.put_many(dict.fromkeys(raw_keys(keys), DELETE_BODY), level)

    async def get_many(self, keys: Iterable[str]) -> dict[str, T]:
        """Returns the values of those keys that have one.

        Raises:
            PartialFailure: some keys couldn't be read, or none could for different kinds of reasons. It has the values
                of the others, and for each key that failed an error that `get` would raise.
            Any error of `get`: it applies to all keys; its message names the first.
        """
        self._life.check()
        return self._values.values(await self._engine.router.get_many(raw_keys(keys)))

    # Waiting and inspecting

    async def flush(self, key: str, *, version: Version | None = None, timeout: float | None = None) -> None:
        """Waits until the backend holds at least this write (by default the latest known write of the key).

        Args:
            key: the key of the write.
            version: the version that `set` or `delete` returned.
            timeout: seconds; None waits for as long as it takes.

        Raises:
            InvalidKey, InvalidArgument: nothing was sent.
            FlushTimeout: the write was not saved in time; it stays safely in Redis.
            DeadLettered: the write is dead-lettered: the backend refused it for good, or it failed too often.
            WriteLost: neither Redis nor the backend has the write.
            OutcomeUnknown: neither has any record of the key, and the write is so old that it may have been saved, then
                deleted, and the deletion forgotten by the backend.
            RedisError, BackendError, NamespaceMismatch: it can't be determined whether the write is saved.
        """
        self._life.check()
        raw, wanted, seconds = raw_key(key), checked_version(version), checked_timeout(timeout)
        name = raw.decode()
        try:
            async with asyncio.timeout(seconds):
                await self._engine.router.wait(raw, wanted)
        except TimeoutError as error:
            raise FlushTimeout(
                f"key {name!r} was not saved within {seconds:g} s; "
                "what Redis has of it stays there safely until it is saved"
            ) from error

    async def drain(self, *, timeout: float | None = None) -> None:
        """Returns when every write acknowledged before this call is saved, also those of other processes.

        Raises:
            InvalidArgument: `timeout` isn't a valid number of seconds; nothing was sent.
            FlushTimeout: not everything was saved in time; the message says how much is left.
            WriteLost: a server lost writes that were acknowledged to this process. Their keys are named, as far as they
                are remembered (see `max_remembered_writes`).
            DeadLettered: records were dead-lettered during the drain, possibly by writes made after it began. Records
                that were dead letters before it don't count.
            OutcomeUnknown: there is no record anywhere of keys written over an hour ago.
            RedisError, BackendError, NamespaceMismatch: it can't be determined what is saved.

        `WriteLost`, `DeadLettered` and `OutcomeUnknown` are raised only after everything else has been saved.
        """
        self._life.check()
        seconds = checked_timeout(timeout)
        try:
            async with asyncio.timeout(seconds):
                await self._engine.drain()
        except TimeoutError as error:
            raise FlushTimeout(f"not drained within {seconds:g} s: {await self._engine.left(error)}") from error

    async def stats(self) -> Stats:
        """Returns what all processes have in Redis now, and what this process has done."""
        self._life.check()
        return await self._engine.stats()

    async def audit(self) -> int:
        """Scans all records and marks dirty those that are in no set (dirty, leased, dead); returns how many.

        Nothing that asyncwb does makes this necessary: it repairs what another program has broken.
        """
        self._life.check()
        return sum(await self._engine.of_each_partition(lambda queue: queue.audit()))

    async def retry_dead(self, keys: Iterable[str]) -> int:
        """Makes dead-lettered records dirty, so that they are saved again; returns how many of the keys were dead.

        Raises:
            InvalidKey: nothing was done.
            PartialFailure: some partitions couldn't be reached; their keys are in its `failed`, and all other keys were
                retried. Retrying a key twice is safe.
            RedisError: no partition could be reached.
        """
        self._life.check()
        return await self._engine.retry_dead(raw_keys(keys))

    # Helpers

    def _level(self, durability: Durability | None) -> Durability:
        if durability is None:
            return self.settings.durability
        return cast("Durability", check_choice("durability", durability, get_args(Durability)))

    def __reduce__(self) -> NoReturn:
        raise UsageError("a Buffer holds connections and can't be pickled: make one in each process")

    def __repr__(self) -> str:
        if not hasattr(self, "_life"):
            return "<Buffer that couldn't be made>"  # a debugger or an error tracker may ask for it
        return f"<Buffer {self.settings.namespace!r} -> {self._backend.name}, {self._life.state}>"
