"""What all steps need: a partition's keys, and the link over which its scripts are sent."""

from typing import Any, Final

from asyncwb.errors import NamespaceMismatch
from asyncwb.protocol.keys import PartitionKeys
from asyncwb.redis.link import Argument, Link
from asyncwb.redis.script import Script
from asyncwb.redis.suitability import Suitability

PAGE: Final = 1000
"""How many keys a step lists or changes at once."""


class PartitionSteps:
    """The base of the classes in this folder, each of which has the steps that one role takes.

    Args:
        link: to the server.
        namespace: the namespace's name.
        partition: the partition's number, from 0.
        partitions: how many the namespace has.
        suitability: whether the server may be written to; by default, it may.
    """

    def __init__(
        self, link: Link, namespace: str, partition: int, partitions: int, suitability: Suitability | None = None
    ) -> None:
        self.link = link
        self.suitability = suitability or Suitability()
        self.namespace = namespace
        self.partition = partition
        self.partitions = partitions
        self.keys = PartitionKeys(namespace, partition, partitions)

    async def _script(self, script: Script, *args: Argument) -> Any:
        return await self.link.script(script, self.keys.common, (self.keys.record_prefix, *args))

    def _mixed_modes(self, what: str, why: str) -> NamespaceMismatch:
        """The error of a partition that has both write-through and updates."""
        return NamespaceMismatch(
            f"nothing was written: {what} not for namespace {self.namespace!r}, since in partition {self.partition} "
            f"{why}: one of the two could lose writes of the other; use another namespace for them"
        )

    async def _command(self, *args: Argument) -> Any:
        return await self.link.command(*args)


def ms(seconds: float) -> int:
    """Returns whole milliseconds, the unit of all times in Redis."""
    return round(seconds * 1000)
