"""Calls that replace or remove whole values."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from asyncwb.buffer.base import BufferCalls
from asyncwb.core.arguments import ANY_VERSION, AnyVersion, checked_items, checked_values
from asyncwb.core.userkeys import raw_key, raw_keys
from asyncwb.core.uuids import new_uuid7
from asyncwb.protocol.body import DELETE_BODY
from asyncwb.records import Version
from asyncwb.settings import Durability

T = TypeVar("T")


class WritingCalls(BufferCalls[T]):
    """The calls of a `Buffer` that replace or remove whole values."""

    async def set(
        self,
        key: str,
        value: T,
        *,
        expected: Version | AnyVersion | None = ANY_VERSION,
        durability: Durability | None = None,
    ) -> Version:
        """Writes a value; returns its version once Redis has it.

        Args:
            key: 1 byte to 1 KiB in UTF-8.
            value: anything that the codec and `type` accept, except None.
            expected: writes only if the key has exactly this version, as `get_versioned` tells it; None: only if it is
                absent or deleted. By default it is written in any case. Writes of other programs to the backend don't
                change versions, so they aren't noticed.
            durability: how safe the write has to be on return; by default `Settings.durability`.

        Raises:
            InvalidKey, InvalidValue: nothing was sent.
            BufferFull, RedisUnavailable: nothing was written.
            OutcomeUnknown: it may or may not have been written.
            NotConfirmed: it was written, but perhaps not as durably as asked for.
            UnsuitableServer: the server can't provide that durability; nothing was sent.
            NamespaceMismatch: others have made the namespace anew, with another codec or number of partitions; nothing
                was written to Redis.
            VersionMismatch: the key hasn't the expected version; nothing was written. The error has the present one.
            BackendError, DecodeError, DeadLettered: with `expected`: the present version can't be determined; nothing
                was written.
        """
        self._life.check()
        raw = raw_key(key)
        body, level = self._values.body(raw, value), self._level(durability)
        if expected is ANY_VERSION:  # the common case, which avoids a coroutine
            return await self._engine.router.put(raw, body, level)
        return await self._expecting(raw, body, expected, level)

    async def delete(
        self,
        key: str,
        *,
        expected: Version | AnyVersion | None = ANY_VERSION,
        durability: Durability | None = None,
    ) -> Version:
        """Deletes a key, whether or not it exists, by writing a tombstone; returns its version.

        Raises the same errors as `set`.
        """
        self._life.check()
        return await self._expecting(raw_key(key), DELETE_BODY, expected, self._level(durability))

    async def set_many(self, values: Mapping[str, T], *, durability: Durability | None = None) -> dict[str, Version]:
        """Writes several values in few calls; returns their versions by key.

        It isn't atomic across keys. All keys and values are checked before anything is sent: if one is invalid, nothing
        is written.

        Raises:
            PartialFailure: some keys failed, or all of them for different kinds of reasons. It has the versions of the
                keys that were written, and for each other key an error that `set` would raise.
            Any error of `set`: it applies to all keys. `NotConfirmed` has the versions of all of them.
        """
        self._life.check()
        level = self._level(durability)
        bodies: dict[bytes, bytes] = {}
        for key, value in checked_items(values):
            raw = raw_key(key)
            bodies[raw] = self._values.body(raw, value)
        return await self._engine.router.put_many(bodies, level)

    async def delete_many(self, keys: Iterable[str], *, durability: Durability | None = None) -> dict[str, Version]:
        """Deletes several keys; returns the versions of their tombstones. Raises the same errors as `set_many`."""
        self._life.check()
        level = self._level(durability)
        return await self._engine.router.put_many(dict.fromkeys(raw_keys(keys), DELETE_BODY), level)

    async def insert(self, value: T, *, durability: Durability | None = None) -> str:
        """Writes a value under a new key; returns the key once Redis has it. Raises the same errors as `set`.

        The key is a UUID of version 7 as text. Keys increase within a process, and by the time between processes.
        """
        key = new_uuid7()
        await self.set(key, value, durability=durability)
        return key

    async def insert_many(self, values: Iterable[T], *, durability: Durability | None = None) -> list[str]:
        """Writes values under new keys, in few calls; returns the keys, which increase, in the order of the values.

        Raises the same errors as `set_many`; a `PartialFailure` names the keys that were written, too.
        """
        rows = {new_uuid7(): value for value in checked_values(values)}
        await self.set_many(rows, durability=durability)
        return [*rows]
