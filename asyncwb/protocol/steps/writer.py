"""Steps of writers: registering, requests that are applied at most once, and writes that bypass Redis."""

import struct
from collections.abc import Sequence
from itertools import chain, starmap
from typing import Final, get_args

from asyncwb.protocol import scripts
from asyncwb.protocol.body import most_special
from asyncwb.protocol.messages import Applied, Bounds, PutReply, Refusal, Request
from asyncwb.protocol.pending import Entry, pack_entries
from asyncwb.protocol.steps.partition import PAGE, PartitionSteps, ms
from asyncwb.protocol.wire import pack_version
from asyncwb.records import Version
from asyncwb.redis.link import Argument

WRITER_MEMORY_SECONDS: Final = 2 * 3600
"""How long the server remembers a silent writer's last request: longer than any request is repeated (see
`redis_retry_seconds`). A request that is repeated even later isn't applied, and its outcome stays unknown."""


_REFUSALS: Final[dict[bytes, Refusal]] = {each.encode(): each for each in get_args(Refusal)}
_NUMBERS: Final = struct.Struct(">II")


class WriterSteps(PartitionSteps):
    """The steps of writers."""

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
        sent: Request,
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
            sent: the writes. A group for which a limit leaves no room is refused.
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

        Raises:
            NamespaceMismatch: it has updates or conditions, and the partition is written through; nothing was applied.
        """
        numbers = b"" if sent.numbers is None else b"".join(starmap(_NUMBERS.pack, sent.numbers))
        args: list[Argument] = [
            epoch, request, int(repeated), WRITER_MEMORY_SECONDS * 1000, ms(delay_seconds),
            bounds.records, bounds.low_records, bounds.bytes, bounds.low_bytes,
            ms(bounds.age_seconds), ms(bounds.low_age_seconds),
            "others" if others_wait else "wait" if bounds.in_order else "none", after,
            sent.takes, numbers, most_special(sent.writes), len(sent.sizes), *sent.sizes,
        ]  # fmt: skip
        args.extend(chain.from_iterable(sent.writes))
        reply: bytes = await self.link.script(
            scripts.PUT, (*self.keys.common, self.keys.writer(writer)), (self.keys.record_prefix, *args)
        )
        if reply == b"MODE":
            raise self._mixed_modes("updates and conditional writes are", "on_full='write-through' is used")
        refusal = _REFUSALS.get(reply)
        if refusal is not None:
            return refusal
        _, seq, woken, refused, full, hopeless, dead, blocked, unmet, long = reply.split(b" ")
        if not (refused or blocked or unmet or long):  # the usual case
            return Applied(int(seq), woken == b"1")
        return Applied(
            int(seq),
            woken == b"1",
            _numbers(refused),
            full.decode(),
            _numbers(hopeless),
            int(dead),
            _numbers(blocked),
            _versions(unmet),
            _numbers(long),
        )

    async def allot(self, count: int, *, epoch: int, writer: str, request: int) -> tuple[int, int] | None:
        """Allots sequence numbers to writes that bypass Redis because the buffer is full.

        From then on, the server applies no request of the writer up to this one, so a copy that is still in flight
        can't overwrite what was written directly.

        Args:
            count: how many numbers.
            epoch: the epoch that they belong to.
            writer: the writer's id.
            request: the number of the request whose writes they are.

        Returns:
            The epoch and the sequence number before the first; None if the server is in another epoch or history, or
            too few numbers are left in this one.

        Raises:
            NamespaceMismatch: the partition has updates or conditional writes.
        """
        keys = (*self.keys.common, self.keys.writer(writer))
        reply = await self.link.script(scripts.ALLOT, keys, (self.keys.record_prefix, epoch, count, request))
        if reply == b"MODE":
            raise self._mixed_modes("on_full='write-through' is", "it has updates or conditional writes")
        return None if reply == b"EPOCH" else (epoch, int(reply))

    async def packed(self, key: bytes) -> bytes | None:
        """The packed record of a key, None without one; whatever history the server is in."""
        found: bytes | None = await self.link.command("GET", self.keys.record(key))
        return found

    async def fold(self, key: bytes, at: int, read: Sequence[Entry], folded: Sequence[Entry]) -> int:
        """Replaces entries of a pending record by fewer ones, unless they have changed or a flusher has read them.

        Args:
            key: in UTF-8.
            at: where the entries begin in the packed record, from 0.
            read: the entries as they were read.
            folded: what takes their place.

        Returns:
            How many bytes this saves; 0 if it was too late.
        """
        saved: int = await self._script(scripts.FOLD, key, at + 1, pack_entries(read), pack_entries(folded))
        return saved

    async def supersede(self, saved: Sequence[tuple[bytes, Version]], *, written_through: bool = False) -> bool:
        """Removes the records of these keys that aren't newer than the given versions, which the backend holds.

        Returns:
            Whether that is all. If not, they were written through, but a failover has lost that their versions were
            allotted, and updates that were worked out since may have replaced what was written.
        """
        for start in range(0, len(saved), PAGE):
            pairs = [(key, pack_version(version)) for key, version in saved[start : start + PAGE]]
            args = (part for pair in pairs for part in pair)
            if await self._script(scripts.SUPERSEDE, int(written_through), *args) == b"MODE":
                return False
        return True


def _numbers(text: bytes) -> frozenset[int]:
    return frozenset(map(int, text.split(b","))) if text else frozenset()


def _versions(text: bytes) -> dict[int, Version | None]:
    pairs = (each.split(b":") for each in text.split(b",")) if text else ()
    return {int(place): int(version, 16) if version else None for place, version in pairs}
