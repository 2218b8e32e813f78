"""Waiting until the backend holds a write: `flush` does so for one write, `drain` for many."""

import asyncio
import heapq
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, NoReturn

import anyio
from anyio.abc import TaskGroup

from asyncwb.errors import AsyncwbError, DeadLettered, OutcomeUnknown, WriteLost, twin
from asyncwb.protocol.epochs import Epochs
from asyncwb.protocol.messages import DeadRecord, Held, Look, PartitionMeta
from asyncwb.protocol.queue import Queue
from asyncwb.protocol.waits import Wait, Waits
from asyncwb.records import Record, Version, epoch_of
from asyncwb.settings import Settings
from asyncwb.support.backoff import retrying
from asyncwb.support.key_encoding import text_of
from asyncwb.support.wakeup import Bell

Load = Callable[[Sequence[str]], Awaitable[Mapping[str, Record]]]
"""Loads from the backend what it durably holds of some keys."""

_FIRST_POLL_SECONDS: Final = 0.001
_LAST_POLL_SECONDS: Final = 0.05
_TOGETHER_SECONDS: Final = 0.005
"""Waits that become due within this time share one request to Redis."""
_HASTEN_EVERY_SECONDS: Final = 0.25
"""How often a wait makes its write due: not at each poll, as that overrides the back-off after a failure."""
_PAGE: Final = 1000
_MOST_LOADS: Final = 8
"""How many loads from the backend may be under way at once: one that hangs must not hold up the others."""


class Unsaved(NamedTuple):
    """Why a write isn't saved, or why that can't be determined; `letter` and `overtaken` are those of the wait."""

    error: AsyncwbError
    letter: DeadRecord | None
    overtaken: bool = False


