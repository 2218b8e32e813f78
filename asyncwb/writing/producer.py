"""Sends one process's writes to a partition, as numbered requests that are applied in order, each at most once."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from typing import Final
from uuid import uuid4

from asyncwb.errors import OutcomeUnknown, RedisError, RedisUnavailable
from asyncwb.protocol.epochs import Epochs
from asyncwb.protocol.messages import Applied, Bounds, PutReply, Request, Write
from asyncwb.protocol.queue import Queue
from asyncwb.records import Version, make_version
from asyncwb.settings import Settings
from asyncwb.support.backoff import Backoff
from asyncwb.writing.attempts import Next, after_error, after_reply
from asyncwb.writing.coalescing import Coalesced, coalesced

_MOST_NAMES: Final = 64

_MOST_REFUSALS: Final = 3
"""How often in a row a put may be refused, for its epoch or its writer id, before it pauses."""


@dataclass(frozen=True, slots=True)
class Full:
    """A group of writes that was refused; none of them was written.

    Attributes:
        limit: which limit is reached: "records", "bytes", "age" or "maxmemory"; "turn" if none is, but earlier writes
            of this process wait for room.
        dead: the number of dead letters if they alone leave no room for the group (waiting is useless then), else 0.
    """

    limit: str
    dead: int = 0


@dataclass(frozen=True, slots=True)
class NotApplied:
    """A group of which some writes weren't applied, for reasons of their own.

    Attributes:
        first: the version of the group's first write, also if that wasn't applied; the others follow it one by one.
        blocked: the places, from 0, of updates whose key is dead, since an update before them can't be applied.
        unmet: the places of writes whose condition isn't met -> the version that the key has; None if only the backend
            can tell.
    """

    first: Version
    blocked: frozenset[int] = frozenset()
    unmet: Mapping[int, Version | None] = field(default_factory=dict)

    def applied(self, count: int) -> list[int]:
        """The places of the writes that were applied, of so many."""
        return [place for place in range(count) if place not in self.blocked and place not in self.unmet]


Outcome = Version | Full | NotApplied
"""The version of a group's first write (the others' versions follow it one by one), or what was not applied of it."""


class Producer:
    """Sends groups of writes, one group for each caller, to Redis, and retries them where that is safe.

    Args:
        queue: the queue of the partition.
        epochs: knows the current epoch, and agrees on a new one.
        settings: the limits, `on_full`, `max_delay_seconds` and `redis_retry_seconds`.
        rng: for the jitter of retries.
        wake: called when a record may be due that no idle pool knows of.
        on_long: called with keys whose records have become long by many updates.
    """

    def __init__(
        self,
        queue: Queue,
        epochs: Epochs,
        settings: Settings,
        *,
        rng: random.Random,
        wake: Callable[[], None],
        on_long: Callable[[Sequence[bytes]], None],
    ) -> None:
        self._queue = queue
        self._epochs = epochs
        self._settings = settings
        self._rng = rng
        self._wake = wake
        self._on_long = on_long
        self.bounds = _bounds(settings)
        self._id = uuid4().hex
        self._registered = False
        self._request = 0
        self._unanswered: dict[int, asyncio.Event] = {}
        self._registering = asyncio.Lock()
        # Includes ids whose registration may not have arrived. A server that answers badly causes many of them; the
        # oldest are dropped here, and expire in Redis.
        self._names: deque[str] = deque(maxlen=_MOST_NAMES)

    async def put(self, groups: Sequence[Sequence[Write]], *, others_wait: bool = False) -> Sequence[Outcome]:
        """Returns for each group the version of its first write, or that it was refused.

        Args:
            groups: the writes, one group for each caller.
            others_wait: whether earlier writes wait for room; then only groups that need no room are written.

        Raises:
            RedisUnavailable: nothing was applied.
            OutcomeUnknown: the request was applied wholly or not at all, and it can't be determined which.
            RedisOutOfMemory: nothing was applied.
            UnsuitableServer: the server could lose writes now; nothing was applied.
            BackendError: a new epoch is needed and the backend can't allot one; nothing was applied.
            NamespaceMismatch: the namespace was made anew, see `Epochs.refresh`; nothing was applied.
        """
        sent = coalesced(groups, limited=self.bounds.any)
        self._request += 1
        request, self._unanswered[self._request] = self._request, asyncio.Event()
        try:
            epoch, applied = await self._send(sent.request, request, others_wait=others_wait)
        finally:
            self._unanswered.pop(request).set()
        if applied.woken:
            self._wake()
        if applied.long:
            self._on_long([sent.request.writes[place][0] for place in applied.long])
        return _outcomes(groups, make_version(epoch, applied.seq + 1), applied, sent)

    async def leave(self) -> None:
        """Makes the server forget this writer, which must not send anything afterwards. Raises RedisError."""
        await self._queue.leave(self._names)

    async def allot(self, count: int) -> Version:
        """Allots `count` versions, one after the other, to writes of the last request that bypass Redis.

        See `Queue.allot`. It may be repeated safely after a lost reply.

        Returns:
            The first of the versions.

        Raises:
            RedisError: none were allotted, or it isn't known.
            BackendError: a new epoch is needed and the backend can't allot one.
            NamespaceMismatch: the namespace was made anew, see `Epochs.refresh`.
        """
        ask = partial(self._queue.allot, count, writer=self._id, request=self._request)
        epoch, before = await self._epochs.call(self._queue.partition, ask)
        return make_version(epoch, before + 1)

    async def _send(self, sent: Request, request: int, *, others_wait: bool) -> tuple[int, Applied]:
        uncertain, refusals = False, 0
        epoch, writer, registered = 0, "", False
        backoff = Backoff(self._settings.redis_retry_seconds, self._rng)
        while True:
            if not uncertain:
                self._queue.suitability.require()
                # Read them anew for each attempt: earlier values may belong to another server, which has come back.
                epoch = self._epochs.known(self._queue.partition)
                writer, registered = self._id, self._registered
            try:
                reply = await self._attempt(sent, request, writer, epoch, repeated=uncertain, others_wait=others_wait)
            except RedisError as error:
                follows = after_error(error, uncertain=uncertain, registered=registered)
                if follows is Next.FAIL:
                    raise
                uncertain = follows is Next.REPEAT
                if not await backoff.pause():
                    raise _verdict(uncertain, str(error)) from error
                continue
            if isinstance(reply, Applied):
                return epoch, reply
            follows = after_reply(reply, uncertain=uncertain)
            if follows is Next.REPEAT:
                continue
            if follows is Next.UNKNOWN:
                raise _verdict(uncertain, "the server has lost or changed its history since")
            refusals += 1
            if refusals > _MOST_REFUSALS and not await backoff.pause():
                where = self._queue.link.where
                raise RedisUnavailable(
                    f"{where} refuses the epoch it has just confirmed; does another program write to it?"
                )
            try:
                await self._mend(reply, writer, epoch)
            except (RedisUnavailable, OutcomeUnknown) as error:
                if not await backoff.pause():
                    raise _verdict(uncertain, str(error)) from error

    async def _attempt(
        self,
        sent: Request,
        request: int,
        writer: str,
        epoch: int,
        *,
        repeated: bool,
        others_wait: bool,
    ) -> PutReply:
        """Sends a request once; "EARLY" means that it overtook its predecessor and was not applied.

        In that case it returns only when the predecessor has its outcome, so that the request can be sent again.
        """
        before = self._unanswered.get(request - 1)
        reply = await self._queue.put(
            sent,
            writer=writer,
            request=request,
            repeated=repeated,
            epoch=epoch,
            delay_seconds=self._settings.max_delay_seconds,
            bounds=self.bounds,
            after=0 if before is None else request - 1,
            others_wait=others_wait,
        )
        if reply == "EARLY" and before is not None:
            await before.wait()  # it may still be applied, or fail; then this one may follow
        return reply

    async def _mend(self, refusal: str, writer: str, epoch: int) -> None:
        """Registers a new writer id or refreshes the epoch, so that the next attempt isn't refused for that again."""
        if refusal == "WRITER":
            await self._register(instead_of=writer)
        else:
            await self._epochs.refresh(self._queue.partition, epoch)

    async def _register(self, *, instead_of: str) -> None:
        """Registers a new writer id, unless another request already has.

        It is never the old one again, as another program may have overwritten the server's memory of that.
        """
        async with self._registering:
            if self._id == instead_of:
                fresh = uuid4().hex
                self._names.append(fresh)
                await self._queue.register(fresh)
                self._id, self._registered = fresh, True


