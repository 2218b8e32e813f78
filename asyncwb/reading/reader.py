"""Reads: Redis first, then the backend for keys that Redis lacks; across epochs the newer record counts."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import chain
from typing import cast

from asyncwb.errors import AsyncwbError, DeadLettered, DecodeError, OutcomeUnknown
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.protocol.epochs import Epochs
from asyncwb.protocol.messages import LookedUp
from asyncwb.protocol.pending import PartlyApplied, PendingRecord, settled
from asyncwb.protocol.queue import Queue
from asyncwb.protocol.wire import undecided, unpack, unpack_version
from asyncwb.reading.loading import Loaded, Loader
from asyncwb.records import Record, Version, epoch_of, is_foreign, make_version
from asyncwb.settings import Settings
from asyncwb.support.backoff import retrying
from asyncwb.support.batching import Later, set_exception
from asyncwb.updates import UpdateFailed

Found = bytes | Record | None
"""What a key has: a record as packed in Redis (see `asyncwb.protocol.wire`), an unpacked record, or None."""
Answer = Found | AsyncwbError
"""What a key has, or the error of reading it."""


_Read = Found | PendingRecord | Exception
"""The same while it is being determined."""


class PendingRead(Later[Sequence[Found]]):
    """The answer to one caller's keys, some of which still have to be loaded from the backend."""

    __slots__ = ("_found", "_future", "_left")

    def __init__(self, found: list[_Read], left: int) -> None:
        self._found = found
        self._left = left
        self._future: asyncio.Future[Sequence[Found]] | None = None

    def answer_to(self, future: asyncio.Future[Sequence[Found]]) -> None:
        self._future = future
        if not self._left:
            self._answer(future)

    @property
    def gone(self) -> bool:
        """Whether the caller has its answer or was cancelled."""
        return self._future is not None and self._future.done()

    def when_gone(self, call: Callable[[], None]) -> None:
        if self._future is not None:
            self._future.add_done_callback(lambda _: call())

    def loaded(self, number: int, result: Loaded) -> None:
        """Takes the result of loading one key: it counts unless Redis has a record at least as new."""
        here = self._found[number]
        if isinstance(here, PendingRecord):
            result = result if isinstance(result, Exception) else _worked_out(here, result)
            here = None
        older = not isinstance(here, Record) or (isinstance(result, Record) and here.version < result.version)
        if result is not None and (older or isinstance(result, Exception)):
            self._found[number] = result
        self._left -= 1
        if not self._left and self._future is not None:
            self._answer(self._future)

    def _answer(self, future: asyncio.Future[Sequence[Found]]) -> None:
        if (error := _first_error(self._found)) is not None:
            set_exception(future, error)
        elif not future.done():
            future.set_result(cast("Sequence[Found]", self._found))


