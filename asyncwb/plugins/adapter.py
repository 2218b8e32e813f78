"""A backend as the core calls it: with time limits, with its answers checked, and raising asyncwb's errors only."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from asyncwb.backend import Backend, Limits
from asyncwb.errors import (
    BackendError,
    BackendReplaced,
    BackendTimeout,
    BackendUnavailable,
    ConfigurationError,
    PlaceTaken,
    RedisError,
    SaveError,
    UsageError,
)
from asyncwb.plugins.answers import Judge
from asyncwb.plugins.places import epoch_above, foreign_epochs
from asyncwb.plugins.progress import Progress
from asyncwb.plugins.succession import Began
from asyncwb.records import Record
from asyncwb.support.foreign import call_apart, call_observer
from asyncwb.support.redaction import redact, without_credentials
from asyncwb.support.stopwatch import Stopwatch

T = TypeVar("T")
Load = Callable[[Sequence[str]], Awaitable[dict[str, Record]]]
NoteForeign = Callable[[int, int], Awaitable[None]]
"""Notes the epochs from the first to the last as foreign. Raises RedisError."""

_log: Final = logging.getLogger("asyncwb")
_LONGEST_REASON: Final = 500
_CONFIGURED: Final = ("open", "new_epoch", "column_types", "refused")
"""Calls of a plugin that may raise ConfigurationError, because they find out that its settings can't work."""


_in_use: Final[dict[int, "BackendAdapter"]] = {}
"""id of a plugin's object -> the adapter that has it open. (The object need be neither hashable nor weakly
referable.)"""