def _outcomes(
    groups: Sequence[Sequence[Write]], first: Version, applied: Applied, sent: Coalesced
) -> Sequence[Outcome]:
    if not (applied.refused or applied.blocked or applied.unmet):
        if [*map(len, groups)].count(1) == len(groups):
            return range(first, first + len(groups))
        return [first + start for start in accumulate(map(len, groups[:-1]), initial=0)]
    stands_for = sent.stands_for or [[place] for place in range(len(sent.request.writes))]
    refused, hopeless = set(applied.refused), set(applied.hopeless)
    if sent.stands_for is not None:  # each write that was sent is a group, which may stand for several
        refused = {place for number in applied.refused for place in stands_for[number]}
        hopeless = {place for number in applied.hopeless for place in stands_for[number]}
    blocked = {place for number in applied.blocked for place in stands_for[number]}
    unmet = {place: version for number, version in applied.unmet.items() for place in stands_for[number]}
    outcomes: list[Outcome] = []
    start = 0
    for number, group in enumerate(groups):
        places = range(start, start + len(group))
        if number in refused:
            outcomes.append(Full(applied.full, applied.dead if number in hopeless else 0))
        elif not blocked.isdisjoint(places) or not unmet.keys().isdisjoint(places):
            outcomes.append(
                NotApplied(
                    first + start,
                    frozenset(place - start for place in places if place in blocked),
                    {place - start: unmet[place] for place in places if place in unmet},
                )
            )
        else:
            outcomes.append(first + start)
        start += len(group)
    return outcomes


def _bounds(settings: Settings) -> Bounds:
    records, size, age = settings.max_dirty or 0, settings.max_bytes or 0, settings.max_age_seconds or 0.0
    low = settings.low_watermark
    return Bounds(
        records=records,
        low_records=int(records * low),
        bytes=size,
        low_bytes=int(size * low),
        age_seconds=age,
        low_age_seconds=age * low,
        # With "raise", callers learn that they were refused; a group that waits or is written through must not be
        # overtaken.
        in_order=settings.on_full != "raise",
    )


def _verdict(uncertain: bool, reason: str) -> Exception:
    if uncertain:
        return OutcomeUnknown(f"a write was sent and may or may not have been applied: {reason}")
    return RedisUnavailable(reason)
