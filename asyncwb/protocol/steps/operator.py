"""Steps of operators: statistics, retries of dead letters, and repairs."""

from collections.abc import AsyncIterator, Sequence

from asyncwb.protocol import scripts
from asyncwb.protocol.messages import PartitionStats
from asyncwb.protocol.steps.partition import PAGE, PartitionSteps
from asyncwb.support.key_encoding import raw_of


class OperatorSteps(PartitionSteps):
    """The steps of operators. `asyncwb.admin.partition_view` has those that only its commands take."""

    async def stats(self) -> PartitionStats:
        dirty, leased, dead, size, age_ms, epoch = await self._script(scripts.STATS)
        return PartitionStats(dirty, leased, dead, size, age_ms / 1000 if age_ms >= 0 else None, epoch)

    async def fields(self, hash_key: bytes) -> AsyncIterator[list[tuple[bytes, bytes]]]:
        """Pages of a hash's fields and values; those that are added or removed meanwhile may or may not be included."""
        cursor = -1
        while cursor:
            reply, found = await self._command("HSCAN", hash_key, max(cursor, 0), "COUNT", PAGE)
            if found:
                yield list(zip(found[::2], found[1::2], strict=True))
            cursor = int(reply)

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
            cursor, names = await self._command("SCAN", cursor, "MATCH", prefix + b"*", "COUNT", PAGE)
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
