"""Calls that read."""

from collections.abc import Iterable
from typing import TypeVar

from asyncwb.buffer.base import BufferCalls
from asyncwb.core.userkeys import raw_key, raw_keys
from asyncwb.reading.reader import version_of
from asyncwb.records import Version

T = TypeVar("T")


class ReadingCalls(BufferCalls[T]):
    """The calls of a `Buffer` that read."""

    async def get(self, key: str) -> T | None:
        """Returns the value of a key, or None; it is never older than a write acknowledged before this call.

        Raises:
            InvalidKey: nothing was sent.
            DecodeError: the stored bytes aren't a value of this codec and type.
            RedisUnavailable, BackendError: the value could not be read.
            NamespaceMismatch: as in `set`.
        """
        self._life.check()
        raw = raw_key(key)
        (found,) = await self._engine.router.get(raw)
        return self._values.value(raw, found)

    async def get_versioned(self, key: str) -> tuple[T, Version] | tuple[None, None]:
        """Returns the value of a key and its version, for a later write with `expected`; (None, None) if it is absent.

        The version is 0 for what was in the backend before asyncwb. Raises the same errors as `get`.
        """
        self._life.check()
        raw = raw_key(key)
        (found,) = await self._engine.router.get(raw)
        value = self._values.value(raw, found)
        return (None, None) if value is None else (value, version_of(found))

    async def get_many(self, keys: Iterable[str]) -> dict[str, T]:
        """Returns the values of those keys that have one.

        Raises:
            PartialFailure: some keys couldn't be read, or none could for different kinds of reasons. It has the values
                of the others, and for each key that failed an error that `get` would raise.
            Any error of `get`: it applies to all keys; its message names the first.
        """
        self._life.check()
        return self._values.values(await self._engine.router.get_many(raw_keys(keys)))
