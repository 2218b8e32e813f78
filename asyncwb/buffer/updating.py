"""Calls that change values without reading them."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeVar

from asyncwb.buffer.base import BufferCalls
from asyncwb.core.arguments import ANY_VERSION, AnyVersion, checked_field, checked_flag, checked_items
from asyncwb.core.userkeys import raw_key
from asyncwb.records import Version
from asyncwb.settings import Durability
from asyncwb.updates import ABSENT, Append, Operation

T = TypeVar("T")

Change = Operation | Mapping[str, Any]
"""An operation on the whole value, or by field names: operations, `UNSET`, and values that are set."""


class UpdatingCalls(BufferCalls[T]):
    """The calls of a `Buffer` that change values without reading them."""

    async def update(
        self,
        key: str,
        change: Change,
        *,
        default: Any = ABSENT,
        upsert: bool = True,
        expected: Version | AnyVersion | None = ANY_VERSION,
        durability: Durability | None = None,
    ) -> Version:
        """Changes a value without reading it; returns the version of the change once Redis has it.

        The change is applied exactly once, in the order of versions, when the value is saved or read. Changes of one
        key that many tasks make at the same time are sent as one.

        ::

            await pages.update("/pricing", Add(1))
            await users.update("42", {"last_seen": Max(now), "name": "Ada", "visits": Add(1), "trial": UNSET})

        Args:
            key: 1 byte to 1 KiB in UTF-8.
            change: an operation on the whole value, `Add(…)`, `Max(…)`, `Min(…)` or `Append(…)`; or a mapping from the
                names of fields, as `type` calls them, to such operations, to `UNSET` (which removes the field), or to
                values, which are set.
            default: the value to begin with if the key is absent or deleted; by default the defaults of `type`.
            upsert: whether a value is made if the key is absent or deleted; if not, nothing happens then, though the
                change still has a version.
            expected: as in `set`.
            durability: as in `set`.

        Raises:
            InvalidValue: values of this type can't take the change; nothing was sent.
            DeadLettered: an earlier update of the key can't be applied, so it takes no more; nothing was written.
            NamespaceMismatch: as in `set`, or the namespace is written through at limits; nothing was written.
            UsageError: this buffer writes through at limits, or its backend can't have updates; nothing was sent.
            Any error of `set`.
        """
        self._life.check()
        raw = raw_key(key)
        body = self._update(raw, change, default, upsert=upsert)
        return await self._expecting(raw, body, expected, self._level(durability))

    async def update_many(
        self,
        changes: Mapping[str, Change],
        *,
        default: Any = ABSENT,
        upsert: bool = True,
        durability: Durability | None = None,
    ) -> dict[str, Version]:
        """Changes several values in few calls; returns the versions of the changes by key.

        It isn't atomic across keys. All changes are checked before anything is sent. Arguments and errors are those of
        `update`; errors of some keys are a `PartialFailure`, as in `set_many`.
        """
        self._life.check()
        level = self._level(durability)
        bodies: dict[bytes, bytes] = {}
        for key, change in checked_items(changes):
            raw = raw_key(key)
            bodies[raw] = self._update(raw, change, default, upsert=upsert)
        return await self._engine.router.put_many(bodies, level)

    async def add(
        self, key: str, amount: float | Decimal = 1, field: str | None = None, *, durability: Durability | None = None
    ) -> Version:
        """Adds a number to a value, or to one of its fields; absent ones begin with their default, else with 0.

        Returns the version of the change, not the sum: `get` tells that. Raises the same errors as `update`.
        """
        self._life.check()
        self._require_updates()
        raw = raw_key(key)
        return await self._engine.router.put(
            raw, self._values.addition(raw, amount, checked_field(field)), self._level(durability)
        )

    async def append(
        self,
        key: str,
        *items: Any,
        field: str | None = None,
        keep: int | None = None,
        durability: Durability | None = None,
    ) -> Version:
        """Appends items to a list, or to a field that is one; with `keep`, only the last so many items stay.

        Returns the version of the change. Raises the same errors as `update`.
        """
        operation, name = Append(*items, keep=keep), checked_field(field)
        return await self.update(key, operation if name is None else {name: operation}, durability=durability)

    def _update(self, raw: bytes, change: Change, default: Any, *, upsert: bool) -> bytes:
        self._require_updates()
        return self._values.update(raw, change, default=default, upsert=checked_flag("upsert", upsert))
