"""Handles writes at a limit: they are refused, wait in order, or are written through to the backend."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NoReturn, cast

from asyncwb.backend import newest_per_key
from asyncwb.errors import (
    AsyncwbError,
    BackendError,
    BufferFull,
    NamespaceMismatch,
    OutcomeUnknown,
    PartialFailure,
    RedisError,
    RedisOutOfMemory,
    SaveError,
    twin,
)
from asyncwb.events import Event, FullChanged
from asyncwb.flushing.stale import StaleRecords
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.protocol.acknowledged import Acknowledged
from asyncwb.protocol.body import is_plain, record_of
from asyncwb.protocol.epochs import Epochs
from asyncwb.protocol.messages import Write
from asyncwb.protocol.queue import Queue
from asyncwb.records import Version
from asyncwb.settings import Settings
from asyncwb.stats import Totals
from asyncwb.support.backoff import Backoff, retrying
from asyncwb.support.outcomes import failure
from asyncwb.writing.conditions import not_applied
from asyncwb.writing.producer import Full, NotApplied, Outcome, Producer
from asyncwb.writing.waitingroom import WaitingRoom, WaitingWrites

_log: Final = logging.getLogger("asyncwb")

MOST_PER_REQUEST: Final = 1000
"""How many writes may share one script call: enough to spread its cost, few enough not to hold up the server."""

_FIRST_PAUSE_SECONDS: Final = 0.005
_LONGEST_PAUSE_SECONDS: Final = 0.05
"""The longest pause between two attempts to write what waits; pauses begin with `_FIRST_PAUSE_SECONDS`."""

Answer = Version | WaitingWrites | Exception
"""The version of a group's first write (the others' follow it one by one), or the waiting group, or an error."""


class Admission:
    """Stands between the callers of one partition and its `Producer`.

    Args:
        writer: sends the writes to Redis.
        queue, epochs, backend, rng: those of the partition.
        settings: the limits, and what happens at a limit (`on_full`, `full_timeout_seconds`).
        acknowledged: records every write that Redis has acknowledged.
        totals: its `acknowledged` is counted up.
        emit: called with a `FullChanged` when a limit begins or ceases to keep writes out.
    """

    def __init__(
        self,
        writer: Producer,
        queue: Queue,
        epochs: Epochs,
        backend: BackendAdapter,
        settings: Settings,
        *,
        acknowledged: Acknowledged,
        totals: Totals,
        rng: random.Random,
        emit: Callable[[Event], None],
    ) -> None:
        self._acknowledged = acknowledged
        self._totals = totals
        self._producer = writer
        self._queue = queue
        self._backend = backend
        self._settings = settings
        self._rng = rng
        self._emit = emit
        self._full = ""
        self._stale = StaleRecords(backend, epochs, totals=totals, emit=emit)
        self._room = WaitingRoom(settings.full_timeout_seconds)
        self._tried: Sequence[WaitingWrites] = ()
        self._turn = asyncio.Lock()

    async def serve(self) -> NoReturn:
        """Sends waiting writes again and again until there is room for them; runs until cancelled."""
        while True:
            await self._room.occupied.wait()
            pause = _FIRST_PAUSE_SECONDS
            while self._room:
                await asyncio.sleep(pause)
                async with self._turn:
                    none = await self._try_waiting()
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS) if none else _FIRST_PAUSE_SECONDS

    async def join(self) -> None:
        """Returns when no write waits for room."""
        await self._room.empty.wait()

    def close(self, error: Exception, *, under_way: Exception) -> None:
        """Fails the writes that wait for room with `error`, and those sent but not yet answered with `under_way`."""
        for each in self._tried:
            each.fail(under_way)
        self._room.close(error)

    async def put(self, groups: Sequence[Sequence[Write]]) -> Sequence[Answer]:
        """Answers each group with the version of its first write, an error, or `WaitingWrites` if it has to wait.

        Raises the same errors as `Producer.put`, except that `RedisOutOfMemory` counts as a limit.
        """
        if self._settings.on_full != "wait":
            return await self._put(groups)
        async with self._turn:  # not while waiting writes are being sent again: they came first
            if not self._room:
                return await self._put(groups)
            return await self._put_behind(groups)

    async def _put(self, groups: Sequence[Sequence[Write]]) -> Sequence[Answer]:
        outcomes = await self._outcomes(groups)
        if not self._full and (isinstance(outcomes, range) or all(isinstance(each, int) for each in outcomes)):
            self._totals.acknowledged += sum(map(len, groups))
            return cast("Sequence[Version]", outcomes)
        refused = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Full)]
        await self._note(outcomes)
        answers = [self._answer(group, outcome) for group, outcome in zip(groups, outcomes, strict=True)]
        if self._settings.on_full == "write-through":
            # A write that dead letters alone keep out isn't written through: that would go on until an operator acts.
            through = [number for number in refused if not cast("Full", outcomes[number]).dead]
            for number, answer in zip(
                through, await self._written_through([groups[number] for number in through]), strict=True
            ):
                answers[number] = answer
        self._count(groups, answers)
        return answers

    async def _put_behind(self, groups: Sequence[Sequence[Write]]) -> Sequence[Answer]:
        """Writes only groups that need no room, as earlier writes wait; groups that share keys with those wait, too."""
        following = self._room.following(groups)
        sent = [number for number in range(len(groups)) if number not in following]
        outcomes: list[Outcome | NamespaceMismatch] = [Full("turn")] * len(groups)
        if sent:
            for number, outcome in zip(
                sent, await self._outcomes([groups[number] for number in sent], others_wait=True), strict=True
            ):
                outcomes[number] = outcome
        answers = [self._answer(group, outcome) for group, outcome in zip(groups, outcomes, strict=True)]
        self._count(groups, answers)
        return answers

    async def _try_waiting(self) -> bool:
        """Sends the first of the waiting writes once more; returns whether there was no room for any of them."""
        self._tried = tried = self._room.first(MOST_PER_REQUEST, self._settings.batch_bytes)
        if not tried:
            return True
        groups = [each.group for each in tried]
        try:
            outcomes = await self._outcomes(groups)
            await self._note(outcomes)
        except Exception as error:  # noqa: BLE001 - it is raised where it belongs: in every caller
            self._tried = ()
            for each in tried:
                each.fail(error)
            return False
        self._tried = ()  # but not after a cancellation: `close` then has to know that they were sent
        answers = [self._answer(group, outcome) for group, outcome in zip(groups, outcomes, strict=True)]
        self._count(groups, answers)
        for waiting, answer in zip(tried, answers, strict=True):
            if isinstance(answer, WaitingWrites):
                waiting.reason = answer.reason
            elif isinstance(answer, Exception):
                waiting.fail(answer)
            elif not waiting.future.done():
                waiting.future.set_result(answer)
        return all(isinstance(answer, WaitingWrites) for answer in answers)

    def _answer(self, group: Sequence[Write], outcome: Outcome | NamespaceMismatch) -> Answer:
        if isinstance(outcome, NotApplied):
            return not_applied(group, outcome)
        if isinstance(outcome, NamespaceMismatch):
            return twin(outcome)
        if not isinstance(outcome, Full):
            return outcome
        error = self._error(outcome)
        if self._settings.on_full == "wait" and not outcome.dead:
            return WaitingWrites(self._room, group, error)
        return error

    def _count(self, groups: Sequence[Sequence[Write]], answers: Sequence[Answer]) -> None:
        self._totals.acknowledged += sum(
            len(answer.versions) if isinstance(answer, PartialFailure) else len(group) * isinstance(answer, Version)
            for group, answer in zip(groups, answers, strict=True)
        )

    async def _outcomes(
        self, groups: Sequence[Sequence[Write]], *, others_wait: bool = False
    ) -> Sequence[Outcome | NamespaceMismatch]:
        try:
            outcomes = await self._producer.put(groups, others_wait=others_wait)
        except RedisOutOfMemory:
            return [Full("maxmemory")] * len(groups)
        except NamespaceMismatch as error:
            plain = [all(is_plain(body) for _, body in group) for group in groups]
            if all(plain) or not any(plain):
                raise
            # Perhaps the namespace has no updates; that isn't the fault of those who only share the request.
            rest = [group for group, is_one in zip(groups, plain, strict=True) if is_one]
            found = iter(await self._outcomes(rest, others_wait=others_wait))
            return [next(found) if is_one else error for is_one in plain]
        self._acknowledged.add(groups, outcomes)
        for group, outcome in zip(groups, outcomes, strict=True) if not isinstance(outcomes, range) else ():
            if isinstance(outcome, NotApplied):
                for place in outcome.applied(len(group)):
                    self._acknowledged.add([[group[place]]], [outcome.first + place])
        return outcomes

    async def _note(self, outcomes: Sequence[Outcome | NamespaceMismatch]) -> None:
        limit = next((each.limit for each in outcomes if isinstance(each, Full)), "")
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
                # Records that are delayed to collect more writes of their key are made due now, to make room.
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
            "turn": "has earlier writes of this process that wait for room",
        }[full.limit]
        where = f"nothing was written: partition {self._queue.partition} of namespace {settings.namespace!r} {what}"
        if full.dead:
            return BufferFull(
                f"{where}, and its {full.dead} dead letter(s) alone leave no room for this write: see `asyncwb dead "
                "list`, then `asyncwb dead retry` or `asyncwb dead drop` them, or raise the limit"
            )
        return BufferFull(f"{where}; let flushers catch up (`asyncwb status`), or raise the limit")

    async def _written_through(self, groups: Sequence[Sequence[Write]]) -> list[Answer]:
        try:
            first = await self._allot(sum(map(len, groups)))
        except (BackendError, RedisError) as error:
            return [error] * len(groups)
        try:
            return await self._write_through(groups, first)
        except (BackendError, RedisError) as error:
            reason = "the buffer is full, and writing through to the backend failed, but the write may still reach it"
            return [OutcomeUnknown(f"{reason}: {error}") for _ in groups]

    async def _write_through(self, groups: Sequence[Sequence[Write]], first: Version) -> list[Answer]:
        """Saves writes directly to the backend, under allotted versions that keep them in order with buffered writes.

        Records of the same keys that were put into Redis before the versions were allotted are older, and are removed
        from Redis before the callers are answered. Those put later are newer, and the backend keeps the newest version.
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
                stale = await self._backend.save(records[start : start + most])
            except SaveError as error:
                failed.update(error.failed)
                stale = error.stale
            if stale:
                taken = [record for record in records[start : start + most] if record.key not in failed]
                for key, failure in (await self._stale.blocked(self._queue, taken)).items():
                    failed[key] = BackendError(f"key {key!r} wasn't written: {failure.reason}; write it again")
        saved = [(record.key.encode(), record.version) for record in records if record.key not in failed]
        limit = self._settings.redis_retry_seconds
        supersede = partial(self._queue.supersede, saved, written_through=True)
        if not await retrying(supersede, limit_seconds=limit, rng=self._rng):
            reason = (
                "a failover has lost that the buffer writes through, so updates that were made since may have replaced "
                "what was written"
            )
            return [OutcomeUnknown(reason) for _ in groups]
        self._acknowledged.saved(saved)
        return [
            self._saved_but_for(dict(zip(_names(group), numbers, strict=True)), failed)
            for group, numbers in zip(groups, versions, strict=True)
        ]

    def _saved_but_for(self, versions: dict[str, Version], reasons: Mapping[str, Exception]) -> Answer:
        """Returns the answer of a group with these versions; the keys in `reasons` weren't saved, all others were."""
        failed = {key: self._refused(key, reasons[key]) for key in versions if key in reasons}
        if not failed:
            return next(iter(versions.values()))
        written = {key: version for key, version in versions.items() if key not in failed}
        return failure(failed, of=len(versions), versions=written)

    async def _allot(self, count: int) -> Version:
        backoff = Backoff(self._settings.redis_retry_seconds, self._rng)
        while True:
            try:
                return await self._producer.allot(count)
            except RedisError:
                if not await backoff.pause():
                    raise

    def _refused(self, key: str, reason: Exception) -> AsyncwbError:
        if isinstance(reason, AsyncwbError):
            return reason
        return BackendError(f"key {key!r} was written through to backend {self._backend.name}, which failed: {reason}")


def _names(group: Sequence[Write]) -> list[str]:
    return [raw.decode() for raw, _ in group]
