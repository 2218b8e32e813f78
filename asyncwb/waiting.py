"""Waiting until the backend holds a write: what `flush` and `drain` do."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from asyncwb.batching import Batcher
from asyncwb.errors import DeadLettered, RedisUnavailable, WriteLost
from asyncwb.reader import Reader
from asyncwb.records import Version
from asyncwb.redis.epochs import Epochs
from asyncwb.redis.queue import Queue
from asyncwb.redis.retry import retrying
from asyncwb.redis.wire import unpack_version
from asyncwb.settings import Settings

_FIRST_POLL_SECONDS: Final = 0.001
_LAST_POLL_SECONDS: Final = 0.05
_HASTEN_EVERY_SECONDS: Final = 0.25
"""Asking again to make a write due defeats its back-off after a failure, so it isn't done with every poll."""

_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class _Question:
    key: bytes
    version: Version | None
    hasten: bool


class Waiter:
    """Waits for writes of one partition, many callers at a time. Needs no flusher in this process.

    Args:
        queue, epochs, reader, settings, rng: of the partition.
        on_wake: called when something was made due.
    """

    def __init__(
        self,
        queue: Queue,
        epochs: Epochs,
        reader: Reader,
        settings: Settings,
        *,
        rng: random.Random,
        on_wake: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._epochs = epochs
        self._reader = reader
        self._settings = settings
        self._rng = rng
        self._on_wake = on_wake
        self.questions: Batcher[_Question, bytes] = Batcher(self._ask, max_weight=_PAGE, max_size=2**30)

    async def wait(self, key: str, version: Version | None) -> None:
        """Returns when the backend holds at least this version (None: the one that Redis has now).

        Raises:
            DeadLettered: the backend refused it for good.
            WriteLost: neither Redis nor the backend has it.
            RedisUnavailable, BackendError: it can't be told.
        """
        loop = asyncio.get_running_loop()
        raw = key.encode()
        pause = _FIRST_POLL_SECONDS
        hastened = -_HASTEN_EVERY_SECONDS
        while True:
            hasten = loop.time() - hastened >= _HASTEN_EVERY_SECONDS
            if hasten:
                hastened = loop.time()
            answer = await self.questions.submit(_Question(raw, version, hasten))
            version = await self._still_pending(key, version, answer)
            if version is None:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_POLL_SECONDS)

    async def wait_all(self, writes: Sequence[tuple[bytes, Version]]) -> None:
        """Returns when the backend holds all of these writes, but for dead-lettered ones. Raises as `wait`."""
        loop = asyncio.get_running_loop()
        pending = [_Question(key, version, hasten=True) for key, version in writes]
        pause = _FIRST_POLL_SECONDS
        hastened = -_HASTEN_EVERY_SECONDS
        while pending:
            # Not only once: what was leased then may have been written again meanwhile, and is delayed anew.
            hasten = loop.time() - hastened >= _HASTEN_EVERY_SECONDS
            if hasten:
                hastened = loop.time()
            left: list[_Question] = []
            for start in range(0, len(pending), _PAGE):
                page = pending[start : start + _PAGE]
                for question, answer in zip(page, await self._answers(page, hasten=hasten), strict=True):
                    dead = answer.startswith(b"D")
                    if not dead and await self._still_pending(_name(question.key), question.version, answer):
                        left.append(question)
            pending = left
            if pending:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LAST_POLL_SECONDS)

    async def _still_pending(self, key: str, version: Version | None, answer: bytes) -> Version | None:
        """None if it is saved, else the version to wait for."""
        state, detail = answer[:1], answer[1:]
        if state == b"P":
            return unpack_version(detail)
        if state == b"D":
            raise DeadLettered(f"key {key!r} is dead-lettered: {detail.decode('utf-8', 'replace')}")
        if state == b"A":
            assert version is not None, "without a version there is nothing to ask for"
            await self._ask_backend(key, version)
        return None

    async def _ask_backend(self, key: str, version: Version) -> None:
        record = (await self._reader.load([key])).get(key)
        if record is None or record.version < version:
            raise WriteLost(
                f"key {key!r}: an acknowledged write is neither in Redis nor in the backend; the server lost data "
                "(see its persistence settings), write it again"
            )

    async def _ask(self, questions: Sequence[_Question]) -> list[bytes | Exception]:
        answers: dict[_Question, bytes] = {}
        for hasten in (True, False):
            asked = list(dict.fromkeys(question for question in questions if question.hasten is hasten))
            if asked:
                answers.update(zip(asked, await self._answers(asked, hasten=hasten), strict=True))
        return [answers[question] for question in questions]

    async def _answers(self, questions: Sequence[_Question], *, hasten: bool) -> list[bytes]:
        writes = [(question.key, question.version) for question in questions]

        async def ask() -> list[bytes]:
            known = self._epochs.known(self._queue.partition)
            reply = await self._queue.flushed(writes, epoch=known, hasten=hasten)
            if reply is None:
                await self._epochs.refresh(self._queue.partition, known)
                raise RedisUnavailable("the server's history changed during a flush")  # and asked again
            epoch, woken, answers = reply
            self._epochs.learn(self._queue.partition, epoch)
            if woken:
                self._on_wake()
            return answers

        return await retrying(ask, limit_seconds=self._settings.redis_retry_seconds, rng=self._rng)


def _name(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
