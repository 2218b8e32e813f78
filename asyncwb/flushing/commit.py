"""The two ways to end a flush: one script for the batch, or the article's WATCH / MULTI / EXEC for each record."""

from dataclasses import dataclass, field
from typing import Protocol

from asyncwb.errors import DecodeError, RedisError, RedisOutOfMemory
from asyncwb.flushing.settling import Settled, Settler
from asyncwb.protocol.messages import Claim, Failure, Rest
from asyncwb.protocol.pending import PendingRecord
from asyncwb.protocol.queue import Queue
from asyncwb.protocol.transaction import Watch
from asyncwb.records import Record, Version
from asyncwb.settings import Commit
from asyncwb.support.key_encoding import raw_of


@dataclass(slots=True)
class Outcome(Settled):
    """What became of a claim's records, before the claim is acked.

    Attributes:
        read: key -> the version that was saved, if it isn't the claimed one.
        watched: key -> the version of a record without updates that was read instead of the claimed one.
        rest: what becomes of the records that have not failed.
        freed: how many bytes transactions have removed from Redis.
        conflicts: how many transactions failed because the record was written meanwhile (WatchErrors).
    """

    read: dict[str, Version] = field(default_factory=dict)
    watched: dict[str, Version] = field(default_factory=dict)
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

    def __init__(self, settler: Settler) -> None:
        self._settler = settler

    async def save(self, queue: Queue, claim: Claim) -> Outcome:
        done = await self._settler.save(queue, claim.records, claim.pending)
        return Outcome(done.stale, done.failed, done.updated, done.overtaken)


class WatchStrategy:
    """The article's transaction for each record: WATCH, read, save, MULTI, delete, EXEC.

    The hole in the article's algorithm is closed by the backend, which takes only what is newer than it holds. Only
    EXEC removes records, on the connection that has read them: the ack that follows gives back whatever the claim
    still holds, since a WATCH may have reached another server than the claim. If a batch were WATCHed at once, one hot
    key would fail all the others.
    """

    def __init__(self, settler: Settler) -> None:
        self._settler = settler

    async def save(self, queue: Queue, claim: Claim) -> Outcome:
        outcome = Outcome(rest="again")
        everything: list[Record | PendingRecord] = [*claim.records, *claim.pending]
        for claimed in everything:
            try:
                async with Watch(queue, claimed.key) as watch:
                    await self._save_watched(queue, watch, claimed, outcome)
            except RedisError as error:
                if claimed.key not in outcome.read:
                    outcome.failed[claimed.key] = Failure(str(error), "later")
        return outcome

    async def _save_watched(
        self, queue: Queue, watch: Watch, claimed: Record | PendingRecord, outcome: Outcome
    ) -> None:
        key = claimed.key
        try:
            record = await watch.read()
        except DecodeError as error:
            outcome.failed[key] = Failure(str(error), "dead")
            return
        if record is None:
            # Usually somebody else has saved and acked it since the claim, but that isn't certain: a former primary or
            # a lagging replica may have answered.
            outcome.failed[key] = Failure("it was gone before it could be read", "later")
            return
        whole = True
        if isinstance(record, PendingRecord):
            if not isinstance(claimed, PendingRecord):
                # Nothing in it was noted as read, so writers may still fold what is in it.
                outcome.failed[key] = Failure("it was updated before it could be saved", "later")
                return
            # Only what the claim has read, and noted as read, may be used. What came since is left for the next claim.
            whole = record.version == claimed.version
            done = await self._settler.save(queue, [], [claimed])
            outcome.read[key] = claimed.version
        else:
            done = await self._settler.save(queue, [record], [])
            outcome.read[key] = outcome.watched[key] = record.version
        outcome.updated.update(done.updated)
        outcome.overtaken |= done.overtaken
        if done.failed:
            outcome.failed.update(done.failed)
            return
        outcome.stale += done.stale
        try:
            committed = whole and await watch.commit()
        except RedisOutOfMemory:
            # Before 7.2, Redis refuses whatever is in MULTI at maxmemory, though it would free memory. A script may
            # run; the backend holds this version, so what isn't newer may go.
            await queue.supersede([(raw_of(key), record.version)])
            return
        if committed:
            outcome.freed += watch.bytes
        else:
            outcome.conflicts += 1


def strategy(commit: Commit, settler: Settler) -> Strategy:
    """Returns the strategy for the setting `commit`."""
    return WatchStrategy(settler) if commit == "watch" else ScriptStrategy(settler)