class Waiter:
    """Waits for writes of one partition, for many callers at a time.

    One rule decides: *the backend's word*. Redis is asked first, and can only show that a version is still on its way.
    If it doesn't (the record is gone, was dead-lettered, was written again, or belongs to another history), the backend
    is asked whether it holds at least that version. The absence of a record from Redis proves nothing: a dead letter
    may have been dropped, or a server may have lost the record.

    In a partition with updates, a version of a later epoch confirms no write of an earlier one: the server may have
    lost that write before the later one was built on what was left.

    Flushers of this process report what they have saved, so that nobody has to ask for that. For everything else a
    single loop asks, with one request for all waits that are due.

    Args:
        queue, epochs, rng: those of the partition.
        load: asks the backend.
        waits: the waits of this process; its flushers tell them what is saved.
        settings: only `redis_retry_seconds` is used.
        wake: wakes the flushers of this process, after writes were made due.
    """

    def __init__(
        self,
        queue: Queue,
        epochs: Epochs,
        load: Load,
        waits: Waits,
        settings: Settings,
        *,
        rng: random.Random,
        wake: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._epochs = epochs
        self._load = load
        self._waits = waits
        self._settings = settings
        self._rng = rng
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._bell = Bell()
        self._agenda: list[tuple[float, int, Wait]] = []
        self._entries = 0
        self._loads = 0
        self._closed: Exception | None = None

    async def wait(self, key: bytes, version: Version | None) -> None:
        """Returns when the backend holds at least this version (None: the newest that is known now).

        Raises:
            DeadLettered: the write is dead-lettered: the backend refused it for good, or it failed too often.
            WriteLost: neither Redis nor the backend has the write.
            OutcomeUnknown: neither has any record of the key, which may also be because it was deleted long ago; or
                the backend holds a version of a later epoch, which may have been built without this write.
            RedisError, BackendError, NamespaceMismatch: it can't be determined whether the write is saved.
        """
        wait = self._begin(key, version)
        try:
            await wait.done
        finally:
            self._forget(wait)

    async def wait_all(self, writes: Mapping[bytes, Version | None]) -> dict[bytes, Unsaved]:
        """Returns, once none of these writes is on its way any more, those that weren't saved."""
        waits = [self._begin(key, version) for key, version in writes.items()]
        failed: dict[bytes, Unsaved] = {}
        try:
            for wait in waits:
                try:
                    await wait.done
                except AsyncwbError as error:
                    failed[wait.key] = Unsaved(error, wait.letter, wait.overtaken)
        finally:
            for wait in waits:
                self._forget(wait)
        return failed

    def close(self, error: Exception) -> None:
        """Fails all current and future waits."""
        self._closed = error
        self._bell.close()
        for wait in self._waits:
            wait.end(twin(error))

    async def serve(self) -> NoReturn:
        """Polls Redis and the backend for all waits, until cancelled. May be called again if a bug ended it."""
        self._agenda.clear()  # it lacks the waits that were being asked for
        for wait in self._waits:
            self._look_at(self._loop.time(), wait)
        async with anyio.create_task_group() as loads:
            while True:
                waits = self._due()
                if not waits:
                    await self._bell.wait()
                    continue
                try:
                    await self._ask_redis(waits, loads)
                except AsyncwbError as error:
                    for wait in waits:
                        wait.end(twin(error))
        raise AssertionError("serves until it is cancelled")

    # Scheduling

    def _begin(self, key: bytes, version: Version | None) -> Wait:
        if self._closed is not None:
            raise twin(self._closed)
        known = self._waits.acknowledged.version_of(key) or 0
        wait = Wait(key, version, known, self._loop.create_future(), pause=_FIRST_POLL_SECONDS)
        self._waits.add(wait)
        self._look_at(self._loop.time(), wait)
        self._bell.ring()
        return wait

    def _look_at(self, at: float, wait: Wait) -> None:
        self._entries += 1
        heapq.heappush(self._agenda, (at, self._entries, wait))

    def _due(self) -> list[Wait]:
        """Returns the waits that are due, at most a page; if none is, sets the alarm for the next one."""
        agenda, until = self._agenda, self._loop.time() + _TOGETHER_SECONDS
        waits: list[Wait] = []
        while agenda and len(waits) < _PAGE and (agenda[0][0] <= until or agenda[0][2].done.done()):
            wait = heapq.heappop(agenda)[2]
            if not wait.done.done():
                waits.append(wait)
        if not waits and agenda:
            self._bell.ring_in(max(0.0, agenda[0][0] - self._loop.time()))
        return waits

    def _again(self, wait: Wait) -> None:
        self._look_at(self._loop.time() + wait.pause, wait)
        wait.pause = min(wait.pause * 2, _LAST_POLL_SECONDS)

    def _forget(self, wait: Wait) -> None:
        self._waits.remove(wait)
        # Its entry in the agenda is skipped from now on. Retrieve an error that nobody has, or asyncio would log it.
        if not wait.done.cancel() and not wait.done.cancelled():
            wait.done.exception()

    # Asking Redis and the backend

    async def _ask_redis(self, waits: Sequence[Wait], loads: TaskGroup) -> None:
        now = self._loop.time()
        calm: list[Wait] = []
        urgent: list[Wait] = []
        for wait in waits:
            (urgent if now - wait.hastened >= _HASTEN_EVERY_SECONDS else calm).append(wait)
        for group, hasten in ((urgent, True), (calm, False)):
            if not group:
                continue
            if hasten:
                for wait in group:
                    wait.hastened = now
            keys = list(dict.fromkeys(wait.key for wait in group))
            look = await self._looked(keys, hasten=hasten)
            self._sort_out(group, dict(zip(keys, look.found, strict=True)), look, loads)

    async def _looked(self, keys: Sequence[bytes], *, hasten: bool) -> Look:
        def call() -> Awaitable[Look]:
            return self._epochs.call(self._queue.partition, partial(self._queue.look, keys, hasten=hasten))

        look = await retrying(call, limit_seconds=self._settings.redis_retry_seconds, rng=self._rng)
        if look.woken:
            self._wake()
        return look

    def _sort_out(
        self, waits: Iterable[Wait], found: Mapping[bytes, Held | None], look: Look, loads: TaskGroup
    ) -> None:
        """Ends or postpones the waits that Redis can decide, and starts to ask the backend about the others."""
        unknown: list[tuple[Wait, Held | None]] = []
        for wait in waits:
            held = found[wait.key]
            wait.seen = wait.seen or held is not None
            if wait.version is None:
                newest = max(held.version if held else 0, wait.known)
                if held is None and not newest:
                    wait.end()  # there is nothing to save
                    continue
                wait.version = newest
                if newest <= wait.saved:
                    wait.end()
                    continue
            if held is not None and held.version == wait.version and held.dead is None:
                self._again(wait)
            else:
                unknown.append((wait, held))
        if not unknown:
            return
        if self._loads == _MOST_LOADS:
            for wait, _ in unknown:
                self._again(wait)
            return
        self._loads += 1
        loads.start_soon(self._ask_backend, unknown, look)

    def _end_dead(self, wait: Wait, held: Held) -> None:
        wait.letter = held.dead
        self._waits.acknowledged.note_dead(wait.key, held.version)
        wait.end(_dead(held))

    async def _ask_backend(self, unknown: Sequence[tuple[Wait, Held | None]], look: Look) -> None:
        keys = list(dict.fromkeys(text_of(wait.key) for wait, _ in unknown))
        try:
            loaded = await self._load(keys)
            meta = await self._meta_if_needed(unknown, loaded, updates=look.updates)
        except AsyncwbError as error:
            for wait, held in unknown:
                if held is not None and held.version >= (wait.version or 0) and held.dead is None:
                    self._again(wait)  # it is on its way in any case
                else:
                    wait.end(twin(error))  # even if it is a dead letter, which may be saved nevertheless
        else:
            for wait, held in unknown:
                self._decide(wait, held, loaded.get(text_of(wait.key)), look.epoch, meta)
        finally:
            self._loads -= 1
            self._bell.ring()

    async def _meta_if_needed(
        self, unknown: Sequence[tuple[Wait, Held | None]], loaded: Mapping[str, Record], *, updates: bool
    ) -> PartitionMeta | None:
        """Returns what Redis says, after the load, of versions that prove nothing of earlier ones.

        These are foreign ones (see `asyncwb.flushing.stale`), and where there are updates, such as may have been made
        without a write that was lost or dropped. Redis is asked only if the backend holds a version that may be one.
        """
        for wait, _ in unknown:
            stored, version = loaded.get(text_of(wait.key)), wait.version or 0
            if stored is None or stored.version <= version:
                continue
            if updates or epoch_of(stored.version) > epoch_of(version):
                limit = self._settings.redis_retry_seconds
                return await retrying(self._queue.read_meta, limit_seconds=limit, rng=self._rng)
        return None

    def _decide(
        self,
        wait: Wait,
        held: Held | None,
        stored: Record | None,
        epoch: int,
        meta: PartitionMeta | None,
    ) -> None:
        """Decides a wait by what Redis had (`held`), and by what the backend held after that (`stored`).

        `meta` is None if nothing that is stored is of a later epoch than the writes that are waited for.
        """
        assert wait.version is not None, "it was set when Redis was asked"
        if stored is not None and meta is not None and _is_foreign(stored.version, meta):
            stored = None
        if stored is not None and meta is not None and _may_be_without(stored.version, wait.version, meta):
            wait.overtaken = True
            wait.end(_unknown_in_updates(wait.key, wait.version))
        elif stored is not None and stored.version >= wait.version:
            if epoch_of(stored.version) <= epoch:
                self._waits.acknowledged.saved([(wait.key, wait.version)], same_epoch=True)
                wait.end()
            elif held is not None and held.version >= wait.version and held.dead is not None:
                self._end_dead(wait, held)
            else:
                self._again(wait)  # its epoch began meanwhile, or belongs to another history: look again
        elif epoch_of(wait.version) > epoch:
            self._again(wait)  # a former primary has answered, which is noticed within a second
        elif held is not None and held.version >= wait.version:
            if held.dead is None:
                self._again(wait)
            else:
                self._end_dead(wait, held)
        elif stored is None and not wait.seen and self._waits.acknowledged.is_old(wait.version):
            wait.end(_unknown(wait.key, wait.version))
        else:
            wait.end(_lost(wait.key))


def _is_foreign(stored: Version, meta: PartitionMeta) -> bool:
    return any(first <= epoch_of(stored) <= last for first, last in meta.foreign)


def _may_be_without(stored: Version, version: Version, meta: PartitionMeta) -> bool:
    """Whether a stored version may have been made by updates of a value that a write was missing from.

    A write of an earlier epoch may have been lost, and one up to `dropped` may have been dropped.
    """
    return meta.updates and stored > version and (epoch_of(stored) > epoch_of(version) or version <= meta.dropped)


def _unknown_in_updates(raw: bytes, version: Version) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"key {text_of(raw)!r}: the backend holds a newer version, but whether version {version} is part of it is "
        "unknown: the server's history has changed since, or dead letters were dropped; read the key to see"
    )


def _dead(held: Held) -> DeadLettered:
    letter = held.dead
    assert letter is not None, "only for dead letters"
    then = "it has no value until it is set or deleted" if letter.stuck else "it stays readable"
    return DeadLettered(
        f"key {letter.key!r} is dead-lettered: {letter.reason}; {then}, see `asyncwb dead list`",
        reasons={letter.key: letter.reason},
    )


def _lost(raw: bytes) -> WriteLost:
    key = text_of(raw)
    return WriteLost(
        f"key {key!r}: an acknowledged write is neither in Redis nor in the backend; the server lost data (see its "
        "persistence and eviction settings), or its dead letter was dropped: write it again",
        keys=(key,),
    )


def _unknown(raw: bytes, version: Version) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"key {text_of(raw)!r}: neither Redis nor the backend has anything of version {version} or later; it is lost, "
        "unless the key was deleted so long ago that the backend has forgotten that, too"
    )
