"""A caller in a simulated service that makes updates, and writes on conditions."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from asyncwb import Append, Max
from asyncwb.errors import BackendError, RedisError, UsageError
from tests.proofs.simulation.clients import Client
from tests.proofs.simulation.documents import ChangeKind, Document, amount, replayed

if TYPE_CHECKING:
    from tests.proofs.simulation.buffer import SimulatedBuffer
    from tests.proofs.simulation.updates_oracle import UpdatesOracle


class UpdatingClient(Client):
    """Its values are documents."""

    _oracle: "UpdatesOracle"
    _buffer: "SimulatedBuffer[Document]"

    def _work(self) -> list[Callable[[], Any]]:
        return [
            self._add, self._add, self._append, self._append, self._update, self._update, self._update_many,
            self._burst, self._set, self._set_many, self._delete, self._delete_many, self._replace, self._replace,
            self._get, self._get, self._get_many, self._flush, self._flush, self._drain, self._drop,
        ]  # fmt: skip

    def _new(self, kind: ChangeKind = "set") -> int:
        number = next(self._world.values)
        self._oracle.kinds[number] = kind
        return number

    def _value(self, number: int) -> Document:
        return replayed([(number, "set")])

    async def _add(self) -> None:
        key, number = self._key(), self._new("add")
        await self._write(
            {key: number}, lambda level: self._buffer.add(key, amount(number), field="sum", durability=level)
        )

    async def _append(self) -> None:
        key, number = self._key(), self._new("append")
        await self._write({key: number}, lambda level: self._buffer.append(key, number, field="log", durability=level))

    async def _update(self) -> None:
        key, number = self._key(), self._new("update")
        await self._write({key: number}, lambda level: self._buffer.update(key, change_of(number), durability=level))

    async def _update_many(self) -> None:
        numbers = {key: self._new("update") for key in {self._key(): None, self._key(): None}}
        changes = {key: change_of(number) for key, number in numbers.items()}
        await self._write(numbers, lambda level: self._buffer.update_many(changes, durability=level))

    async def _burst(self) -> None:
        """At the same time, so that they are folded."""
        await asyncio.gather(self._add(), self._append(), self._update(), self._set(), self._append(), self._add())

    async def _replace(self) -> None:
        """A write of the whole value, if the key has what was read."""
        key, begin = self._key(), self._oracle.tick()
        try:
            value, expected = await self._buffer.get_versioned(key)
        except (RedisError, BackendError, UsageError):
            return
        self._oracle.read_versioned(key, value, expected, begin)
        await asyncio.sleep(self._pause * self._rng.random())
        number = self._new()

        async def replace(level: Any) -> int:
            version = await self._buffer.set(key, self._value(number), expected=expected, durability=level)
            self._oracle.replaced(key, expected, version)
            self.looked_up.add(version)
            return version

        await self._write({key: number}, replace)


def change_of(number: int) -> dict[str, Any]:
    """What `update` is called with for a change of this number."""
    return {"log": Append(number), "top": Max(number), "last": number}
