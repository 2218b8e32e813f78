"""The reliable queue of one partition: one method for each step of the protocol."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final
from uuid import uuid4

import anyio

from asyncwb.errors import DecodeError, OutcomeUnknown, RedisError, RedisUnavailable
from asyncwb.protocol import scripts
from asyncwb.protocol.keys import LAYOUT, PartitionKeys
from asyncwb.protocol.messages import (
    NO_LIMIT,
    Acked,
    Applied,
    Bounds,
    Claim,
    Failure,
    Held,
    Look,
    PartitionMeta,
    PartitionStats,
    Pending,
    PutReply,
    Retries,
    Retry,
    Write,
)
from asyncwb.protocol.wire import pack_version, unpack_dead, unpack_record, unpack_version
from asyncwb.records import MAX_EPOCH, MAX_SEQ, Record, Version, epoch_of, make_version
from asyncwb.redis.link import Argument, Link
from asyncwb.redis.script import Script
from asyncwb.redis.suitability import Suitability
from asyncwb.support.key_encoding import raw_of, text_of

WRITER_MEMORY_SECONDS: Final = 2 * 3600
"""How long the server remembers a silent writer's last request: longer than any request is repeated (see
`redis_retry_seconds`). A request that is repeated even later isn't applied, and its outcome stays unknown."""

_CLAIM_MS: Final = 10_000
"""A claim is remembered for this long after its leases have ended, or for as long as they lasted if that is longer. By
then its records are dirty again or belong to another claim, and a later ack would only spare a save that the backend
finds stale."""

RELEASE_SECONDS: Final = 1.0
"""How long a cancelled flusher may try to release its records; after that, their leases have to expire."""

_PAGE: Final = 1000

_FEW: Final = 5000
"""The most keys that a script may list at once: more would block the server for too long."""


