"""Steps of flushers: claiming records, renewing their leases, and ending the claim."""

import contextlib
import random
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import uuid4

import anyio

from asyncwb.errors import DecodeError, OutcomeUnknown, RedisError, RedisUnavailable
from asyncwb.protocol import scripts
from asyncwb.protocol.messages import NO_LIMIT, Acked, Claim, Failure, Garbage, Rest, Retries, Retry
from asyncwb.protocol.pending import PendingRecord, is_pending, unpack_pending
from asyncwb.protocol.steps.partition import PAGE, PartitionSteps, ms
from asyncwb.protocol.wire import origin_bytes, pack_version, unpack_record
from asyncwb.records import Record, Version
from asyncwb.redis.link import Argument, Link, Session
from asyncwb.redis.suitability import Suitability
from asyncwb.support.key_encoding import raw_of, text_of

_REMEMBERED_MS: Final = 10_000
"""A claim is remembered for this long after its leases have ended, or for as long as they lasted if that is longer. By
then its records are dirty again or belong to another claim, and a later ack would only spare a save that the backend
finds stale."""

RELEASE_SECONDS: Final = 1.0
"""How long a cancelled flusher may try to release its records; after that, their leases have to expire."""


_MOST_OWED: Final = 64


class FlusherSteps(PartitionSteps):
    """The steps of flushers."""

    def __init__(
        self, link: Link, namespace: str, partition: int, partitions: int, suitability: Suitability | None = None
    ) -> None:
        super().__init__(link, namespace, partition, partitions, suitability)
        # Claims of which nothing will be saved, and whose end the server hasn't confirmed. The oldest are dropped:
        # their leases expire.
        self._owed: deque[str] = deque(maxlen=_MOST_OWED)

    async def claim(
        self,
        *,
        records: int,
        bytes: int,  # noqa: A002 - its unit
        lease_seconds: float,
        alone: bool = False,
    ) -> Claim:
        """Leases due records.

        Args:
            records: how many at most.
            bytes: how many bytes they may have together; a single larger record is claimed alone.
            lease_seconds: how long until the leases expire.
            alone: whether to claim one record that has to be claimed alone, if there is one. The caller must hold no
                other lease in this process: if the process dies then, that record is to blame.

        Raises:
            RedisUnavailable: the reply was lost, among other reasons. The records that it may have taken are released
                if possible.
            RedisError: the server refused the script.
        """
        await self._release_owed()
        claim_id, taken = uuid4().hex, False
        refusal: RedisError | None = None
        try:
            # One connection: a read over another one may reach another server, and return an older record than the one
            # that the ack removes.
            async with self.link.session() as session:
                try:
                    due_ms, waits, largest, *keys = await session.script(
                        scripts.CLAIM,
                        self.keys.common,
                        (self.keys.record_prefix, claim_id, records, *_lease(lease_seconds), int(alone)),
                    )
                    taken = True
                    if len(keys) > 1 and len(keys) * largest > bytes:
                        keys = await self._within(session, claim_id, keys, bytes)
                    found = await self._read(session, keys)
                except RedisError as error:
                    refusal = error  # raised outside: leaving the session by it would cut a connection that may be fine
            if refusal is not None:
                raise refusal
        except RedisError as error:
            if not taken and not isinstance(error, OutcomeUnknown):
                raise
            # Safety doesn't need this, since the leases would expire: it only spares the records that wait. While the
            # server is busy, say, it refuses this, too, and the next claim does it.
            await self.release(claim_id)
            raise RedisUnavailable(str(error)) from error
        except BaseException:
            with anyio.move_on_after(RELEASE_SECONDS, shield=True), contextlib.suppress(RedisError):
                await self.release(claim_id)
            raise
        claim = Claim(
            claim_id,
            *_unpacked(keys, found),
            due_ms / 1000 if due_ms >= 0 else None,
            suspect_waits=bool(waits) and not alone,
            deaths=waits if alone else 0,
            keys=len(keys),
            bytes=sum(map(len, filter(None, found))),
        )
        if keys and claim.is_empty:
            await self.ack(claim)  # members without a record, which leave the sets by this
        return claim

    async def _within(self, session: Session, claim_id: str, keys: list[bytes], most: int) -> list[bytes]:
        """Returns the first keys whose records have so many bytes at most, at least one; gives all others back."""
        sizes = await session.script(scripts.SIZES, self.keys.common, (self.keys.record_prefix, *keys))
        total, count = 0, 0
        for size in sizes:
            total += size
            if count and total > most:
                break
            count += 1
        if count < len(keys):
            args: tuple[Argument, ...] = (self.keys.record_prefix, claim_id, *keys[count:])
            await session.script(scripts.GIVE_BACK, self.keys.common, args)
        return keys[:count]

    async def _read(self, session: Session, keys: Sequence[bytes]) -> list[bytes | None]:
        """The records of these keys; None without one, and empty for what is there but is no string."""
        if not keys:
            return []
        names = [*map(self.keys.record, keys)]
        found: list[bytes | None]
        (found,) = await session.commands(("MGET", *names))
        if absent := [at for at, packed in enumerate(found) if packed is None]:
            there = await session.commands(*(("EXISTS", names[at]) for at in absent))
            for at, exists in zip(absent, there, strict=True):
                if exists:
                    found[at] = b""
        if updated := [at for at, packed in enumerate(found) if packed is not None and is_pending(packed)]:
            # These are read by a script, which notes in them how far they were read.
            args = (self.keys.record_prefix, *(keys[at] for at in updated))
            again = await session.script(scripts.READ_UPDATES, self.keys.common, args)
            for at, packed in zip(updated, again, strict=True):
                found[at] = packed
        return found

    async def ack(
        self,
        claim: Claim,
        *,
        failed: Mapping[str, Failure] | None = None,
        read: Mapping[str, Version] | None = None,
        updated: Mapping[str, Version] | None = None,
        rest: Rest = "saved",
        freed: int = 0,
        again_seconds: float = 0.0,
        retries: Retries = NO_LIMIT,
        rng: random.Random | None = None,
    ) -> Acked | None:
        """Ends a claim, as far as it still holds its records.

        Args:
            claim: the claim.
            failed: what becomes of the records that weren't saved.
            read: the versions that have failed, of records without updates that aren't the claimed ones.
            updated: the versions that were saved of records that had updates. What is in them up to that version may
                go.
            rest: what becomes of all others of the claim. Saved ones leave Redis, but for those that were changed since
                they were claimed.
            freed: with "again", how many bytes a transaction has already removed.
            again_seconds: how long until records that changed since they were claimed are due again.
            retries: how often failed records are tried, and their pauses.
            rng: shortens each of these pauses at random, by up to a half; None leaves them as they are.

        Returns:
            What became of the records; None if the server doesn't know the claim, because an earlier attempt ended it
            or it ended long ago.
        """
        args: list[Argument] = [
            claim.id, rest, ms(again_seconds),
            retries.most, ms(retries.first_seconds), ms(retries.longest_seconds),
            0 if failed else claim.keys, claim.bytes if rest == "saved" else freed,
            len(failed or ()), len(updated or ()),
        ]  # fmt: skip
        if failed:
            content = {record.key: (pack_version(record.version),) * 2 for record in claim.records}
            content.update(
                (record.key, (pack_version(record.origin), pack_version(record.version))) for record in claim.pending
            )
            content.update((key, (each.origin, each.origin)) for key, each in claim.garbage.items())
            content.update((key, (pack_version(version),) * 2) for key, version in (read or {}).items())
            for key, failure in failed.items():
                number = failure.attempts if failure.fate in ("dead", "stuck") else ms(failure.due_in_seconds)
                if failure.fate == "retry":
                    number = ms(rng.uniform(0.5, 1.0) if rng is not None else 1.0)
                reason = failure.reason.encode("utf-8", "replace")
                args += (raw_of(key), failure.fate, number, *content[key], reason)
        for key, version in (updated or {}).items():
            args += (raw_of(key), pack_version(version))
        reply = await self._script(scripts.ACK, *args)
        if not reply:
            return None
        gone, changed, released, again, buried = reply
        retried = {text_of(again[i]): Retry(again[i + 1], again[i + 2] / 1000) for i in range(0, len(again), 3)}
        dead = {text_of(key): attempts for key, attempts in zip(buried[::2], buried[1::2], strict=True)}
        return Acked(gone, changed, released, retried, dead)

    async def release(self, claim_id: str) -> None:
        """Ends a claim of which nothing was saved: its records are due again at once.

        If this fails, the next claim of this process does it.
        """
        self._owed.append(claim_id)
        await self._release_owed()

    async def _release_owed(self) -> None:
        while self._owed:
            claim_id = self._owed[0]
            await self._script(scripts.ACK, claim_id, "now", 0, 0, 0, 0, 0, 0, 0, 0)
            if claim_id in self._owed:  # not yet removed by another flusher
                self._owed.remove(claim_id)

    async def extend(self, claim_id: str, *, lease_seconds: float) -> int:
        """Renews the leases that a claim still holds; returns how many these are."""
        held: int = await self._script(scripts.EXTEND, claim_id, *_lease(lease_seconds))
        return held

    async def recover(self, pauses: Retries = NO_LIMIT) -> int:
        """Makes records with expired leases dirty again, at most a page of them, and returns how many these were.

        Args:
            pauses: the first and the longest pause until a record that was claimed alone is due again; all others are
                due at once. `most` isn't used.
        """
        recovered: int = await self._script(scripts.RECOVER, PAGE, ms(pauses.first_seconds), ms(pauses.longest_seconds))
        return recovered


def _lease(seconds: float) -> tuple[int, int]:
    """How long leases last, and how long after that their claim is remembered, in milliseconds."""
    lease_ms = ms(seconds)
    return lease_ms, max(lease_ms, _REMEMBERED_MS)


def _unpacked(
    keys: Sequence[bytes], found: Sequence[bytes | None]
) -> tuple[list[Record], list[PendingRecord], dict[str, Garbage]]:
    """The records, those that have updates apart, and what another program has put in place of some."""
    records: list[Record] = []
    pending: list[PendingRecord] = []
    garbage: dict[str, Garbage] = {}
    for key, packed in zip(keys, found, strict=True):
        if packed is None:
            continue
        try:
            if is_pending(packed):
                pending.append(unpack_pending(key.decode(), packed))
            else:
                records.append(unpack_record(key.decode(), packed))
        except UnicodeDecodeError:
            error = DecodeError(f"key {key!r} isn't UTF-8: another program wrote it")
            garbage[text_of(key)] = Garbage(error, origin_bytes(packed))
        except DecodeError as error_:
            garbage[text_of(key)] = Garbage(error_, origin_bytes(packed))
    return records, pending, garbage
