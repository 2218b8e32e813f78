"""The public `Buffer` class: a façade over an `Engine`, which exists only while the buffer is open."""

from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeVar, Unpack, overload

from asyncwb.backend import Backend
from asyncwb.buffer.reading import ReadingCalls
from asyncwb.buffer.updating import UpdatingCalls
from asyncwb.buffer.waiting import WaitingCalls
from asyncwb.buffer.writing import WritingCalls
from asyncwb.codecs import Codec
from asyncwb.core.arguments import checked_flag
from asyncwb.core.engine import Engine
from asyncwb.core.lifecycle import Lifetime
from asyncwb.core.values import Values
from asyncwb.errors import ConfigurationError, UsageError
from asyncwb.events import Observer
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.plugins.registry import named_backend
from asyncwb.records import CodecName
from asyncwb.redis.connect import checked_target
from asyncwb.redis.targets import RedisClient
from asyncwb.settings import SettingOptions, Settings
from asyncwb.stats import Totals
from asyncwb.support.completion import completing
from asyncwb.support.observing import Announcer
from asyncwb.support.plain import excerpt

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")


class Buffer(WritingCalls[T], UpdatingCalls[T], ReadingCalls[T], WaitingCalls[T]):
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

    def __reduce__(self) -> NoReturn:
        raise UsageError("a Buffer holds connections and can't be pickled: make one in each process")

    def __repr__(self) -> str:
        if not hasattr(self, "_life"):
            return "<Buffer that couldn't be made>"  # a debugger or an error tracker may ask for it
        return f"<Buffer {self.settings.namespace!r} -> {self._backend.name}, {self._life.state}>"