class Queue:
    """One partition of a namespace.

    No method sends a script again on its own. All methods but `put` may be repeated freely after a lost reply, because
    the scripts decide from versions and leases. A repeated `claim` takes other records; those taken by the claim whose
    reply was lost become dirty again when their leases expire.

    Args:
        link: to the server.
        namespace: the namespace's name.
        partition: the partition's number, from 0.
        suitability: whether the server may be written to; by default, it may.
    """

    def __init__(self, link: Link, namespace: str, partition: int, suitability: Suitability | None = None) -> None:
        self.link = link
        self.suitability = suitability or Suitability()
        self.partition = partition
        self.keys = PartitionKeys(namespace, partition)

    async def read_meta(self) -> PartitionMeta:
        reply: list[bytes] = await self._script(scripts.READ_META)
        identity, layout, partitions, codec, meta_identity, *_ = (item.decode("utf-8", "replace") for item in reply)
        epoch, seq = _number(reply[5], MAX_EPOCH), _number(reply[6], MAX_SEQ)
        if epoch is None or seq is None:
            meta_identity = ""
        # A range that contains the present epoch was written by another program.
        foreign = tuple(each for each in _ranges(reply[7]) if not each[0] <= (epoch or 0) <= each[1])
        return PartitionMeta(
            identity, layout, partitions, codec, meta_identity, epoch or 0, seq or 0,
            as_read=(reply[4], reply[5]), foreign=foreign,
        )  # fmt: skip

    async def install_epoch(self, seen: PartitionMeta, epoch: int, *, partitions: int, codec: str) -> bool:
        """Begins an epoch; returns False if the server or its meta has changed since `seen` was read."""
        reply = await self._script(scripts.INSTALL, seen.identity, *seen.as_read, epoch, LAYOUT, partitions, codec)
        return bool(reply)

    async def disown(self, lowest: int, highest: int) -> None:
        """Notes that versions of these epochs in the backend are foreign: no history of this namespace made them."""
        await self._script(scripts.DISOWN, lowest, highest)

    async def restamp(self, records: Sequence[Record], *, epoch: int, present: int) -> int | None:
        """Gives records new versions in an epoch that was allotted for this purpose alone.

        Args:
            records: records that aren't saved. One that has another version by now is left alone.
            epoch: the epoch of the new versions.
            present: the later epoch in which the caller found that the records aren't saved.

        Returns:
            How many records got a new version; None if this server isn't in epoch `present`.
        """
        args: list[Argument] = [epoch, present]
        for record in records:
            args += (raw_of(record.key), pack_version(record.version))
        reply = await self._script(scripts.RESTAMP, *args)
        return None if reply == b"EPOCH" else int(reply)

    async def register(self, writer: str) -> None:
        """Makes the server remember a writer's requests.

        It uses SET with NX, so that a registration that arrives late doesn't make the server forget requests.
        """
        nothing_yet = bytes(16)
        await self.link.command("SET", self.keys.writer(writer), nothing_yet, "NX", "PX", WRITER_MEMORY_SECONDS * 1000)

    async def leave(self, writers: Sequence[str]) -> None:
        """Forgets writers that will send nothing more, and removes a wake-up if no record is dirty.

        A request of theirs that is still in flight is refused when it arrives: only `register` makes a writer known,
        and each registration is sent once, under a name of its own, before anything is put under that name.
        """
        keys = (*self.keys.common, *map(self.keys.writer, writers))
        await self.link.script(scripts.LEAVE, keys, (self.keys.record_prefix,))

    async def put(
        self,
        groups: Sequence[Sequence[Write]],
        *,
        writer: str,
        request: int,
        repeated: bool,
        epoch: int,
        delay_seconds: float,
        bounds: Bounds,
        after: int = 0,
        others_wait: bool = False,
    ) -> PutReply:
        """Applies one request of a writer, at most once; each group of writes is applied as a whole or not at all.

        Args:
            groups: the writes, one group for each caller. A group for which a limit leaves no room is refused.
            writer: the writer's id.
            request: the number of the request; each new request of the writer has a higher one.
            repeated: whether an earlier attempt at this request may have been applied.
            epoch: the epoch that the writes belong to.
            delay_seconds: how long until the writes are due.
            bounds: the limits.
            after: a request of this writer that was sent but isn't answered yet, and has to be applied before this one;
                0 for none.
            others_wait: whether earlier writes of this writer wait for room; if so, only groups that need no room are
                applied.

        Returns:
            What was applied, or why nothing was: "EPOCH" if the server is in another history or epoch, or the epoch's
            sequence numbers are used up; "WRITER" if the server doesn't know the writer, or has forgotten its reply to
            a repeated request; "EARLY" if request `after` isn't applied.
        """
        sizes = [*map(len, groups)]
        if sizes.count(1) == len(sizes):
            sizes = []  # this saves an argument for each write
        args: list[Argument] = [
            epoch, request, int(repeated), WRITER_MEMORY_SECONDS * 1000, _ms(delay_seconds),
            bounds.records, bounds.low_records, bounds.bytes, bounds.low_bytes,
            _ms(bounds.age_seconds), _ms(bounds.low_age_seconds),
            "others" if others_wait else "wait" if bounds.in_order else "none", after, len(sizes), *sizes,
        ]  # fmt: skip
        args.extend(chain.from_iterable(chain.from_iterable(groups)))
        reply: bytes = await self.link.script(
            scripts.PUT, (*self.keys.common, self.keys.writer(writer)), (self.keys.record_prefix, *args)
        )
        if reply == b"EPOCH":
            return "EPOCH"
        if reply == b"WRITER":
            return "WRITER"
        if reply == b"EARLY":
            return "EARLY"
        _, seq, woken, refused, full, hopeless, dead = reply.split(b" ")
        if not refused:  # the usual case
            return Applied(int(seq), woken == b"1")
        return Applied(int(seq), woken == b"1", _numbers(refused), full.decode(), _numbers(hopeless), int(dead))

    async def allot(self, count: int, *, epoch: int, writer: str, request: int) -> int | None:
        """Allots sequence numbers to writes that bypass Redis because the buffer is full.

        From then on, the server applies no request of the writer up to this one, so a copy that is still in flight
        can't overwrite what was written directly.

        Args:
            count: how many numbers.
            epoch: the epoch that they belong to.
            writer: the writer's id.
            request: the number of the request whose writes they are.

        Returns:
            The sequence number before the first; None if the server is in another epoch or history, or too few numbers
            are left in this one.
        """
        keys = (*self.keys.common, self.keys.writer(writer))
        reply = await self.link.script(scripts.ALLOT, keys, (self.keys.record_prefix, epoch, count, request))
        return None if reply == b"EPOCH" else int(reply)

    async def supersede(self, saved: Sequence[tuple[bytes, Version]]) -> None:
        """Removes the records of these keys that aren't newer than the given versions, which the backend holds."""
        for start in range(0, len(saved), _PAGE):
            pairs = [(key, pack_version(version)) for key, version in saved[start : start + _PAGE]]
            await self._script(scripts.SUPERSEDE, *(part for pair in pairs for part in pair))

    async def get(self, keys: Sequence[bytes], *, epoch: int) -> tuple[int, list[bytes | None]] | None:
        """Reads the present epoch and the packed records, None for a key without one.

        Args:
            keys: in UTF-8.
            epoch: the lowest acceptable epoch.

        Returns:
            The epoch and the records in the order of `keys`; None if the server is in another history or a lower epoch.
        """
        reply = await self._script(scripts.GET, epoch, *keys)
        if reply == b"EPOCH":
            return None
        present: bytes = reply.pop()
        return int(present), reply

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
        claim_id = uuid4().hex
        lease_ms = _ms(lease_seconds)
        try:
            reply = await self.link.script(
                scripts.CLAIM,
                (*self.keys.common, self.keys.claim(claim_id)),
                (self.keys.record_prefix, records, bytes, lease_ms, _claim_ms(lease_ms), int(alone)),
            )
        except OutcomeUnknown as error:
            # Safety doesn't need this, since the leases would expire: it only spares the records that wait.
            await self.release(claim_id)
            raise RedisUnavailable(str(error)) from error
        except asyncio.CancelledError:
            with anyio.move_on_after(RELEASE_SECONDS, shield=True), contextlib.suppress(RedisError):
                await self.release(claim_id)
            raise
        found: list[Record] = []
        garbage: dict[str, DecodeError] = {}
        due_ms, waits = reply[:2]
        for key, packed in zip(reply[2::2], reply[3::2], strict=True):
            try:
                found.append(unpack_record(key.decode(), packed))
            except UnicodeDecodeError:
                garbage[text_of(key)] = DecodeError(f"key {key!r} isn't UTF-8: another program wrote it")
            except DecodeError as error:
                garbage[text_of(key)] = error
        return Claim(
            claim_id,
            found,
            garbage,
            due_ms / 1000 if due_ms >= 0 else None,
            suspect_waits=bool(waits) and not alone,
            deaths=waits if alone else 0,
        )

    async def ack(
        self,
        claim_id: str,
        *,
        failed: Mapping[str, Failure] | None = None,
        saved: Mapping[str, Version] | None = None,
        again_seconds: float = 0.0,
        retries: Retries = NO_LIMIT,
        rng: random.Random | None = None,
    ) -> Acked | None:
        """Ends a claim.

        Args:
            claim_id: the claim's id.
            failed: what becomes of the records that weren't saved; all others of the claim count as saved.
            saved: the versions that were saved, for keys where these aren't the claimed versions.
            again_seconds: how long until records that changed since they were claimed are due again.
            retries: how often failed records are tried, and their pauses.
            rng: shortens each of these pauses at random, by up to a half; None leaves them as they are.

        Returns:
            What became of the records; None if the server doesn't know the claim, because an earlier attempt ended it
            or it ended long ago.
        """
        args: list[Argument] = [
            _ms(again_seconds), 0, retries.most, _ms(retries.first_seconds), _ms(retries.longest_seconds),
            len(saved or ()),
        ]  # fmt: skip
        for key, version in (saved or {}).items():
            args += (raw_of(key), pack_version(version))
        args.append(len(failed or ()))
        for key, failure in (failed or {}).items():
            number = failure.attempts if failure.fate == "dead" else _ms(failure.due_in_seconds)
            if failure.fate == "retry":
                number = _ms(rng.uniform(0.5, 1.0) if rng is not None else 1.0)
            args += (raw_of(key), failure.fate, number, failure.reason.encode("utf-8", "replace"))
        reply = await self._claim_script(scripts.ACK, claim_id, *args)
        if not reply:
            return None
        gone, changed, released, again, buried = reply
        retried = {text_of(again[i]): Retry(again[i + 1], again[i + 2] / 1000) for i in range(0, len(again), 3)}
        dead = {text_of(key): attempts for key, attempts in zip(buried[::2], buried[1::2], strict=True)}
        return Acked(gone, changed, released, retried, dead)

    async def release(self, claim_id: str) -> None:
        """Ends a claim of which nothing was saved: its records are due again at once."""
        await self._claim_script(scripts.ACK, claim_id, 0, 1, 0, 0, 0, 0, 0)

    async def extend(self, claim_id: str, *, lease_seconds: float) -> int:
        """Renews the leases that a claim still holds; returns how many these are."""
        lease_ms = _ms(lease_seconds)
        held: int = await self._claim_script(scripts.EXTEND, claim_id, lease_ms, _claim_ms(lease_ms))
        return held

    async def recover(self, pauses: Retries = NO_LIMIT) -> int:
        """Makes records with expired leases dirty again, at most a page of them, and returns how many these were.

        Args:
            pauses: the first and the longest pause until a record that was claimed alone is due again; all others are
                due at once. `most` isn't used.
        """
        recovered: int = await self._script(
            scripts.RECOVER, _PAGE, _ms(pauses.first_seconds), _ms(pauses.longest_seconds)
        )
        return recovered

    async def look(self, keys: Sequence[bytes], *, epoch: int, hasten: bool) -> Look | None:
        """Tells what Redis holds of some keys; None if the server is in another history or a lower epoch.

        Args:
            keys: at most a few thousand, in UTF-8.
            epoch: the lowest acceptable epoch.
            hasten: whether to make those of their records that are dirty due at once, unless they failed and are in
                their back-off.
        """
        reply = await self._script(scripts.FLUSH, epoch, int(hasten), *keys)
        if reply == b"EPOCH":
            return None
        present = int(reply[0])
        found = [
            Held(_sound(unpack_version(version), present), unpack_dead(key, dead) if dead else None)
            if version
            else None
            for key, version, dead in zip(keys, reply[2::2], reply[3::2], strict=True)
        ]
        return Look(present, bool(reply[1]), found)

    async def pending(self) -> tuple[int, int]:
        """How many records are dirty and how many are leased, counted in one step."""
        found = await self.survey()
        return found.dirty, found.leased

    async def survey(self) -> Pending:
        """How many records aren't saved, counted in one step, with the newest write at that moment."""
        dirty, leased, dead, epoch, seq, last_death = await self._script(scripts.PENDING)
        return Pending(dirty, leased, dead, make_version(epoch, seq), last_death)

    async def unsaved(self) -> list[tuple[bytes, Version]]:
        """The keys that are dirty or leased, with their versions.

        Up to 5000 keys are listed in one step, so the list is complete. More are listed in pages, and a key that moves
        back and forth between the two sets meanwhile may be missing.
        """
        reply = await self._script(scripts.UNSAVED, "all", 0, _FEW)
        if reply is not None:
            return list(_versions(reply))
        found: dict[bytes, Version] = {}
        # Claims take keys from the start of the set. Pages are read from its end, so that such a removal doesn't shift
        # the keys that are still to be read.
        for which in ("lease", "dirty", "lease"):
            offset = 0
            while reply := await self._script(scripts.UNSAVED, which, offset, _PAGE):
                for key, version in _versions(reply):
                    found.setdefault(key, version)
                offset += _PAGE
        return list(found.items())

    async def hasten(self) -> None:
        """Makes all delayed records due at once, except for those that failed and are in their back-off."""
        looked, skipped = _PAGE, 0
        while looked == _PAGE:
            looked, left = await self._script(scripts.HASTEN, skipped, _PAGE)
            skipped += left

    async def retry_dead(self, keys: Sequence[str]) -> int:
        """Makes dead letters dirty again, with no attempt counted; returns how many."""
        retried: int = await self._script(scripts.RETRY, *map(raw_of, keys))
        return retried

    async def audit(self) -> int:
        """Makes records dirty that are neither dirty, leased nor dead, and returns how many these were.

        It also corrects the byte estimate, and removes the failures and dead letters that are noted of keys without a
        record.
        """
        strays = size = cursor = 0
        prefix = self.keys.record_prefix
        while True:
            cursor, names = await self._command("SCAN", cursor, "MATCH", prefix + b"*", "COUNT", _PAGE)
            if names:
                found, length = await self._script(scripts.AUDIT, *(name[len(prefix) :] for name in names))
                strays += found
                size += length
            cursor = int(cursor)
            if not cursor:
                break
        await self._command("HSET", self.keys.meta, "bytes", size)
        keys = self.keys
        for name, key in (("retry", keys.retry), ("dead", keys.dead), ("expired", keys.expired)):
            async for page in self.fields(key):
                await self._script(scripts.FORGET, name, *(field for field, _ in page))
        return strays

    async def stats(self) -> PartitionStats:
        dirty, leased, dead, size, age_ms, epoch = await self._script(scripts.STATS)
        return PartitionStats(dirty, leased, dead, size, age_ms / 1000 if age_ms >= 0 else None, epoch)

    async def fields(self, hash_key: bytes) -> AsyncIterator[list[tuple[bytes, bytes]]]:
        """Pages of a hash's fields and values; those that are added or removed meanwhile may or may not be included."""
        cursor = -1
        while cursor:
            reply, found = await self._command("HSCAN", hash_key, max(cursor, 0), "COUNT", _PAGE)
            if found:
                yield list(zip(found[::2], found[1::2], strict=True))
            cursor = int(reply)

    async def _script(self, script: Script, *args: Argument) -> Any:
        return await self.link.script(script, self.keys.common, (self.keys.record_prefix, *args))

    async def _claim_script(self, script: Script, claim_id: str, *args: Argument) -> Any:
        keys = (*self.keys.common, self.keys.claim(claim_id))
        return await self.link.script(script, keys, (self.keys.record_prefix, *args))

    async def _command(self, *args: Argument) -> Any:
        return await self.link.command(*args)