class Reader:
    """Reads keys of one partition, for many callers at a time.

    Records read from the backend are never written to Redis: they could be older than a put that comes meanwhile.

    Attributes:
        loader: loads keys from the backend if Redis has no record of them, or one of an earlier epoch.
    """

    def __init__(
        self, queue: Queue, epochs: Epochs, backend: BackendAdapter, settings: Settings, rng: random.Random
    ) -> None:
        self._queue = queue
        self._epochs = epochs
        self._backend = backend
        self._settings = settings
        self._rng = rng
        self.loader = Loader(self._load_known, settings.save_timeout_seconds)

    async def read(self, groups: Sequence[Sequence[bytes]]) -> list[Sequence[Found] | PendingRead | Exception]:
        """Returns for each group what its keys have, a `PendingRead` if some must be loaded first, or an error.

        Raises:
            RedisUnavailable: the server can't be reached.
            BackendError: a new epoch is needed and the backend can't allot one.
            NamespaceMismatch: the namespace was made anew, see `Epochs.refresh`.
        """
        keys = list(chain.from_iterable(groups))
        epoch, packed = await self._packed(keys)
        # Nearly all reads of a busy buffer find records of this epoch; the backend can't have anything newer.
        elsewhere = undecided(packed, epoch)
        if len(groups) < len(packed):
            return self._answers_of_several(groups, [*packed], elsewhere, epoch)
        answers: list[Sequence[Found] | PendingRead | Exception] = [*zip(packed)]  # one key each
        for at in elsewhere:
            answers[at] = self._answer(groups[at], [packed[at]], [0], epoch)
        self.loader.begin()
        return answers

    async def look_up(self, key: bytes) -> LookedUp:
        """Determines the present version of a key, for a write on a condition.

        Raises:
            AsyncwbError: as a read of the key does.
        """
        take = partial(self._queue.take_token, key)
        epoch, token, packed = await retrying(
            lambda: self._epochs.call(self._queue.partition, take),
            limit_seconds=self._settings.redis_retry_seconds,
            rng=self._rng,
        )
        part: list[_Read] = [packed]
        if _may_be_newer(part, 0, key, epoch):
            # The load comes after the token: whatever is written from now on takes that away.
            loaded = await self._load_known([key.decode()])
            pending = PendingRead(part, 1)
            pending.loaded(0, loaded.get(key.decode()))
        if (error := _first_error(part)) is not None:
            raise error
        found = cast("Record | None", part[0])
        in_redis = packed is not None and epoch_of(unpack_version(packed[:8])) == epoch
        return LookedUp(found, token, in_redis)

    async def _load_known(self, keys: Sequence[str]) -> dict[str, Record]:
        """Loads from the backend; records that no history of the namespace has made get version 0.

        Such a record is the value of a key that Redis doesn't have, but never newer than a record in Redis. See
        `asyncwb.flushing.stale`.
        """
        loaded = await self._backend.load(keys)
        partition = self._queue.partition
        known = self._epochs.known(partition)
        if self._epochs.foreign(partition) == () and all(epoch_of(each.version) <= known for each in loaded.values()):
            return loaded
        allotted = await self._backend.new_epoch(0)
        limit = self._settings.redis_retry_seconds
        meta = await retrying(self._queue.read_meta, limit_seconds=limit, rng=self._rng)
        present = make_version(meta.epoch, meta.seq)
        return {
            key: _unversioned(each)
            if is_foreign(each.version, present=present, allotted=allotted, foreign=meta.foreign)
            else each
            for key, each in loaded.items()
        }

    async def _packed(self, keys: Sequence[bytes]) -> tuple[int, list[bytes | None]]:
        def call() -> Awaitable[tuple[int, list[bytes | None]]]:
            return self._epochs.call(self._queue.partition, partial(self._queue.get, keys))

        return await retrying(call, limit_seconds=self._settings.redis_retry_seconds, rng=self._rng)

    def _answers_of_several(
        self, groups: Sequence[Sequence[bytes]], found: Sequence[Found], elsewhere: Sequence[int], epoch: int
    ) -> list[Sequence[Found] | PendingRead | Exception]:
        answers: list[Sequence[Found] | PendingRead | Exception] = []
        waiting = iter([*elsewhere, len(found)])
        start, at = 0, next(waiting)
        for group in groups:
            end = start + len(group)
            missing: list[int] = []
            while at < end:
                missing.append(at - start)
                at = next(waiting)
            part = [*found[start:end]]
            answers.append(self._answer(group, part, missing, epoch) if missing else part)
            start = end
        self.loader.begin()
        return answers

    def _answer(
        self, group: Sequence[bytes], found: Sequence[Found], missing: Sequence[int], epoch: int
    ) -> Sequence[Found] | PendingRead | Exception:
        """Returns the answer of a group; it is pending if the backend may hold newer records of some keys.

        That may be so for the keys in `missing`, which Redis lacks or has from an earlier epoch.
        """
        part: list[_Read] = [*found]
        asked = [number for number in missing if _may_be_newer(part, number, group[number], epoch)]
        if not asked:
            return _first_error(part) or cast("Sequence[Found]", part)
        pending = PendingRead(part, len(asked))
        for number in asked:
            self.loader.ask(group[number].decode(), pending, number)
        return pending


def version_of(found: Found) -> Version:
    """The version of what a read has found; 0 for nothing."""
    return unpack_version(found[:8]) if isinstance(found, bytes) else found.version if found is not None else 0


def _may_be_newer(part: list[_Read], number: int, key: bytes, epoch: int) -> bool:
    """Unpacks in place what Redis has of a key; returns whether the backend has to be asked."""
    item = part[number]
    if not isinstance(item, bytes):
        return True
    try:
        record = part[number] = unpack(key.decode(), item)
    except DecodeError as error:
        part[number] = error
        return False
    if isinstance(record, PendingRecord):
        if record.base is None or epoch_of(record.base.version) < epoch:
            return True
        # Whatever the backend holds of it by now was worked out from the same base and the first of the same updates.
        part[number] = _worked_out(record, None)
        return False
    return epoch_of(record.version) < epoch


def _worked_out(pending: PendingRecord, stored: Record | None) -> Record | AsyncwbError:
    """What a record with updates leads to, or the error of reading it."""
    key = pending.key
    try:
        return settled(pending, stored)
    except UpdateFailed as error:
        reason = error.sentence
        return DeadLettered(
            f"key {key!r} has no value: {reason}; `set` or `delete` it, or see `asyncwb dead list`",
            reasons={key: reason},
        )
    except PartlyApplied:
        return OutcomeUnknown(
            f"key {key!r}: the backend holds a part of updates that were made as one; a history that was lost in a "
            "failover has saved it, and what the rest of them would add is unknown: `set` or `delete` the key"
        )


def _unversioned(record: Record) -> Record:
    return Record(record.key, 0, record.payload, codec=record.codec, deleted=record.deleted)


def _first_error(found: Sequence[_Read]) -> Exception | None:
    return next((each for each in found if isinstance(each, Exception)), None)
