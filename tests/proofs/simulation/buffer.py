"""The real buffer in a simulated world, and what its callers were told."""

import random
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from asyncwb.buffer import Buffer
from asyncwb.core.engine import Engine
from asyncwb.events import Observer
from asyncwb.redis.link import Link
from tests.proofs.simulation.network import Network, SimulatedLink


class _Engine(Engine):
    """A world is over in a few seconds."""

    check_seconds = 0.1


T = TypeVar("T")


class SimulatedBuffer(Buffer[T]):
    """The real buffer, on a simulated network, with the seed's randomness."""

    def __init__(self, network: Network, rng: random.Random, **options: Any) -> None:
        self._network = network
        self._rng = rng
        self._wrote: dict[str, int] = {}
        self._told_lost: dict[str, int] = {}
        self.told_dead: dict[str, int] = {}
        super().__init__("redis://simulated", **options)

    @property
    def closed(self) -> bool:
        return self._life.state in ("closing", "closed")

    def wrote(self, key: str, version: int) -> None:
        """A caller of this process was told that its write has this version."""
        if version > self._told_lost.get(key, 0):
            self._wrote[key] = max(version, self._wrote.get(key, 0))

    def told_lost(self, keys: Iterable[str], newest: Mapping[str, Iterable[int]]) -> None:
        """`drain` has said that these are lost; it need not say so again."""
        for key in keys:
            self._wrote.pop(key, None)
            # Also what waits for a confirmation still, and is called acknowledged only then.
            self._told_lost[key] = max(newest[key])

    def unsaved(self) -> dict[str, int]:
        """The newest acknowledged version of each key, but for those whose loss was told."""
        return dict(self._wrote)

    def _new_engine(self) -> Engine:
        async def connect(redis: Any, stack: AsyncExitStack, *, timeout_seconds: float, emit: Observer) -> Link:
            return SimulatedLink(self._network)

        return _Engine(
            None, self._backend, self.settings, codec="json", emit=self._emit, rng=self._rng, connect=connect
        )
