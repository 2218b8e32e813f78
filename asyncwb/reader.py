"""Reads: Redis first, the backend for what isn't there, and the newer of both across epochs."""

import random
from collections.abc import Sequence
from itertools import chain
from typing import cast

from asyncwb.errors import AsyncwbError, DecodeError, RedisUnavailable
from asyncwb.guard import GuardedBackend
from asyncwb.records import Record, epoch_of
from asyncwb.redis.epochs import Epochs
from asyncwb.redis.queue import Queue
from asyncwb.redis.retry import retrying
from asyncwb.redis.wire import pack_epoch, unpack_record
from asyncwb.settings import Settings

Found = bytes | Record | None
"""What a key has: a record of Redis as it stands there (see `wire`), one that was unpacked, or nothing."""


class Reader:
    """Reads of one partition, many callers at a time.

    What was read from the backend is never written to Redis: it could be older than a put that comes meanwhile.
    """

    def __init__(
        self, queue: Queue, epochs: Epochs, backend: GuardedBackend, settings: Settings, rng: random.Random
    ) -> None:
        self._queue = queue
        self._epochs = epochs
        self._backend = backend
        self._settings = settings
        self._rng = rng

    async def read(self, groups: Sequence[Sequence[bytes]]) -> list[Sequence[Found] | Exception]:
        """For each group of keys what each has, or why it can't be told.

        Raises:
            RedisUnavailable: the server can't be reached.
            BackendError: a new epoch is needed and the backend can't allot one.
        """
        keys = list(chain.from_iterable(groups))
        epoch, packed = await self._packed(keys)
        # Nearly all of a busy buffer's reads find records of this epoch, which nothing in the backend can outdo.
        present = pack_epoch(epoch)
        elsewhere = [at for at, item in enumerate(packed) if item is None or item[:4] != present]
        found: list[Found | Exception] = [*packed]
        if elsewhere:
            await self._look_elsewhere(keys, found, elsewhere, epoch)
        return _answers(groups, found, failed=bool(elsewhere))

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        """What the backend holds. Raises BackendError."""
        return await self._backend.load(keys)

    async def _packed(self, keys: Sequence[bytes]) -> tuple[int, list[bytes | None]]:
        async def ask() -> tuple[int, list[bytes | None]]:
            known = self._epochs.known(self._queue.partition)
            reply = await self._queue.get(keys, epoch=known)
            if reply is None:
                await self._epochs.refresh(self._queue.partition, known)
                raise RedisUnavailable("the server's history changed during a read")  # and read again
            self._epochs.learn(self._queue.partition, reply[0])
            return reply

        return await retrying(ask, limit_seconds=self._settings.redis_retry_seconds, rng=self._rng)

    async def _look_elsewhere(
        self, keys: Sequence[bytes], found: list[Found | Exception], elsewhere: Sequence[int], epoch: int
    ) -> None:
        """Of what isn't there, or was written in an earlier history, the backend may hold a newer record."""
        asked: list[int] = []
        for at in elsewhere:
            item = found[at]
            if isinstance(item, bytes):
                try:
                    record = found[at] = unpack_record(keys[at].decode(), item)
                except DecodeError as error:
                    found[at] = error
                    continue
                if epoch_of(record.version) >= epoch:
                    continue
            asked.append(at)
        try:
            loaded = await self._backend.load(list({keys[at].decode(): None for at in asked})) if asked else {}
        except AsyncwbError as error:
            for at in asked:
                found[at] = error
            return
        for at in asked:
            there, here = loaded.get(keys[at].decode()), found[at]
            if there is not None and (not isinstance(here, Record) or here.version < there.version):
                found[at] = there


def _answers(
    groups: Sequence[Sequence[bytes]], found: Sequence[Found | Exception], *, failed: bool
) -> list[Sequence[Found] | Exception]:
    if not failed and len(groups) == len(found):
        return list(zip(cast("Sequence[Found]", found)))  # one key each
    answers: list[Sequence[Found] | Exception] = []
    at = 0
    for group in groups:
        part = found[at : at + len(group)]
        at += len(group)
        error = next((each for each in part if isinstance(each, Exception)), None) if failed else None
        answers.append(error or cast("Sequence[Found]", part))
    return answers
