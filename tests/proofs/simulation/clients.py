"""A caller in a simulated service: it does what its seed says, and tells the oracle what it was told."""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from asyncwb.admin.partition_view import Inspection
from asyncwb.errors import (
    BackendError,
    BufferFull,
    DeadLettered,
    FlushTimeout,
    NotConfirmed,
    OutcomeUnknown,
    PartialFailure,
    RedisError,
    RedisUnavailable,
    UnsuitableServer,
    UsageError,
    VersionMismatch,
    WriteLost,
)
from asyncwb.settings import Durability
from tests.proofs.simulation.network import SURVEYED

if TYPE_CHECKING:
    from tests.proofs.simulation.buffer import SimulatedBuffer
    from tests.proofs.simulation.world import SimulatedWorld


_NO_WAIT = ("dead letter", "maxmemory", "earlier writes of this process")
"""What the errors of writes say that dead letters kept out, that the server's memory did, or that others did."""


_NOTHING_WRITTEN = (
    BufferFull, RedisUnavailable, BackendError, UnsuitableServer, UsageError, VersionMismatch, DeadLettered,
)  # fmt: skip
"""The errors of writes that say so."""


class Client:
    """A caller.

    Attributes:
        acknowledged: when each write was called, its key and its version.
        looked_up: versions of writes that had to look before they were sent, so that later calls may come before them.
    """

    def __init__(self, world: "SimulatedWorld", buffer: "SimulatedBuffer[Any]", rng: random.Random) -> None:
        self._world = world
        self._oracle = world.oracle
        self._buffer = buffer
        self._rng = rng
        self._calls = rng.randint(5, 40)
        self._pause = rng.choice((0.0, 0.005, 0.05))
        # A level that the buffer wasn't opened with has to be asked of the server at its first use.
        self._levels: tuple[Durability | None, ...] = (None, None, world.durability, "memory")
        self.acknowledged: list[tuple[int, str, int]] = []
        self.looked_up: set[int] = set()

    async def run(self) -> None:
        """Its calls, one after the other, until the world heals."""
        work = [self._set, *[self._get_all_at_once] * 5] if self._world.calm else self._work()
        for _ in range(self._calls):
            if self._world.healed or self._buffer.closed:
                return
            await self._rng.choice(work)()
            await asyncio.sleep(self._pause * self._rng.random())

    def _work(self) -> list[Callable[[], Any]]:
        return [
            self._set, self._set, self._set, self._set_many, self._delete, self._delete_many, self._get, self._get,
            self._get_many, self._flush, self._drain, self._drop,
        ]  # fmt: skip

    def _new(self) -> int:
        """The number of a write that is made now."""
        return next(self._world.values)

    def _value(self, number: int) -> Any:
        """What is set by the write of this number: the number itself."""
        return number

    def _key(self) -> str:
        return self._rng.choice(self._world.keys)

    async def _set(self) -> None:
        key, number = self._key(), self._new()
        await self._write({key: number}, lambda level: self._buffer.set(key, self._value(number), durability=level))

    async def _delete(self) -> None:
        key = self._key()
        await self._write({key: None}, lambda level: self._buffer.delete(key, durability=level))

    async def _set_many(self) -> None:
        numbers = {key: self._new() for key in {self._key(): None, self._key(): None}}
        values = {key: self._value(number) for key, number in numbers.items()}
        await self._write(numbers, lambda level: self._buffer.set_many(values, durability=level))

    async def _delete_many(self) -> None:
        keys = list({self._key(): None, self._key(): None})
        await self._write(dict.fromkeys(keys), lambda level: self._buffer.delete_many(keys, durability=level))

    async def _write(self, values: "Mapping[str, int | None]", call: Callable[[Durability | None], Any]) -> None:
        called, begin = self._oracle.tick(), self._oracle.clock()
        try:
            answer = await call(self._rng.choice(self._levels))
        except PartialFailure as error:
            if values.keys() != error.versions.keys() | error.failed.keys() or error.versions.keys() & error.failed:
                self._oracle.fail(f"of a call for {list(values)}: {error!r}, {error.versions}, {error.failed}")
            self._acknowledged(called, values, error.versions)
            for key, each in error.failed.items():
                self._failed({key: values[key]}, each, begin)
        except (RedisError, *_NOTHING_WRITTEN) as error:
            self._failed(values, error, begin)
        else:
            self._acknowledged(called, values, answer if isinstance(answer, dict) else dict.fromkeys(values, answer))

    def _acknowledged(self, called: int, values: "Mapping[str, int | None]", versions: Mapping[str, int]) -> None:
        for key, version in versions.items():
            self._buffer.wrote(key, version)
            self._oracle.acknowledged(key, values[key], version)
            self.acknowledged.append((called, key, version))

    def _failed(self, values: "Mapping[str, int | None]", error: Exception, begin: float) -> None:
        if isinstance(error, BufferFull) and not any(text in str(error) for text in _NO_WAIT):
            self._oracle.waited_in_vain(values, begin)
        if isinstance(error, NotConfirmed):
            if error.versions.keys() != values.keys():
                self._oracle.fail(f"of {list(values)}: {error!r} has the versions {error.versions}")
            for key, version in error.versions.items():
                self._oracle.not_confirmed(key, values[key], version)
        elif isinstance(error, _NOTHING_WRITTEN):
            # Each of these says that nothing was written.
            for key, value in values.items():
                self._oracle.refused(key, value, error)
        elif not isinstance(error, OutcomeUnknown):
            self._oracle.fail(f"a write failed with {error!r}")

    async def _get_all_at_once(self) -> None:
        """So that a key that is in Redis and one whose load hangs share a request."""
        await asyncio.gather(*map(self._get, self._world.keys))

    async def _get(self, key: str | None = None) -> None:
        key, begin, since = key or self._key(), self._oracle.tick(), self._oracle.clock()
        held = self._world.holds(key)
        try:
            value = await self._buffer.get(key)
        except (RedisError, BackendError, UsageError):
            return
        self._oracle.read(key, value, begin)
        if held and self._world.holds(key):
            self._oracle.answered_hit(key, self._oracle.clock() - since)

    async def _get_many(self) -> None:
        begin = self._oracle.tick()
        keys = self._world.keys
        try:
            values = await self._buffer.get_many(keys)
        except PartialFailure as error:
            values, keys = error.values, [key for key in keys if key not in error.failed]
        except (RedisError, BackendError, UsageError):
            return
        for key in keys:
            self._oracle.read(key, values.get(key), begin)

    async def _flush(self) -> None:
        if not self.acknowledged:
            return
        _, key, version = self._rng.choice(self.acknowledged)
        held, newest = self._oracle.storage.version(key), self._newest()
        try:
            await self._buffer.flush(key, version=version, timeout=self._rng.uniform(0.05, 1.0))
        except WriteLost as error:
            self._oracle.told_not_saved(key, version, held, error)
            self._oracle.told_lost(key, version)
        except DeadLettered as error:
            self._told_dead([key], newest)
            self._oracle.told_not_saved(key, version, held, error)
        except (FlushTimeout, RedisError, BackendError, UsageError):
            return
        else:
            self._oracle.flushed(key, version)

    def _told_dead(self, keys: Iterable[str], newest: Mapping[str, int]) -> None:
        """The process knows that these are dead, up to the version that was the newest when it asked."""
        self._buffer.told_dead.update((key, newest[key]) for key in keys if key in newest)

    def _newest(self) -> dict[str, int]:
        return {key: max(versions) for key, versions in self._oracle.writes.items() if versions}

    async def _drop(self) -> None:
        """As an operator: `asyncwb dead drop`."""
        for partition in self._buffer._engine.partitions:
            inspection = Inspection(partition.queue)
            try:
                letters = [letter async for letter in inspection.dead()]
                self._oracle.dropping({letter.key: letter.version for letter in letters})
                await inspection.drop(letters)
            except RedisError:
                return

    async def _drain(self) -> None:
        before, begin, own = self._oracle.unsaved(), self._oracle.clock(), self._buffer.unsaved()
        newest = self._newest()
        told_dead = {key for key, version in self._buffer.told_dead.items() if version == newest[key]}
        surveyed: dict[bytes, float] = {}
        token = SURVEYED.set(surveyed)
        try:
            await self._buffer.drain(timeout=1.0)
        except WriteLost as error:
            self._oracle.drain_told_lost(error.keys)
            self._buffer.told_lost(error.keys, self._oracle.writes)
        except DeadLettered as error:
            self._oracle.drain_told_dead(error.reasons.keys() & told_dead, begin)
            self._told_dead(error.reasons, newest)
        except (FlushTimeout, RedisError, BackendError, UsageError):
            return
        else:
            self._oracle.drained(before, surveyed, own)
        finally:
            SURVEYED.reset(token)
