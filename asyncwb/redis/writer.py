"""Puts of one process and partition: numbered requests, one outstanding at a time, each applied at most once."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from asyncwb.errors import OutcomeUnknown, RedisError, RedisUnavailable
from asyncwb.records import MAX_SEQ, Version, make_version
from asyncwb.redis.epochs import Epochs
from asyncwb.redis.queue import Queue
from asyncwb.redis.retry import Backoff
from asyncwb.redis.steps import Applied, Bounds, PutReply, Write
from asyncwb.settings import Settings

_MOST_REFUSALS: Final = 3
"""So often a put may be refused in a row, for its epoch or its writer, before it pauses."""


@dataclass(frozen=True, slots=True)
class Full:
    """A group of writes that was refused: nothing of it was written.

    Attributes:
        limit: which limit is reached: "records", "bytes", "age" or "maxmemory".
    """

    limit: str


Outcome = list[Version] | Full


class Writer:
    """Sends groups of writes, one group a caller, and tells each caller its versions or its error.

    Args:
        queue: where the writes go.
        epochs: the handshake.
        settings: the limits, `max_delay_seconds`, `redis_retry_seconds`.
        rng: for the jitter of retries.
        on_wake: called when something may be due that no idle pool knows of.
    """

    def __init__(
        self, queue: Queue, epochs: Epochs, settings: Settings, *, rng: random.Random, on_wake: Callable[[], None]
    ) -> None:
        self._queue = queue
        self._epochs = epochs
        self._settings = settings
        self._rng = rng
        self._on_wake = on_wake
        self._bounds = _bounds(settings)
        self._id = uuid4().hex
        self._request = 0

    async def put(self, groups: Sequence[Sequence[Write]]) -> list[Outcome]:
        """Returns for each group the versions of its writes, or that it was refused.

        Raises:
            RedisUnavailable: nothing was applied.
            OutcomeUnknown: all or nothing of the request was applied, nobody can know.
            RedisOutOfMemory: nothing was applied.
            BackendError: a new epoch is needed and the backend can't allot one; nothing was applied.
        """
        self._request += 1
        epoch, applied = await self._send(groups)
        if applied.woken:
            self._on_wake()
        outcomes: list[Outcome] = []
        seq = applied.seq
        for number, group in enumerate(groups):
            if number in applied.refused:
                outcomes.append(Full(applied.full))
            else:
                first = make_version(epoch, seq + 1)
                outcomes.append([first] if len(group) == 1 else list(range(first, first + len(group))))
                seq += len(group)
        return outcomes

    async def _send(self, groups: Sequence[Sequence[Write]]) -> tuple[int, Applied]:
        # A request whose outcome is uncertain keeps its epoch when it is sent again: in another history the
        # server can't know whether it was applied, so it must not be applied there.
        uncertain, refusals = False, 0
        epoch = self._epochs.known(self._queue.partition)
        backoff = Backoff(self._settings.redis_retry_seconds, self._rng)
        while True:
            try:
                reply = await self._attempt(groups, epoch, repeated=uncertain)
            except RedisError as error:
                uncertain = uncertain or isinstance(error, OutcomeUnknown)
                # Another error (at maxmemory, say) speaks of this attempt only: an earlier one may yet arrive, and the
                # caller must neither hear that nothing was written nor have it sent again under another number.
                if not (uncertain or isinstance(error, RedisUnavailable)):
                    raise
                if not await backoff.pause():
                    raise _verdict(uncertain, str(error)) from error
                continue
            if isinstance(reply, Applied):
                return epoch, reply
            if uncertain:
                raise _verdict(uncertain, "the server has lost or changed its history since")
            refusals += 1
            if refusals > _MOST_REFUSALS and not await backoff.pause():
                raise RedisUnavailable(f"{self._queue.link.where} refuses each epoch that is agreed on with it")
            try:
                if reply == "WRITER":
                    # A fresh one: another program may have put something else in place of the old.
                    self._id = uuid4().hex
                    await self._queue.register(self._id)
                else:
                    await self._epochs.refresh(self._queue.partition, epoch)
                    epoch = self._epochs.known(self._queue.partition)
            except (RedisUnavailable, OutcomeUnknown) as error:
                if not await backoff.pause():
                    raise _verdict(uncertain, str(error)) from error

    async def _attempt(self, groups: Sequence[Sequence[Write]], epoch: int, *, repeated: bool) -> PutReply:
        return await self._queue.put(
            groups,
            writer=self._id,
            request=self._request,
            repeated=repeated,
            epoch=epoch,
            delay_seconds=self._settings.max_delay_seconds,
            bounds=self._bounds,
        )


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
        # A caller that gets an error knows; one that waits must not be overtaken.
        in_order=settings.on_full != "raise",
    )


def _verdict(uncertain: bool, reason: str) -> Exception:
    if uncertain:
        return OutcomeUnknown(f"a write was sent and may or may not have been applied: {reason}")
    return RedisUnavailable(reason)


assert MAX_SEQ == 4294967295, "lua/put.lua spells this number"
