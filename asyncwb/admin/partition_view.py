"""An operator's view of one partition: its records and dead letters, and the ends of dead letters by an operator."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from asyncwb.errors import DecodeError
from asyncwb.protocol import scripts
from asyncwb.protocol.entries import Failing, header_of, unpack_failing, unpack_header
from asyncwb.protocol.messages import DeadRecord
from asyncwb.protocol.pending import Entry, PendingRecord
from asyncwb.protocol.queue import Queue
from asyncwb.protocol.wire import pack_version, unpack, unpack_dead
from asyncwb.records import Record, Version
from asyncwb.redis.script import Script
from asyncwb.support.key_encoding import raw_of, text_of

Place = Literal["dirty", "leased"]

_PAGE: Final = 500
_FAR_MS: Final = 2**53


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A record that is dirty or leased.

    Attributes:
        key: the record's key.
        version: its version; 0 if another program overwrote the record.
        bytes: its size in Redis.
        age_seconds: time since its first unsaved write.
        due_in_seconds: time until it is due to be saved, or until its lease ends; negative if that has passed.
        attempts: how often saving it has failed.
        reason: why it failed the last time.
    """

    key: str
    version: Version
    bytes: int
    age_seconds: float
    due_in_seconds: float
    attempts: int = 0
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Described:
    """Everything about one record: where it is ("dirty", "leased", "dead", or "stray" if it is in no set), and details.

    `record` is None if another program overwrote it, and a `PendingRecord` if it has updates.
    """

    where: str
    record: Record | PendingRecord | None
    listed: Listed
    dead: DeadRecord | None


class Inspection:
    """Inspects one partition."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    async def listed(self, place: Place) -> AsyncIterator[Listed]:
        """Yields the records in a set, earliest due first; one that moves meanwhile may be missed or come twice."""
        offset = 0
        which = "lease" if place == "leased" else "dirty"
        while True:
            now, *found = await self._ask(scripts.LIST, which, offset, _PAGE)
            for key, score, header, size, failing in zip(*(found[i::5] for i in range(5)), strict=True):
                yield _listed(key, header, failing, size=size, due_ms=_due(score, now), now=now)
            if len(found) < 5 * _PAGE:
                return
            offset += _PAGE

    async def dead(self) -> AsyncIterator[DeadRecord]:
        """Yields the dead letters, in no particular order."""
        async for page in self.queue.fields(self.queue.keys.dead):
            for key, entry in page:
                yield unpack_dead(key, entry)

    async def describe(self, key: str) -> Described | None:
        """Returns everything about one record, or None if Redis doesn't have it."""
        raw = raw_of(key)
        reply = await self._ask(scripts.DESCRIBE, raw)
        if reply is None:
            return None
        now, packed, due, lease, dead, failing = reply
        due_ms = _due(lease or due or b"%d" % now, now)
        record: Record | PendingRecord | None
        try:
            record = unpack(key, packed)
        except DecodeError:
            record = None
        where = "leased" if lease else "dirty" if due else "dead" if dead else "stray"
        listed = _listed(raw, header_of(packed), failing, size=len(packed), due_ms=due_ms, now=now)
        return Described(where=where, record=record, listed=listed, dead=unpack_dead(raw, dead) if dead else None)

    async def drop(self, letters: Sequence[DeadRecord]) -> int:
        """Drops dead letters that still have the same versions; returns how many were dropped."""
        pairs = [part for letter in letters for part in (raw_of(letter.key), pack_version(letter.version))]
        dropped: int = await self._ask(scripts.DROP, *pairs)
        return dropped

    async def leave_out(self, pending: PendingRecord, entry: Entry) -> bool:
        """Makes a dead letter dirty again without one of its updates, and with no attempt counted.

        Nothing happens, and the result is False, if the key isn't dead any more or has another record by now.
        """
        versions = map(pack_version, (pending.version, entry.first, entry.last))
        return bool(await self._ask(scripts.LEAVE_OUT, raw_of(pending.key), *versions))

    async def _ask(self, script: Script, *args: bytes | str | int) -> Any:
        keys = self.queue.keys
        return await self.queue.link.script(script, keys.common, (keys.record_prefix, *args))


def _due(score: bytes, now: int) -> int:
    """Returns the milliseconds from `now` until `score`, clamped: another program may have set it to infinity."""
    return int(min(max(float(score) - now, -_FAR_MS), _FAR_MS))


def _listed(key: bytes, header: bytes, failing: bytes, *, size: int, due_ms: int, now: int) -> Listed:
    version, age = 0, 0.0
    if (unpacked := unpack_header(header)) is not None:
        version, since = unpacked
        age = max(0.0, (now - since) / 1000)
    failed = unpack_failing(failing)
    if failed.version != version:
        failed = Failing()
    return Listed(
        key=text_of(key),
        version=version,
        bytes=size,
        age_seconds=age,
        due_in_seconds=due_ms / 1000,
        attempts=failed.attempts,
        reason=failed.reason,
    )
