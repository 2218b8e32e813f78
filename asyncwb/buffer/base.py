"""What all calls of a `Buffer` need."""

from typing import Generic, TypeVar, cast, get_args

from asyncwb.core.arguments import AnyVersion, checked_expected
from asyncwb.core.engine import Engine
from asyncwb.core.lifecycle import Lifetime
from asyncwb.core.values import Values
from asyncwb.errors import UsageError
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.records import Version
from asyncwb.settings import Durability, Settings, check_choice

T = TypeVar("T")


class BufferCalls(Generic[T]):
    """The base of the groups of calls that make up a `Buffer`."""

    settings: Settings
    _backend: BackendAdapter
    _life: Lifetime
    _engine: Engine
    _values: Values[T]
    _takes_updates = False

    def _level(self, durability: Durability | None) -> Durability:
        if durability is None:
            return self.settings.durability
        return cast("Durability", check_choice("durability", durability, get_args(Durability)))

    async def _expecting(self, raw: bytes, body: bytes, expected: object, level: Durability) -> Version:
        """Makes a write on a condition, if there is one."""
        version = checked_expected(expected)
        if isinstance(version, AnyVersion):
            return await self._engine.router.put(raw, body, level)
        self._require_updates()
        return await self._engine.router.put_expecting(raw, body, version, level)

    def _require_updates(self) -> None:
        """Raises UsageError if this buffer can't have updates and conditional writes."""
        if self._takes_updates:
            return
        if self.settings.on_full == "write-through":
            raise UsageError(
                "a buffer with on_full='write-through' has no updates and no conditional writes: one of the two could "
                "lose writes of the other; use another on_full, and another namespace"
            )
        if not self._backend.supports_based_on:
            raise UsageError(
                f"backend {self._backend.name} has no updates and no conditional writes: its plugin doesn't declare "
                "supports_based_on; install a version of it that does"
            )
        self._takes_updates = True
