"""Steps that read and begin the epochs of a partition."""

from collections.abc import Sequence

from asyncwb.protocol import scripts
from asyncwb.protocol.keys import LAYOUT
from asyncwb.protocol.messages import PartitionMeta
from asyncwb.protocol.steps.partition import PartitionSteps
from asyncwb.protocol.wire import pack_version, unpack_version
from asyncwb.records import MAX_EPOCH, MAX_SEQ, Record
from asyncwb.redis.link import Argument
from asyncwb.support.key_encoding import raw_of


class EpochSteps(PartitionSteps):
    """The steps that `asyncwb.protocol.epochs` takes."""

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
            as_read=(reply[4], reply[5]), foreign=foreign, updates=reply[8] == b"updates",
            dropped=unpack_version(reply[9]) if len(reply[9]) == 8 else 0,
        )  # fmt: skip

    async def install_epoch(self, seen: PartitionMeta, epoch: int, *, codec: str) -> bool:
        """Begins an epoch; returns False if the server or its meta has changed since `seen` was read."""
        made_with = (LAYOUT, self.partitions, codec)
        reply = await self._script(scripts.INSTALL, seen.identity, *seen.as_read, epoch, *made_with)
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
