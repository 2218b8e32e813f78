"""Finds keys of a namespace or a partition that another program has overwritten with another type."""

from collections.abc import Iterable

from asyncwb.protocol.keys import TYPES, namespace_key
from asyncwb.protocol.queue import Queue
from asyncwb.redis.link import Link

Overwritten = tuple[str, str, str]
"""The name of a key, its type, and the type that asyncwb gives it."""


async def overwritten_keys(queue: Queue) -> list[Overwritten]:
    """The keys of a partition that have another type than asyncwb gives them.

    Raises:
        RedisError, OutcomeUnknown: the server can't be asked.
    """
    return await _overwritten(queue.link, zip(queue.keys.once, TYPES, strict=True))


async def overwritten_namespace(link: Link, namespace: str) -> list[Overwritten]:
    """The namespace's own key, if it has another type than asyncwb gives it. Raises as `overwritten_keys`."""
    return await _overwritten(link, [(namespace_key(namespace), "hash")])


async def _overwritten(link: Link, types: Iterable[tuple[bytes, str]]) -> list[Overwritten]:
    found = []
    for name, ours in types:
        theirs = (await link.command("TYPE", name)).decode()
        if theirs not in ("none", ours):
            found.append((name.decode(), theirs, ours))
    return found
