"""Which processes have an open buffer: each one notes facts about itself in Redis, for operators to read."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from asyncwb.protocol import scripts
from asyncwb.protocol.queue import Queue
from asyncwb.redis.clock import server_seconds
from asyncwb.support.key_encoding import text_of

_FORGET_MS: Final = 60_000
_STALLED_SECONDS: Final = 3.0
# `asyncwb.core.heartbeat` lists the facts. Another program may have written them, so their types are checked.
_FACTS: Final = msgspec.json.Decoder(dict[str, str | bool | int | float])


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """A process with an open buffer.

    Attributes:
        id: of the process's buffer.
        silent_seconds: seconds since its last heartbeat. A process that ends properly is removed at once.
        facts: what it says about itself, see `asyncwb.core.heartbeat`.
    """

    id: str
    silent_seconds: float
    facts: dict[str, Any]

    @property
    def stalled_seconds(self) -> float:
        """For how long it has been trying to save without saving anything; 0.0 if that is less than 3 seconds."""
        stalled = self.facts.get("stalled_seconds")
        return stalled if isinstance(stalled, int | float) and stalled >= _STALLED_SECONDS else 0.0


class Presence:
    """The processes of a namespace.

    Args:
        queue: the queue of the first partition, whose keys hold them.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    async def beat(self, process: str, facts: dict[str, Any]) -> None:
        """Notes a process's heartbeat, with facts about it."""
        await self._beat(process, msgspec.json.encode(facts))

    async def leave(self, process: str) -> None:
        """Removes a process that ends."""
        await self._beat(process, b"")

    async def processes(self) -> list[Process]:
        """The processes whose last heartbeat was within the last minute, in the order of their ids."""
        found = [pair async for page in self._queue.fields(self._queue.keys.workers) for pair in page]
        now_ms = round(await server_seconds(self._queue.link) * 1000)
        processes = [
            Process(id=text_of(name), silent_seconds=silent_ms / 1000, facts=facts)
            for name, said in found
            if (facts := _facts(said[8:])) is not None
            # Other processes' heartbeats remove silent ones, but there may be no other process left.
            and (silent_ms := max(0, now_ms - int.from_bytes(said[:8]))) <= _FORGET_MS
        ]
        return sorted(processes, key=lambda process: process.id)

    async def _beat(self, process: str, said: bytes) -> None:
        keys = (*self._queue.keys.common, self._queue.keys.workers)
        await self._queue.link.script(
            scripts.HEARTBEAT, keys, (self._queue.keys.record_prefix, process, said, _FORGET_MS)
        )


def _facts(said: bytes) -> dict[str, Any] | None:
    """What a process says about itself; None if another program wrote it."""
    try:
        return _FACTS.decode(said)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
