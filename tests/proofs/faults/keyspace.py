"""What Redis holds of a namespace, read directly and in one step, past every proxy."""

from dataclasses import dataclass
from typing import Final

from asyncwb.protocol.keys import PartitionKeys
from asyncwb.protocol.wire import unpack_version
from asyncwb.records import Version
from asyncwb.redis.link import Link

# Every record with its version and the sets it is in.
_RECORDS: Final = """
local reply = {}
for _, name in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  local key = string.sub(name, #ARGV[1] + 1)
  reply[#reply + 1] = {
    key, redis.call('GETRANGE', name, 0, 7), redis.call('ZSCORE', KEYS[1], key) or '',
    redis.call('ZSCORE', KEYS[2], key) or '', redis.call('HGET', KEYS[3], key) or '',
  }
end
return reply
"""


@dataclass(frozen=True, slots=True)
class Found:
    """A record's version, and in which of the sets it is."""

    version: Version
    sets: frozenset[str]


class Keyspace:
    """Of a namespace with one partition."""

    def __init__(self, link: Link, namespace: str) -> None:
        self._link = link
        self._keys = PartitionKeys(namespace, 0, 1)
        self._all = self._keys.record_prefix.removesuffix(b"rec:")

    async def records(self) -> dict[str, Found]:
        keys = self._keys
        reply = await self._link.command("EVAL", _RECORDS, 3, keys.dirty, keys.lease, keys.dead, keys.record_prefix)
        return {
            key.decode(): Found(
                unpack_version(version),
                frozenset(
                    name for name, found in (("dirty", dirty), ("leased", leased), ("dead", dead)) if found != b""
                ),
            )
            for key, version, dirty, leased, dead in reply
        }

    async def meta(self) -> tuple[int, int]:
        """Epoch and sequence number."""
        epoch, seq = await self._link.command("HMGET", self._keys.meta, "epoch", "seq")
        return int(epoch or 0), int(seq or 0)

    async def left(self) -> list[str]:
        """What a drained namespace must not have: records, and members of its sets."""
        keys = self._keys
        names = await self._link.command("KEYS", self._all + b"*")
        unwanted = (keys.record_prefix, keys.dirty, keys.lease, keys.dead, keys.retry)
        return [name.decode() for name in names if name.startswith(unwanted)]

    async def clear(self) -> None:
        """Removes the namespace."""
        if names := await self._link.command("KEYS", self._all + b"*"):
            await self._link.command("DEL", *names)