def _numbers(text: bytes) -> frozenset[int]:
    return frozenset(map(int, text.split(b","))) if text else frozenset()


def _ranges(text: bytes) -> tuple[tuple[int, int], ...]:
    """The ranges that `disown` has noted, without what another program has put there."""
    ranges = []
    for each in text.split(b","):
        first, _, last = each.partition(b"-")
        if (lowest := _number(first, MAX_EPOCH)) is not None and (highest := _number(last, MAX_EPOCH)) is not None:
            ranges.append((lowest, highest))
    return tuple(ranges)


def _number(text: bytes, most: int) -> int | None:
    """A number in meta as the scripts write it; None if another program has overwritten or removed it."""
    number = int(text) if len(text) <= 16 and text.isdigit() else -1
    return number if 0 <= number <= most and text == b"%d" % number else None


def _sound(version: Version, epoch: int) -> Version:
    """The version; 0 if another program must have written it, because it is of a later epoch than any that began."""
    return version if epoch_of(version) <= epoch else 0


def _versions(reply: list[bytes]) -> Iterator[tuple[bytes, Version]]:
    return ((key, unpack_version(version)) for key, version in zip(reply[::2], reply[1::2], strict=True))


def _claim_ms(lease_ms: int) -> int:
    return lease_ms + max(lease_ms, _CLAIM_MS)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