def describe(error: BaseException) -> str:
    """A driver's exception in one line, without credentials, which its message may contain as part of a URL."""
    text = redact(" ".join(str(error).split()))[:_LONGEST_REASON]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class BackendAdapter:
    """Wraps a plugin's backend, which may raise whatever its driver raises, and may return wrong answers.

    Whatever a call raises counts as a failure of that call, even GeneratorExit, a group of exceptions, or a
    CancelledError although nobody cancelled the call. KeyboardInterrupt and SystemExit end the process, as anywhere
    else.

    Args:
        backend: the plugin's backend.
        name: how messages call it, without credentials.
        namespace: the namespace that it is opened for. Nothing is saved, loaded or allotted before the place has
            confirmed that it belongs to this namespace.
        connect_timeout_seconds: the time limit of each call but those below.
        save_timeout_seconds: the time limit of `save`, `load`, `load_durable` and `refused`.

    Attributes:
        name: as above.
        progress: whether saves are under way and come to an end.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        name: str,
        namespace: str,
        connect_timeout_seconds: float,
        save_timeout_seconds: float,
    ) -> None:
        self._backend = backend
        self.name = name
        self._namespace = namespace
        self._told = ""  # why it can't be used, as logged last
        self._connect = connect_timeout_seconds
        self._save = save_timeout_seconds
        self.progress = Progress()
        self._judge = Judge(name)
        self._opened = False
        self._replaced = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening = asyncio.Lock()
        self._slots = asyncio.Semaphore(1)
        self._note_foreign: NoteForeign | None = None

    @property
    def limits(self) -> Limits:
        """What the backend can take.

        Raises:
            BrokenContract: the limits are not a valid `Limits`.
            BackendUnavailable: the plugin raised an exception instead.
        """
        limits: object = None

        def ask() -> None:
            nonlocal limits
            limits = self._backend.limits

        if error := call_observer(ask):
            raise BackendUnavailable(f"limits of backend {self.name} can't be told: {describe(error)}") from error
        return self._judge.limits(limits)

    @property
    def supports_based_on(self) -> bool:
        """Whether the plugin declares that its `save` keeps to `Record.based_on`, which updates need."""
        return getattr(self._backend, "supports_based_on", False) is True

    @property
    def save_seconds(self) -> float:
        """The time limit of a save, in seconds."""
        return self._save

    async def open(self, note_foreign: NoteForeign | None = None) -> None:
        """Opens the backend; if that fails, each later call that needs it open tries again first.

        Args:
            note_foreign: notes the epochs that came with the place's data and were never allotted, whenever such are
                found until the next `open`, and before any epoch above them is allotted. If it is None, they are
                ignored.

        Raises:
            BackendError: it can't be opened now, but perhaps later.
            ConfigurationError: it can't be opened with these settings.
            BrokenContract: its limits are invalid.
        """
        self._opened = False
        self._opening = asyncio.Lock()
        self._slots = asyncio.Semaphore(1)
        self._note_foreign = note_foreign
        await self._be_open()

    def reserve(self) -> None:
        """Reserves the plugin's object for this buffer: if two had it, closing one buffer would break the other.

        Raises:
            UsageError: another open buffer has it, and the object isn't `shareable`.
        """
        holder = _in_use.get(id(self._backend))
        taken = holder is not None and holder is not self and holder.is_alive
        if taken and not getattr(self._backend, "shareable", False):
            raise UsageError(
                f"backend {self.name} is in use by another open buffer: "
                "give each buffer a backend object of its own, or the URL"
            )
        self._loop = asyncio.get_running_loop()
        _in_use[id(self._backend)] = self

    def release(self) -> None:
        """Ends the reservation of the plugin's object, so that other buffers can use it."""
        if _in_use.get(id(self._backend)) is self:
            del _in_use[id(self._backend)]

    @property
    def is_alive(self) -> bool:
        """Whether the adapter can still be closed: not if its event loop was closed, for example after an error."""
        return self._loop is not None and not self._loop.is_closed()

    async def hand_over(self, former: str) -> None:
        """Opens the backend and hands its place over from namespace `former` to this adapter's namespace.

        Raises:
            PlaceTaken: the place belongs to a namespace other than these two.
            BackendError, ConfigurationError: as in `open`.
        """
        await self._bounded(lambda: self._backend.open(namespace=self._namespace, former=former), self._connect, "open")

    async def close(self) -> None:
        """Closes the backend. Raises BackendError."""
        self._opened = False
        await self._bounded(self._backend.close, self._connect, "close")

    async def new_epoch(self, at_least: int) -> int:
        """Calls `Backend.new_epoch`; if it allots one, it is also above all versions that the place holds.

        Raises BackendError.
        """
        await self._ready()
        try:
            if at_least:
                at_least = max(at_least, await self._above())
            epoch = await self._bounded(lambda: self._backend.new_epoch(at_least), self._connect, "new_epoch")
        except PlaceTaken as error:
            # The place was handed over since it was opened. Calls under way may end; later ones have to open it first,
            # which fails.
            self._opened, self._replaced = False, True
            self._tell(error)
            raise BackendUnavailable(f"backend {self.name} can't be used any more: {error}") from error
        except ConfigurationError as error:
            self._tell(error)
            raise BackendUnavailable(f"backend {self.name} can allot no epoch: {error}") from error
        return self._judge.epoch(epoch, at_least)

    async def note_server(self, partition: int, epoch: int, server: str) -> list[Began]:
        """Notes that a server began an epoch of a partition, and returns all that is noted of the partition.

        Epoch 0 notes nothing. The list is empty if the backend has no method `note_server`. Raises BackendError.
        """
        note = getattr(self._backend, "note_server", None)
        if note is None:
            return []
        await self._ready()
        noted = await self._bounded(lambda: note(partition, epoch, server), self._connect, "note_server")
        return self._judge.servers(noted)

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        """Calls `Backend.load`. Raises BackendError."""
        return await self._load(self._backend.load, keys)

    async def load_durable(self, keys: Sequence[str]) -> dict[str, Record]:
        """Like `load`, but returns only what is durable: a crash of the storage can't undo it. Raises BackendError."""
        return await self._load(getattr(self._backend, "load_durable", self._backend.load), keys)

    async def column_types(self) -> dict[str, str]:
        """The types of values that the place takes in each field, as described in `Backend`; empty if it doesn't say.

        It doesn't open the backend. Raises BackendError, ConfigurationError.
        """
        ask = getattr(self._backend, "column_types", None)
        if ask is None:
            return {}
        return self._judge.column_types(await self._bounded(ask, self._connect, "column_types"))

    async def refused(self, records: Sequence[Record]) -> list[str | None] | None:
        """Asks why `save` would refuse records for good, without opening the backend.

        Args:
            records: at most `limits.max_batch` records, newer than what is stored.

        Returns:
            For each record a reason, or None if it would be saved. Instead of the list, None if the plugin can't say.

        Raises:
            BackendError, ConfigurationError: the plugin can't be asked.
        """
        ask = getattr(self._backend, "refused", None)
        if ask is None:
            return None
        found = await self._bounded(lambda: ask(records, namespace=self._namespace), self._save, "refused")
        return self._judge.refused(found, records)

    async def _load(self, load: Load, keys: Sequence[str]) -> dict[str, Record]:
        await self._ready()
        found = await self._bounded(lambda: load(keys), self._save, "load")
        return self._judge.loaded(found, keys)

    async def save(
        self, records: Sequence[Record], *, seconds: float | None = None, watch: Stopwatch | None = None
    ) -> int:
        """Waits for one of `limits.concurrent_saves` slots, then saves; returns how many records were stale.

        Args:
            records: at most `limits.max_batch` records.
            seconds: the time limit, which counts from when the slot is free; None for `save_timeout_seconds`.
            watch: a stopwatch that is started when the slot is free.

        Raises:
            SaveError: some records failed, at least one; all others were saved.
            BackendError: nothing is known to be saved. A driver's exception is its cause. Nothing was asked to be saved
                if a record has `based_on` and the plugin doesn't declare that it knows it.
        """
        if not self.supports_based_on:
            for record in records:
                if record.based_on is not None:
                    # The plugin would save it although something else is stored.
                    raise BackendUnavailable(
                        f"backend {self.name} can't save updates, such as that of key {record.key!r}: its plugin "
                        "doesn't declare supports_based_on; install a version of it that does"
                    )
        with self.progress.saving():
            await self._ready()
            async with self._slots:
                if watch is not None:
                    watch.start()
                return await self._save_now(records, self._save if seconds is None else seconds)

    async def _save_now(self, records: Sequence[Record], seconds: float) -> int:
        try:
            stale = await self._bounded(lambda: self._backend.save(records), seconds, "save")
        except SaveError as error:
            self._judge.failed(error, records)
            raise
        return self._judge.saved(stale, records)

    async def _ready(self) -> None:
        try:
            await self._be_open()
        except ConfigurationError as error:
            # The buffer was opened while the backend could not be reached. Now that it can be, its settings don't work.
            self._tell(error)
            raise BackendUnavailable(f"backend {self.name} can't be opened: {error}") from error

    def _tell(self, error: ConfigurationError) -> None:
        if self._told != str(error):
            self._told = str(error)
            _log.error("nothing is saved, all writes stay in Redis: backend %s can't be used: %s", self.name, error)

    async def _be_open(self) -> None:
        if self._opened:
            return
        async with self._opening:
            if self._opened:
                return  # type: ignore[unreachable] # another call has opened it meanwhile
            if self._replaced:
                self._replaced = False
                with contextlib.suppress(BackendError):
                    await self._bounded(self._backend.close, self._connect, "close")
            try:
                await self._bounded(lambda: self._backend.open(namespace=self._namespace), self._connect, "open")
                if above := await self._above():
                    await self._bounded(lambda: self._backend.new_epoch(above), self._connect, "new_epoch")
                self._slots = asyncio.Semaphore(self.limits.concurrent_saves)
            except BaseException:
                # It may be partly open, so close it: the next attempt starts afresh.
                with contextlib.suppress(BackendError):
                    await self._bounded(self._backend.close, self._connect, "close")
                raise
            self._opened = True
            self._told = ""

    async def _above(self) -> int:
        """The lowest epoch above all stored versions, if the place holds epochs that it never allotted; else 0.

        The `note_foreign` of `open` notes these foreign epochs before an epoch above them is allotted. After that, they
        would look like epochs of an earlier history, and buffered writes would be taken for older than the stored
        versions.
        """
        highest = getattr(self._backend, "highest_version", None)
        if highest is None:
            return 0
        # Read the highest version before the highest allotted epoch: what other processes save in between is of an
        # epoch that is allotted by then.
        version = await self._bounded(highest, self._connect, "highest_version")
        above = epoch_above(version, place=f"backend {self.name}")
        if not above:
            return 0
        allotted = await self._bounded(lambda: self._backend.new_epoch(0), self._connect, "new_epoch")
        foreign = foreign_epochs(above, self._judge.epoch(allotted, 0))
        if foreign is None or self._note_foreign is None:
            return 0
        _log.warning(
            "backend %s holds versions of epochs that it never allotted, up to %d: were its data restored or copied? "
            "A new epoch begins above them",
            self.name,
            foreign[1],
        )
        try:
            await self._note_foreign(*foreign)
        except RedisError as error:
            raise BackendUnavailable(f"backend {self.name} is used when Redis is back: {error}") from error
        return above

    async def _bounded(self, call: Callable[[], Awaitable[T]], seconds: float, what: str) -> T:
        with without_credentials():
            return await self._mapped(call, seconds, what)

    async def _mapped(self, call: Callable[[], Awaitable[T]], seconds: float, what: str) -> T:
        """Runs a call of the plugin within its time limit.

        Raises:
            BackendError: the call failed or took too long; if the plugin raised another exception, that is the cause.
            ConfigurationError: the plugin raised it in one of the `_CONFIGURED` calls.
        """
        try:
            async with asyncio.timeout(seconds) as limit:
                return await call_apart(call)
        except BackendReplaced:
            self._opened, self._replaced = False, True
            raise
        except BackendError:
            raise
        except TimeoutError as error:
            if limit.expired():
                raise BackendTimeout(f"{what} of backend {self.name} took longer than {seconds:g} s") from error
            raise BackendTimeout(f"{what} of backend {self.name} timed out: {error!r}") from error
        except Exception as error:
            if what in _CONFIGURED and isinstance(error, ConfigurationError):
                raise
            raise BackendUnavailable(f"{what} of backend {self.name} failed: {describe(error)}") from error
