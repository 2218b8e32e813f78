"""Finds keys of a partition that another program has overwritten with another type."""

from asyncwb.protocol.keys import TYPES
from asyncwb.protocol.queue import Queue


async def overwritten_keys(queue: Queue) -> list[tuple[str, str, str]]:
    """The name, the type and the proper type of each key that has another type than asyncwb gives it.

    Raises:
        RedisError, OutcomeUnknown: the server can't be asked.
    """
    found = []
    for name, ours in zip(queue.keys.once, TYPES, strict=True):
        theirs = (await queue.link.command("TYPE", name)).decode()
        if theirs not in ("none", ours):
            found.append((name.decode(), theirs, ours))
    return found
