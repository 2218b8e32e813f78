"""Variants of the workload: which server, which backend, which settings."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from asyncwb.backend import Backend
from asyncwb.codecs import Codec
from asyncwb.plugins.registry import backend_from_url
from asyncwb.redis.targets import RedisClient
from asyncwb.settings import SettingOptions
from asyncwb.testing import MemoryBackend
from tests.harness.servers import Server
from tests.proofs.faults.workload import BATCH_SIZE, MAX_DIRTY

TIMEOUT_SECONDS: Final = 0.2

_SETTINGS: Final = SettingOptions(
    flushers=2,
    batch_size=BATCH_SIZE,
    max_dirty=MAX_DIRTY,
    on_full="write-through",
    max_delay_seconds=60.0,
    lease_seconds=0.3,
    redis_timeout_seconds=TIMEOUT_SECONDS,
    redis_retry_seconds=0.3,
    connect_timeout_seconds=2.0,
    drain_timeout_seconds=3.0,
    retry_initial_seconds=0.01,
    retry_max_seconds=0.05,
    probe_seconds=0.05,
    backoff_initial_seconds=0.01,
    backoff_max_seconds=0.1,
)


_WITH_UPDATES: Final = SettingOptions(on_full="raise", max_dirty=None)
"""A buffer that writes through has no updates."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One way to run the workload.

    Attributes:
        name: of it.
        server: its kind.
        config: of the server.
        settings: of the buffer, beyond those that all share.
        sqlite: whether the backend is SQLite, else it is memory.
        updates: whether values are lists, to which updates add; else they are written as a whole.
        cold: whether the server knows no script when the buffer is opened; and redis-py introduces itself.
    """

    name: str
    server: str = "valkey"
    config: dict[str, str] = field(default_factory=dict)
    settings: SettingOptions = field(default_factory=SettingOptions)
    sqlite: bool = False
    updates: bool = False
    cold: bool = False

    def options(self, namespace: str) -> dict[str, Any]:
        """Arguments of `Buffer`."""
        own = _WITH_UPDATES if self.updates else {}
        return {**_SETTINGS, **own, **self.settings, "namespace": namespace}

    @property
    def type(self) -> Any:
        """Of the values."""
        return list[int] if self.updates else int

    def target(self, port: int) -> str | RedisClient:
        """What `Buffer` is given for Redis; a client that doesn't introduce itself spares two commands a connection."""
        if self.cold:
            return f"redis://127.0.0.1:{port}/0"
        return RedisClient(host="127.0.0.1", port=port, driver_info=None)

    def start_server(self) -> Server:
        return Server(self.server, environment=None, **self.config)

    @contextlib.contextmanager
    def backend(self) -> Iterator[Backend]:
        """A new one, to be opened as often as one likes."""
        if not self.sqlite:
            yield MemoryBackend()
            return
        with tempfile.TemporaryDirectory(prefix="wb-") as folder:
            yield backend_from_url(f"sqlite:///{Path(folder) / 'app.db'}", codec=Codec("json", self.type))


_APPEND_ONLY: Final = {"appendonly": "yes", "appendfsync": "always"}

VARIANTS: Final = {
    variant.name: variant
    for variant in (
        Variant(name="script"),
        Variant(name="watch", settings={"commit": "watch"}),
        Variant(name="single", settings={"flushers": 1}),
        Variant(name="cold", cold=True),
        Variant(name="fsync", config=_APPEND_ONLY, settings={"durability": "fsync"}),
        Variant(name="sqlite", sqlite=True),
        Variant(name="eager", settings={"max_delay_seconds": 0.0}),
        Variant(name="watch-sqlite", sqlite=True, settings={"commit": "watch"}),
        Variant(name="updates", updates=True),
        Variant(name="updates-watch", updates=True, settings={"commit": "watch"}),
        Variant(name="updates-sqlite", updates=True, sqlite=True),
        Variant(name="updates-eager", updates=True, settings={"max_delay_seconds": 0.0}),
        Variant(name="redis62", server="redis62"),
        Variant(name="redis62-watch", server="redis62", settings={"commit": "watch"}),
        Variant(name="redis7", server="redis7"),
        Variant(name="redis7-watch", server="redis7", settings={"commit": "watch"}),
    )
}
