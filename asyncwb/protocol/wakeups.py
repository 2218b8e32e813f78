"""Waiting for wake-ups: a put pushes one onto its partition's list `wake` when it makes a record due."""

from collections.abc import Sequence

from asyncwb.protocol.queue import Queue


async def wait_for_wakeup(queues: Sequence[Queue], *, seconds: float) -> None:
    """Returns when a partition has a wake-up, which it takes, or after `seconds`.

    Args:
        queues: the partitions, at least one; all of one server.
        seconds: how long it waits at most.

    Raises:
        RedisError: the server can't be asked.
        OutcomeUnknown: the reply was lost, with it perhaps a wake-up that was taken.
    """
    keys = [queue.keys.wake for queue in queues]
    await queues[0].link.command("BLPOP", *keys, f"{seconds:g}", block_seconds=seconds)
