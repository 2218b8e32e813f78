"""Names of the Redis keys: the only place that spells them."""

from typing import Final
from zlib import crc32

LAYOUT: Final = 1
"""Number of this layout, kept in meta; raised whenever a key or a record changes its form."""


class PartitionKeys:
    """The keys of one partition. They share a hash tag, so every script stays within one cluster slot."""

    __slots__ = ("_prefix", "common", "record_prefix", "saved", "wake")

    def __init__(self, namespace: str, partition: int) -> None:
        prefix = f"{{wb:{namespace}:{partition}}}:".encode()
        self._prefix = prefix
        self.record_prefix = prefix + b"rec:"
        self.saved = prefix + b"saved"
        self.wake = prefix + b"wake"
        # In the order of lua/prelude.lua.
        self.common = (prefix + b"meta", prefix + b"dirty", prefix + b"lease", self.saved, prefix + b"dead", self.wake)

    @property
    def dirty(self) -> bytes:
        return self.common[1]

    @property
    def lease(self) -> bytes:
        return self.common[2]

    @property
    def dead(self) -> bytes:
        return self.common[4]

    @property
    def meta(self) -> bytes:
        return self.common[0]

    def claim(self, claim_id: str) -> bytes:
        return self._prefix + b"claim:" + claim_id.encode()

    def writer(self, writer_id: str) -> bytes:
        return self._prefix + b"writer:" + writer_id.encode()

    def record(self, key: bytes) -> bytes:
        return self.record_prefix + key


def partition_of(key: bytes, partitions: int) -> int:
    """CRC-32 of the UTF-8 key, the same in every process and language (Python's `hash` is salted)."""
    return crc32(key) % partitions if partitions > 1 else 0
