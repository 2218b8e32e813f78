"""The names of the Redis keys; no other module spells them."""

from binascii import crc_hqx
from typing import Final
from zlib import crc32

from asyncwb.settings import MOST_PARTITIONS

LAYOUT: Final = 3
"""The number of this layout, which Redis stores; it is raised whenever a key or a record changes its form."""

_SLOTS: Final = 16384
"""The hash slots of a Redis cluster."""

# The Redis types of the keys in `PartitionKeys.once`, in the same order.
TYPES: Final = ("hash", "zset", "zset", "hash", "hash", "list", "hash", "set", "zset", "hash", "hash")


def patterns_of(namespace: str) -> tuple[str, str]:
    """Glob patterns for all keys of a namespace and no other: namespaces have neither colons nor glob characters."""
    return namespace_key(namespace).decode(), f"{{wb:{namespace}:*"


def namespace_key(namespace: str) -> bytes:
    """The hash that says what a namespace was made with. Its place depends on nothing but the namespace's name."""
    return b"{wb:%s}:namespace" % namespace.encode()


def meta_of_layout_2(namespace: str) -> bytes:
    """Where layout 2 and those before had what the namespace was made with."""
    return b"{wb:%s:0}:meta" % namespace.encode()


def possible_metas(namespace: str) -> list[bytes]:
    """The meta of partition 0 for each allowed number of partitions: some ten keys, since many numbers share a salt."""
    metas, partitions = [], 1
    while partitions <= MOST_PARTITIONS:
        tag = hash_tag(namespace, 0, partitions)
        metas.append(b"{%s}:meta" % tag)
        # Partition 0 has the same salt until its range ends before this slot.
        partitions = (_SLOTS - 1) // slot_of(tag) + 1 if slot_of(tag) else MOST_PARTITIONS + 1
    return metas


class PartitionKeys:
    """The keys of one partition. They share a hash tag, so every script stays within one cluster slot.

    Args:
        namespace: its name.
        partition: the partition's number, from 0.
        partitions: how many the namespace has. The partition's place in a cluster depends on it.
    """

    __slots__ = ("_prefix", "common", "record_prefix")

    def __init__(self, namespace: str, partition: int, partitions: int) -> None:
        prefix = b"{%s}:" % hash_tag(namespace, partition, partitions)
        self._prefix = prefix
        self.record_prefix = prefix + b"rec:"
        # In the order in which lua/includes/keys.lua expects them.
        self.common = tuple(
            prefix + name
            for name in (
                b"meta",
                b"dirty",
                b"lease",
                b"expired",
                b"dead",
                b"wake",
                b"retry",
                b"changed",
                b"claims",
                b"tokens",
            )
        )

    @property
    def meta(self) -> bytes:
        return self.common[0]

    @property
    def dirty(self) -> bytes:
        return self.common[1]

    @property
    def lease(self) -> bytes:
        return self.common[2]

    @property
    def expired(self) -> bytes:
        return self.common[3]

    @property
    def dead(self) -> bytes:
        return self.common[4]

    @property
    def wake(self) -> bytes:
        return self.common[5]

    @property
    def retry(self) -> bytes:
        return self.common[6]

    @property
    def changed(self) -> bytes:
        return self.common[7]

    @property
    def claims(self) -> bytes:
        return self.common[8]

    @property
    def tokens(self) -> bytes:
        return self.common[9]

    @property
    def once(self) -> tuple[bytes, ...]:
        """The keys that a partition has once: all but those of records and writers."""
        return (*self.common, self.workers)

    @property
    def workers(self) -> bytes:
        return self._prefix + b"workers"

    def writer(self, writer_id: str) -> bytes:
        return self._prefix + b"writer:" + writer_id.encode()

    def record(self, key: bytes) -> bytes:
        return self.record_prefix + key


def hash_tag(namespace: str, partition: int, partitions: int) -> bytes:
    """The hash tag of a partition, without its braces: `wb:NAMESPACE:PARTITION.SALT`, with the smallest salt that fits.

    A salt fits if the tag's slot lies in the partition's own range, when all slots are divided into as many equal
    ranges as there are partitions. So partitions are spread evenly over the nodes of a cluster, however many there are.
    Finding it takes about 0.15 microseconds times the number of partitions.
    """
    if not 0 <= partition < partitions:
        raise ValueError(f"there is no partition {partition} of {partitions}")
    start = b"wb:%s:%d." % (namespace.encode(), partition)
    before, salt = crc_hqx(start, 0), 0
    while slot_of(b"%d" % salt, before) * partitions // _SLOTS != partition:
        salt += 1
    return b"%s%d" % (start, salt)


def slot_of(tag: bytes, before: int = 0) -> int:
    """The cluster slot of a hash tag (CRC-16/XMODEM modulo 16384); `before` is the CRC of what precedes `tag`."""
    return crc_hqx(tag, before) % _SLOTS


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key in UTF-8, by its CRC-32: the same in every process and language (`hash` is salted)."""
    return crc32(key) % partitions if partitions > 1 else 0
