"""Which processes have an open buffer: each says so in Redis, with facts about itself, and operators read it."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from asyncwb.protocol import scripts
from asyncwb.protocol.queue import Queue
from asyncwb.support.key_encoding import text_of

_FORGET_MS: Final = 60_000
_STALLED_SECONDS: Final = 3.0
# See `asyncwb.core.heartbeat`; of the right types, whoever wrote it.
_FACTS: Final = msgspec.json.Decoder(dict[str, str | bool | int | float])


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """A process with an open buffer.

    Attributes:
        id: of the buffer.
        silent_seconds: since its last heartbeat; those that end in order leave at once.
        facts: what it says of itself, see `asyncwb.core.heartbeat`.
    """

    id: str
    silent_seconds: float
    facts: dict[str, Any]

    @property
    def stalled_seconds(self) -> float:
        """For how long it has saved nothing although records are due; 0.0 for less than some seconds of that."""
        stalled = self.facts.get("stalled_seconds")
        return stalled if isinstance(stalled, int | float) and stalled >= _STALLED_SECONDS else 0.0


class Presence:
    """The processes of a namespace.

    Args:
        queue: the first partition, which keeps them.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    async def beat(self, process: str, facts: dict[str, Any]) -> None:
        """A process says that it is there."""
        await self._beat(process, msgspec.json.encode(facts))

    async def leave(self, process: str) -> None:
        """A process ends."""
        await self._beat(process, b"")

    async def processes(self) -> list[Process]:
        """Those that have been heard of within the last minute."""
        found = [pair async for page in self._queue.fields(self._queue.keys.workers) for pair in page]
        now, micros = await self._queue.link.command("TIME")
        now_ms = int(now) * 1000 + int(micros) // 1000
        processes = [
            Process(id=text_of(name), silent_seconds=silent_ms / 1000, facts=facts)
            for name, said in found
            if (facts := _facts(said[8:])) is not None
            # Others forget it at their next heartbeat, but perhaps nobody else is left.
            and (silent_ms := max(0, now_ms - int.from_bytes(said[:8]))) <= _FORGET_MS
        ]
        return sorted(processes, key=lambda process: process.id)

    async def _beat(self, process: str, said: bytes) -> None:
        keys = (*self._queue.keys.common, self._queue.keys.workers)
        await self._queue.link.script(
            scripts.HEARTBEAT, keys, (self._queue.keys.record_prefix, process, said, _FORGET_MS)
        )


def _facts(said: bytes) -> dict[str, Any] | None:
    """What a process says of itself; None if another program wrote it."""
    try:
        return _FACTS.decode(said)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
