"""The two ways to end a flush: one script for the batch, or the article's WATCH / MULTI / EXEC for each record."""

from dataclasses import dataclass, field
from typing import Protocol

from asyncwb.errors import DecodeError, RedisError, RedisOutOfMemory
from asyncwb.flushing.saver import BatchSaver
from asyncwb.flushing.stale import StaleRecords
from asyncwb.protocol.messages import Claim, Failure, Rest
from asyncwb.protocol.queue import Queue
from asyncwb.protocol.transaction import Watch
from asyncwb.records import Record, Version
from asyncwb.settings import Commit
from asyncwb.support.key_encoding import raw_of


@dataclass(slots=True)
class Outcome:
    """What became of a claim's records, before the claim is acked.

    Attributes:
        stale: how many records were older than what the backend held.
        failed: key -> why it wasn't saved, and what becomes of it.
        read: key -> the version that was saved, or that failed; it may be newer than the claimed one, which is meant by
            default.
        rest: what becomes of the records that have not failed.
        freed: how many bytes transactions have removed from Redis.
        conflicts: how many transactions failed because the record was written meanwhile (WatchErrors).
    """

    stale: int = 0
    failed: dict[str, Failure] = field(default_factory=dict)
    read: dict[str, Version] = field(default_factory=dict)
    rest: Rest = "saved"
    freed: int = 0
    conflicts: int = 0


class Strategy(Protocol):
    """Saves the records of a claim; the caller then acks it."""

    async def save(self, queue: Queue, claim: Claim) -> Outcome:
        """Saves the records; a failure of the backend is part of the outcome, and isn't raised."""
        ...


class ScriptStrategy:
    """Saves the whole batch at once; ack.lua then decides each record alone, so a hot key doesn't affect the others.

    A record that was written since it was claimed is marked, and stays.
    """

    def __init__(self, saves: BatchSaver, stale: StaleRecords) -> None:
        self._saves = saves
        self._stale = stale

    async def save(self, queue: Queue, claim: Claim) -> Outcome:
        done = await self._saves.save(claim.records)
        if done.stale:
            taken = [record for record in claim.records if record.key not in done.failed]
            done.failed.update(await self._stale.unsaved(queue, taken))
        return Outcome(stale=done.stale, failed=done.failed)


class WatchStrategy:
    """The article's transaction for each record: WATCH, read, save, MULTI, delete, EXEC.

    The hole in the article's algorithm is closed by the backend, which takes only what is newer than it holds. Only
    EXEC removes records, on the connection that has read them: the ack that follows gives back whatever the claim
    still holds, since a WATCH may have reached another server than the claim. If a batch were WATCHed at once, one hot
    key would fail all the others.
    """

    def __init__(self, saves: BatchSaver, stale: StaleRecords) -> None:
        self._saves = saves
        self._stale = stale

    async def save(self, queue: Queue, claim: Claim) -> Outcome:
        outcome = Outcome(rest="again")
        for claimed in claim.records:
            try:
                async with Watch(queue, claimed.key) as watch:
                    await self._save_watched(queue, watch, claimed, outcome)
            except RedisError as error:
                if claimed.key not in outcome.read:
                    outcome.failed[claimed.key] = Failure(str(error), "later")
        return outcome

    async def _save_watched(self, queue: Queue, watch: Watch, claimed: Record, outcome: Outcome) -> None:
        try:
            record = await watch.read()
        except DecodeError as error:
            outcome.failed[claimed.key] = Failure(str(error), "dead")
            return
        if record is None:
            # Usually somebody else has saved and acked it since the claim, but that isn't certain: a former primary or
            # a lagging replica may have answered.
            outcome.failed[claimed.key] = Failure("it was gone before it could be read", "later")
            return
        done = await self._saves.save([record])
        if done.stale:
            done.failed.update(await self._stale.unsaved(queue, [record]))
        outcome.read[claimed.key] = record.version
        if done.failed:
            outcome.failed.update(done.failed)
            return
        outcome.stale += done.stale
        try:
            committed = await watch.commit()
        except RedisOutOfMemory:
            # Before 7.2, Redis refuses whatever is in MULTI at maxmemory, though it would free memory. A script may
            # run; the backend holds this version, so what isn't newer may go.
            await queue.supersede([(raw_of(record.key), record.version)])
            return
        if committed:
            outcome.freed += watch.bytes
        else:
            outcome.conflicts += 1


def strategy(commit: Commit, saves: BatchSaver, stale: StaleRecords) -> Strategy:
    """Returns the strategy for the setting `commit`."""
    return WatchStrategy(saves, stale) if commit == "watch" else ScriptStrategy(saves, stale)
