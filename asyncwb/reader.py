"""Reads: Redis first, the backend for what isn't there, and the newer of both across epochs."""

import random
from collections.abc import Sequence

from asyncwb.errors import AsyncwbError, RedisUnavailable
from asyncwb.guard import GuardedBackend
from asyncwb.records import Record, epoch_of
from asyncwb.redis.epochs import Epochs
from asyncwb.redis.queue import Queue
from asyncwb.redis.retry import retrying
from asyncwb.redis.wire import unpack_record
from asyncwb.settings import Settings

Found = dict[str, Record]
"""The records of the keys that have a value."""


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

    async def read(self, groups: Sequence[Sequence[str]]) -> list[Found | Exception]:
        """For each group of keys what was found, or why it can't be told.

        Raises:
            RedisUnavailable: the server can't be reached.
            BackendError: a new epoch is needed and the backend can't allot one.
        """
        keys = list(dict.fromkeys(key for group in groups for key in group))
        epoch, packed = await self._packed([key.encode() for key in keys])
        found: Found = {}
        errors: dict[str, Exception] = {}
        elsewhere: list[str] = []
        for key, item in zip(keys, packed, strict=True):
            if item is None:
                elsewhere.append(key)
                continue
            try:
                record = found[key] = unpack_record(key, item)
            except AsyncwbError as error:
                errors[key] = error
                continue
            if epoch_of(record.version) < epoch:
                elsewhere.append(key)  # written in an earlier history: the backend may hold a newer one
        if elsewhere:
            await self._look_elsewhere(elsewhere, found, errors)
        return [_answer(group, found, errors) for group in groups]

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

    async def _look_elsewhere(self, keys: Sequence[str], found: Found, errors: dict[str, Exception]) -> None:
        try:
            loaded = await self._backend.load(keys)
        except AsyncwbError as error:
            errors.update(dict.fromkeys(keys, error))
            return
        for key, record in loaded.items():
            if key not in found or found[key].version < record.version:
                found[key] = record


def _answer(group: Sequence[str], found: Found, errors: dict[str, Exception]) -> Found | Exception:
    for key in group:
        if key in errors:
            return errors[key]
    return {key: found[key] for key in group if key in found and not found[key].deleted}
