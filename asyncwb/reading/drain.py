"""Draining a partition: waiting for all acknowledged writes, and finding those that were lost or dead-lettered."""

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
    """The writes that a drain waited for and that could not be saved.

    Attributes:
        lost: keys whose writes are neither in Redis nor in the backend.
        forgotten: how many more writes may be lost, whose keys this process no longer remembers.
        unknown: keys of which there is no record anywhere: their writes are lost, or the keys were deleted since and
            the backend has forgotten that.
        overtaken: keys of which the backend holds updates that were made later, perhaps without these writes.
        dead: key -> reason, for records that were dead-lettered during the drain.
        errors: errors because of which it couldn't be determined what is saved.
    """

    lost: list[str] = field(default_factory=list)
    forgotten: int = 0
    unknown: list[str] = field(default_factory=list)
    overtaken: list[str] = field(default_factory=list)
    dead: dict[str, str] = field(default_factory=dict)
    errors: list[AsyncwbError] = field(default_factory=list)

    @property
    def gone(self) -> list[bytes]:
        """The keys in `lost`, `unknown` and `overtaken`, as bytes."""
        return [raw_of(key) for key in (*self.lost, *self.unknown, *self.overtaken)]

    def raise_for_loss(self) -> None:
        """Raises the first of `errors`, or else WriteLost, OutcomeUnknown or DeadLettered, whichever applies first."""
        if self.errors:
            raise self.errors[0]
        dead = f"{len(self.dead)} record(s) were dead-lettered, but stay readable (see `asyncwb dead list`): " + _some(
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
        if self.overtaken:
            raise OutcomeUnknown(
                f"the backend holds newer versions of {len(self.overtaken)} key(s), and whether earlier writes are "
                f"part of them is unknown: {_some(map(repr, self.overtaken))}; the server's history has changed since, "
                "or dead letters were dropped: read the keys to see" + (f". Besides, {dead}" if self.dead else "")
            )
        if self.dead:
            raise DeadLettered(dead, reasons=self.dead)


class Drain:
    """Waits for the writes of one partition that were acknowledged before the drain was created.

    Args:
        queue, waiter, acknowledged: those of the partition.
        retry: repeats a request to Redis after a lost connection.
        wake: wakes the flushers of this process, after records were made due.
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
        """Waits, and returns the writes that could not be saved.

        Raises:
            RedisError: it can't be determined what is unsaved. Errors of single keys are in the result instead.
        """
        begun = await self._survey()
        await self._retry(self._queue.hasten)
        self._wake()
        await self._until_few()
        # Keys that are written all the time are always dirty: what counts is that their present versions get saved.
        unsaved: list[tuple[bytes, Version]] = await self._retry(self._queue.unsaved)
        # A record that another program wrote has no valid version to wait for. It gets None: whatever Redis has of it
        # at the first look, which ends as a dead letter.
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
        """Polls the backlog's size while it is large and shrinking; asking for each of so many keys would cost more."""
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
        for key, (error, letter, overtaken) in failed.items():
            if letter is not None:
                # A write of this process that it didn't know to be dead counts: nobody has been told of it.
                if key in unsaved or self._known_dead.get(key) != letter.version:
                    drained.dead[letter.key] = letter.reason
            elif overtaken:
                drained.overtaken.append(text_of(key))
            elif isinstance(error, WriteLost) or (isinstance(error, OutcomeUnknown) and key in unsaved):
                lost.append(key)
            elif isinstance(error, OutcomeUnknown):
                unknown.append(key)
            else:
                drained.errors.append(error)
        drained.lost, drained.unknown = list(map(text_of, lost)), list(map(text_of, unknown))

    async def _add_dead(self, drained: Drained, begun: Pending, ended: Pending) -> None:
        """Adds records that were dead-lettered during the drain, before they could be waited for.

        Records that were dead before it began don't count. Versions written during the drain do, as a write that the
        drain waits for may have been replaced by one. A version newer than all that exist now was written by another
        program, and is left out.
        """
        async for page in self._queue.fields(self._queue.keys.dead):
            for raw, entry in page:
                letter = unpack_dead(raw, entry)
                since = round(letter.died * 1000) > begun.last_death and letter.version <= ended.newest
                if since and self._known_dead.get(raw) != letter.version:
                    drained.dead[letter.key] = letter.reason
                    self._acknowledged.note_dead(raw, letter.version)


def together(parts: Iterable[Drained]) -> Drained:
    """Combines the results of several partitions."""
    whole = Drained()
    for part in parts:
        whole.lost += part.lost
        whole.forgotten += part.forgotten
        whole.unknown += part.unknown
        whole.overtaken += part.overtaken
        whole.dead |= part.dead
        whole.errors += part.errors
    return whole


def _some(items: Iterable[str]) -> str:
    shown = list(items)
    more = len(shown) - _NAMED
    return ", ".join(shown[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
