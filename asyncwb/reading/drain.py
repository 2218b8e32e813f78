"""Draining one partition: waiting for all that was acknowledged, and telling what was lost or given up meanwhile."""

import asyncio
import math
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from asyncwb.errors import AsyncwbError, DeadLettered, OutcomeUnknown, WriteLost
from asyncwb.protocol.acknowledged import Acknowledged
from asyncwb.protocol.messages import Pending
from asyncwb.protocol.queue import Queue
from asyncwb.protocol.wire import unpack_dead
from asyncwb.reading.flush_waiter import Unsaved, Waiter
from asyncwb.records import Version, epoch_of
from asyncwb.support.backoff import Retrying
from asyncwb.support.key_encoding import raw_of, text_of

_POLL_SECONDS: Final = 0.02
_FEW: Final = 5000
_STALLED_POLLS: Final = 25
_NAMED: Final = 3


@dataclass(slots=True)
class Drained:
    """What could not be saved of what a drain waited for.

    Attributes:
        lost: keys whose writes are neither in Redis nor in the backend.
        forgotten: how many more may be lost, of which this process no longer knows the keys.
        unknown: keys of which nothing is left anywhere: lost, or deleted and forgotten since.
        dead: key -> reason, of those that were dead-lettered while it waited.
        errors: what else kept it from telling.
    """

    lost: list[str] = field(default_factory=list)
    forgotten: int = 0
    unknown: list[str] = field(default_factory=list)
    dead: dict[str, str] = field(default_factory=dict)
    errors: list[AsyncwbError] = field(default_factory=list)

    @property
    def gone(self) -> list[bytes]:
        """The keys, in UTF-8, of what is lost or unknown."""
        return [raw_of(key) for key in (*self.lost, *self.unknown)]

    def raise_for_loss(self) -> None:
        """Raises what kept it from telling, else WriteLost, else OutcomeUnknown, else DeadLettered, if there is any."""
        if self.errors:
            raise self.errors[0]
        dead = f"{len(self.dead)} record(s) were dead-lettered, they stay readable (`asyncwb dead list`): " + _some(
            f"{key!r}: {reason}" for key, reason in self.dead.items()
        )
        if self.lost or self.forgotten:
            parts = []
            if self.lost:
                parts.append(f"{len(self.lost)} acknowledged write(s): {_some(map(repr, self.lost))}")
            if self.forgotten:
                parts.append(f"up to {self.forgotten:,} whose keys this process no longer remembers")
            raise WriteLost(
                f"neither Redis nor the backend has {', and '.join(parts)}; the server lost data (see its persistence "
                f"and eviction settings), or dead letters were dropped: write them again"
                + (f". Besides, {dead}" if self.dead else ""),
                keys=self.lost,
            )
        if self.unknown:
            raise OutcomeUnknown(
                f"neither Redis nor the backend has anything of {len(self.unknown)} key(s) written over an hour ago: "
                f"{_some(map(repr, self.unknown))}; the writes are lost, unless the keys were deleted since and the "
                "backend has forgotten that, too" + (f". Besides, {dead}" if self.dead else "")
            )
        if self.dead:
            raise DeadLettered(dead, reasons=self.dead)


class Drain:
    """Waits for the writes of one partition that were acknowledged before it was made.

    Args:
        queue, waiter, acknowledged: of the partition.
        retry: asks Redis again after a lost connection.
        wake: tells the flushers of this process that something was made due.
    """

    def __init__(
        self,
        queue: Queue,
        waiter: Waiter,
        acknowledged: Acknowledged,
        *,
        retry: Retrying,
        wake: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._waiter = waiter
        self._acknowledged = acknowledged
        self._retry = retry
        self._wake = wake
        self._ours = acknowledged.unsaved()
        self._known_dead = dict(acknowledged.dead)
        self._forgotten = acknowledged.forgotten.copy()

    async def run(self) -> Drained:
        """Raises RedisError, BackendError: it can't be told what is unsaved."""
        begun = await self._survey()
        await self._retry(self._queue.hasten)
        self._wake()
        await self._until_few()
        # Keys that never rest are dirty at any time; what counts is that the versions that they have now get saved.
        unsaved: list[tuple[bytes, Version]] = await self._retry(self._queue.unsaved)
        # Of what another program wrote there is no version to wait for, only an end: such a record is dead-lettered.
        epoch = epoch_of((await self._survey()).newest)
        writes = {key: version if epoch_of(version) <= epoch else None for key, version in unsaved}
        for key, version in self._ours.items():
            if (self._acknowledged.version_of(key) or 0) >= version > (writes.get(key) or 0):
                writes[key] = version
        drained = Drained()
        self._sort_out(drained, await self._waiter.wait_all(writes), {key for key, _ in unsaved})
        ended = await self._survey()
        if ended.dead:
            await self._add_dead(drained, begun, ended)
        drained.forgotten = sum(count for epoch, count in self._forgotten.items() if epoch < epoch_of(ended.newest))
        self._acknowledged.forgotten -= self._forgotten
        return drained

    async def _survey(self) -> Pending:
        return await self._retry(self._queue.survey)

    async def _until_few(self) -> None:
        """Counts what is unsaved while that is much and becomes less; a question for each key would cost more."""
        least, stalled = math.inf, 0
        while (left := sum(await self._retry(self._queue.pending))) > _FEW:
            stalled = 0 if left < least else stalled + 1
            least = min(least, left)
            if stalled == _STALLED_POLLS:
                return
            await asyncio.sleep(_POLL_SECONDS)

    def _sort_out(self, drained: Drained, failed: Mapping[bytes, Unsaved], unsaved: Container[bytes]) -> None:
        lost: list[bytes] = []
        unknown: list[bytes] = []
        for key, (error, letter) in failed.items():
            if letter is not None:
                # One of ours that this process didn't know to be dead counts: nobody was told of it.
                if key in unsaved or self._known_dead.get(key) != letter.version:
                    drained.dead[letter.key] = letter.reason
            elif isinstance(error, WriteLost) or (isinstance(error, OutcomeUnknown) and key in unsaved):
                lost.append(key)
            elif isinstance(error, OutcomeUnknown):
                unknown.append(key)
            else:
                drained.errors.append(error)
        drained.lost, drained.unknown = list(map(text_of, lost)), list(map(text_of, unknown))

    async def _add_dead(self, drained: Drained, begun: Pending, ended: Pending) -> None:
        """Those that died before they could be waited for; what was dead before the first question doesn't count.

        Also newer versions than there were then: what the drain was asked to wait for may have died in one of them. One
        that is newer than all there are now was written by another program.
        """
        async for page in self._queue.fields(self._queue.keys.dead):
            for raw, entry in page:
                letter = unpack_dead(raw, entry)
                since = round(letter.died * 1000) > begun.last_death and letter.version <= ended.newest
                if since and self._known_dead.get(raw) != letter.version:
                    drained.dead[letter.key] = letter.reason
                    self._acknowledged.note_dead(raw, letter.version)


def together(parts: Iterable[Drained]) -> Drained:
    """What could not be saved of several partitions."""
    whole = Drained()
    for part in parts:
        whole.lost += part.lost
        whole.forgotten += part.forgotten
        whole.unknown += part.unknown
        whole.dead |= part.dead
        whole.errors += part.errors
    return whole


def _some(items: Iterable[str]) -> str:
    shown = list(items)
    more = len(shown) - _NAMED
    return ", ".join(shown[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
