"""Commands about the copies of a write beyond the server's memory: on its disk, and on its replicas."""

from dataclasses import dataclass

from asyncwb.errors import OutcomeUnknown, RedisError, RedisRefused, RedisUnavailable
from asyncwb.redis.link import Argument, Link


@dataclass(frozen=True, slots=True)
class WaitCommand:
    """A command that waits for copies of all earlier writes of its connection.

    Attributes:
        args: the command and its arguments.
        copies: for how many copies it waits.
    """

    args: tuple[Argument, ...]
    copies: int


def wait_for_disk(timeout_ms: int) -> WaitCommand:
    """Waits for the server's own append-only file, for a server that `knows_waitaof`."""
    return WaitCommand(("WAITAOF", 1, 0, timeout_ms), 1)


def wait_for_replicas(count: int, timeout_ms: int) -> WaitCommand:
    """Waits for replicas."""
    return WaitCommand(("WAIT", count, timeout_ms), count)


def copies_made(reply: int | list[int]) -> int:
    """How many copies were made in time, by the reply to a `WaitCommand`."""
    return reply[0] if isinstance(reply, list) else reply


async def knows_waitaof(link: Link) -> bool:
    """Whether the server has WAITAOF: Redis 7.2 and later, and Valkey.

    Raises:
        RedisUnavailable, OutcomeUnknown, RedisRefused: that can't be told.
    """
    try:
        await link.command("WAITAOF", 0, 0, 0)
    except (RedisUnavailable, OutcomeUnknown, RedisRefused):
        raise
    except RedisError:
        return False
    return True


async def appendfsync(link: Link) -> str | None:
    """When the server makes its append-only file durable: "always", "everysec" or "no"; None if it doesn't say.

    Raises:
        RedisUnavailable, OutcomeUnknown: the server can't be asked.
    """
    try:
        _, policy = await link.command("CONFIG", "GET", "appendfsync")
    except (RedisUnavailable, OutcomeUnknown):
        raise
    except (RedisError, ValueError):
        return None
    return bytes(policy).decode("utf-8", "replace")
