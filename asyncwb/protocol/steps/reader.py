"""Steps of reads, and of calls that wait until writes are saved."""

from collections.abc import Iterator, Sequence
from typing import Final
from uuid import uuid4

from asyncwb.protocol import scripts
from asyncwb.protocol.messages import Held, Look, Pending
from asyncwb.protocol.steps.partition import PAGE, PartitionSteps
from asyncwb.protocol.wire import unpack_dead, unpack_version
from asyncwb.records import Version, epoch_of, make_version

_FEW: Final = 5000
"""The most keys that a script may list at once: more would block the server for too long."""


class ReaderSteps(PartitionSteps):
    """The steps of reads, `flush` and `drain`."""

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

    async def take_token(self, key: bytes, *, epoch: int) -> tuple[int, bytes, bytes | None] | None:
        """Takes a token that is there for as long as nobody writes the key in the present epoch.

        Args:
            key: in UTF-8.
            epoch: the lowest acceptable epoch.

        Returns:
            The present epoch, the token, and the packed record of the key, None without one; None if the server is in
            another history or a lower epoch.

        Raises:
            NamespaceMismatch: the partition is written through.
        """
        reply = await self._script(scripts.TAKE_TOKEN, epoch, uuid4().bytes, key)
        if reply == b"MODE":
            raise self._mixed_modes("updates and conditional writes are", "on_full='write-through' is used")
        return None if reply == b"EPOCH" else (int(reply[0]), reply[1], reply[2])

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
            for key, version, dead in zip(keys, reply[3::2], reply[4::2], strict=True)
        ]
        return Look(present, bool(reply[1]), bool(reply[2]), found)

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
            while reply := await self._script(scripts.UNSAVED, which, offset, PAGE):
                for key, version in _versions(reply):
                    found.setdefault(key, version)
                offset += PAGE
        return list(found.items())

    async def hasten(self) -> None:
        """Makes all delayed records due at once, except for those that failed and are in their back-off."""
        looked, skipped = PAGE, 0
        while looked == PAGE:
            looked, left = await self._script(scripts.HASTEN, skipped, PAGE)
            skipped += left


def _sound(version: Version, epoch: int) -> Version:
    """The version; 0 if another program must have written it, because it is of a later epoch than any that began."""
    return version if epoch_of(version) <= epoch else 0


def _versions(reply: list[bytes]) -> Iterator[tuple[bytes, Version]]:
    return ((key, unpack_version(version)) for key, version in zip(reply[::2], reply[1::2], strict=True))
