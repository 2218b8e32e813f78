"""What becomes of writes at a limit: refused, waiting in their order, or written through to the backend."""

import contextlib
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

from asyncwb.acknowledged import Acknowledged
from asyncwb.backend import newest_per_key
from asyncwb.batching import Again
from asyncwb.errors import (
    AsyncwbError,
    BackendError,
    BufferFull,
    OutcomeUnknown,
    PartialFailure,
    RedisError,
    RedisOutOfMemory,
    SaveError,
)
from asyncwb.events import Event, FullChanged
from asyncwb.guard import GuardedBackend
from asyncwb.outcomes import failure
from asyncwb.records import Version, make_version
from asyncwb.redis.epochs import Epochs
from asyncwb.redis.queue import Queue
from asyncwb.redis.retry import Backoff, retrying
from asyncwb.redis.steps import Write
from asyncwb.redis.wire import record_of
from asyncwb.redis.writer import Full, Outcome, Writer
from asyncwb.settings import Settings
from asyncwb.stats import Totals

_log: Final = logging.getLogger("asyncwb")

Answer = Version | Again | Exception
"""The version of a group's first write (those of the others follow), or what became of it."""


class Admission:
    """Stands between the callers of one partition and its `Writer`.

    Args:
        writer, queue, epochs, backend, settings, rng: of the partition.
        acknowledged: takes note of every write that Redis has taken.
        totals: is counted up.
        emit: is told when writes begin to be kept out, and when that ends.
    """

    def __init__(
        self,
        writer: Writer,
        queue: Queue,
        epochs: Epochs,
        backend: GuardedBackend,
        settings: Settings,
        *,
        acknowledged: Acknowledged,
        totals: Totals,
        rng: random.Random,
        emit: Callable[[Event], None],
    ) -> None:
        self._acknowledged = acknowledged
        self._totals = totals
        self._writer = writer
        self._queue = queue
        self._epochs = epochs
        self._backend = backend
        self._settings = settings
        self._rng = rng
        self._emit = emit
        self._full = ""

    async def put(self, groups: Sequence[Sequence[Write]]) -> Sequence[Answer]:
        """Answers each group with the version of its first write or an error. Raises as `Writer.put`."""
        outcomes = await self._outcomes(groups)
        self._acknowledged.add(groups, outcomes)
        refused: list[int] = []
        if not isinstance(outcomes, range):  # which has versions only
            refused = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Full)]
        if not refused and not self._full:
            self._totals.acknowledged += sum(map(len, groups))
            return cast("Sequence[Version]", outcomes)
        await self._note(next((each.limit for each in outcomes if isinstance(each, Full)), ""))
        answers: list[Answer] = [self._error(each) if isinstance(each, Full) else each for each in outcomes]
        if self._settings.on_full == "wait":
            for number in refused:
                error = answers[number]
                assert isinstance(error, BufferFull)
                answers[number] = Again(error)
        elif self._settings.on_full == "write-through" and refused:
            through = [groups[number] for number in refused]
            for number, answer in zip(refused, await self._written_through(through), strict=True):
                answers[number] = answer
        self._totals.acknowledged += sum(
            len(answer.versions) if isinstance(answer, PartialFailure) else len(group) * isinstance(answer, Version)
            for group, answer in zip(groups, answers, strict=True)
        )
        return answers

    async def _outcomes(self, groups: Sequence[Sequence[Write]]) -> Sequence[Outcome]:
        try:
            return await self._writer.put(groups)
        except RedisOutOfMemory:
            return [Full("maxmemory")] * len(groups)

    async def _note(self, limit: str) -> None:
        if bool(limit) == bool(self._full):
            return
        self._full = limit
        partition, namespace = self._queue.partition, self._settings.namespace
        if limit:
            _log.warning(
                "partition %d of namespace %r is full (%s): writes that add to it %s",
                partition,
                namespace,
                limit,
                {"raise": "are refused", "wait": "wait", "write-through": "go to the backend"}[self._settings.on_full],
            )
            if self._settings.max_delay_seconds:
                # What waits for more writes of its key has to make room now.
                with contextlib.suppress(RedisError):
                    await self._queue.hasten()
        else:
            _log.info("partition %d of namespace %r takes writes again", partition, namespace)
        self._emit(FullChanged(partition, bool(limit), limit))

    def _error(self, full: Full) -> BufferFull:
        settings = self._settings
        if full.limit == "maxmemory":
            where = self._queue.link.where
            return RedisOutOfMemory(f"{where} is at maxmemory and takes no new writes; it has to be drained first")
        what = {
            "records": f"holds max_dirty={settings.max_dirty} unsaved records",
            "bytes": f"holds max_bytes={settings.max_bytes} of unsaved records",
            "age": f"has an unsaved write older than max_age_seconds={settings.max_age_seconds}",
        }[full.limit]
        return BufferFull(
            f"nothing was written: partition {self._queue.partition} of namespace {settings.namespace!r} {what}; "
            "let flushers catch up (`asyncwb status`), see to dead letters, or raise the limit"
        )

    async def _written_through(self, groups: Sequence[Sequence[Write]]) -> list[Answer]:
        try:
            first = await self._allot(sum(map(len, groups)))
        except (BackendError, RedisError) as error:
            return [error] * len(groups)
        try:
            return await self._write_through(groups, first)
        except (BackendError, RedisError) as error:
            reason = f"the buffer is full, and writing through to the backend failed, it may yet be there: {error}"
            return [OutcomeUnknown(reason) for _ in groups]

    async def _write_through(self, groups: Sequence[Sequence[Write]], first: Version) -> list[Answer]:
        """Saves writes directly, with versions of their own: they stay in order with all that is buffered.

        What Redis holds of their keys is older if it was put before the versions were allotted, and leaves Redis before
        the callers are answered; what is put later is newer, and the backend's condition keeps it so.
        """
        versions: list[list[Version]] = []
        for group in groups:
            versions.append(list(range(first, first + len(group))))
            first += len(group)
        pairs = [pair for each in zip(groups, versions, strict=True) for pair in zip(*each, strict=True)]
        records = newest_per_key(record_of(raw.decode(), version, body) for (raw, body), version in pairs)
        failed: dict[str, Exception] = {}
        most = self._backend.limits.max_batch
        for start in range(0, len(records), most):
            try:
                await self._backend.save(records[start : start + most])
            except SaveError as error:
                failed.update(error.failed)
        saved = [(record.key.encode(), record.version) for record in records if record.key not in failed]
        limit = self._settings.redis_retry_seconds
        await retrying(lambda: self._queue.supersede(saved), limit_seconds=limit, rng=self._rng)
        self._acknowledged.saved(saved)
        return [
            self._saved_but_for(dict(zip(_names(group), numbers, strict=True)), failed)
            for group, numbers in zip(groups, versions, strict=True)
        ]

    def _saved_but_for(self, versions: dict[str, Version], reasons: Mapping[str, Exception]) -> Answer:
        """Of a group whose keys have these versions, and are saved, but for those for which there are reasons."""
        failed = {key: self._refused(key, reasons[key]) for key in versions if key in reasons}
        if not failed:
            return next(iter(versions.values()))
        written = {key: version for key, version in versions.items() if key not in failed}
        return failure(failed, of=len(versions), versions=written)

    async def _allot(self, count: int) -> Version:
        backoff = Backoff(self._settings.redis_retry_seconds, self._rng)
        partition = self._queue.partition
        while True:
            epoch = self._epochs.known(partition)
            try:
                seq = await self._writer.allot(count, epoch)
                if seq is not None:
                    return make_version(epoch, seq + 1)
                await self._epochs.refresh(partition, epoch)
            except RedisError:
                if not await backoff.pause():
                    raise

    def _refused(self, key: str, reason: Exception) -> AsyncwbError:
        if isinstance(reason, AsyncwbError):
            return reason
        return BackendError(f"key {key!r} was written through to backend {self._backend.name}, which failed: {reason}")


def _names(group: Sequence[Write]) -> list[str]:
    return [raw.decode() for raw, _ in group]
