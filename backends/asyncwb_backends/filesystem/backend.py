"""The filesystem backend's async interface: runs blocking calls in a limited number of threads, and waits on close."""

import asyncio
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from asyncwb import BackendUnavailable, ConfigurationError, Limits, Record, SaveError
from asyncwb.plugins import PurgeTimer
from asyncwb.records import CodecName
from asyncwb_backends.filesystem.folder import Folder
from asyncwb_backends.filesystem.names import Names

T = TypeVar("T")

DAY_SECONDS: Final = 86_400
_THREADS: Final = 8
_CLOSE_SECONDS: Final = 5.0
_SWEEPS_A_ROUND: Final = 60
"""Each sweep covers 1/60 of the buckets, so that each bucket is swept about once an hour."""


class FileBackend:
    """Saves each value as a file of exactly its bytes, `<key>.<version>.json`, in a folder that processes may share.

    Ordinary keys appear unchanged in the names. Other characters are percent-encoded, and a key whose name would be
    too long is hashed, with the key itself in a file beside the value. Needs a file system with hard links and locks.

    Args:
        path: the folder; it is created if it is missing, but its parents are not. It belongs to the first namespace
            that opens it.
        suffix: the suffix of value files; by default that of the codec: .json, .msgpack or .bin.
        fanout: how many hexadecimal digits the names of the sub-folders have, 0 to 3: 0 means no sub-folders, for up to
            a few thousand keys; 2, the default, means 256 of them, for up to a million; 3 means 4096.
        sync: "batch" syncs the whole file system once for many files, which is several times faster; "file" syncs each
            file separately, which is better on a disk that other programs keep busy.
        tombstone_seconds: how long a deleted key is remembered, so that a late save can't bring it back.
        codec: the codec that `suffix` applies to.
    """

    limits = Limits(max_batch=2000, preferred_batch=1000, concurrent_saves=4)
    durability = "fsync of the files and their folder"
    supports_based_on = True

    def __init__(
        self,
        path: str | Path,
        *,
        suffix: str | None = None,
        fanout: int = 2,
        sync: str = "batch",
        tombstone_seconds: float = DAY_SECONDS,
        codec: CodecName = "json",
    ) -> None:
        if fanout not in range(4):
            raise ConfigurationError(f"fanout {fanout}: use 0, 1, 2 or 3")
        if sync not in ("batch", "file"):
            raise ConfigurationError(f"sync {sync!r}: use batch or file")
        self.path = Path(path)
        self._names = Names(fanout=fanout, codec=codec, suffix=suffix)
        self._folder = Folder(
            str(path), self._names, codec=codec, tombstone_seconds=tombstone_seconds, batches=sync == "batch"
        )
        self._limiter: anyio.CapacityLimiter | None = None
        self._namespace = ""
        self._running: set[asyncio.Task[object]] = set()
        buckets = self._names.buckets()
        self._buckets = itertools.cycle(buckets)
        self._sweep_buckets = math.ceil(len(buckets) / _SWEEPS_A_ROUND)
        self._purge_timer = PurgeTimer()

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        """Prepares the folder, and claims it for the namespace. Raises BackendUnavailable, ConfigurationError."""
        self._limiter = anyio.CapacityLimiter(_THREADS)
        self._namespace = namespace
        await self._in_thread(functools.partial(self._folder.prepare, namespace, former))

    async def close(self) -> None:
        """Waits up to 5 s for calls that were cancelled but still run in their threads."""
        self._limiter = None
        if self._running:
            with anyio.CancelScope(shield=True):
                await asyncio.wait(self._running, timeout=_CLOSE_SECONDS)

    async def new_epoch(self, at_least: int) -> int:
        return await self._in_thread(functools.partial(self._folder.new_epoch, at_least, self._namespace))

    async def note_server(self, partition: int, epoch: int, server: str) -> list[tuple[int, str]]:
        return await self._in_thread(functools.partial(self._folder.note_server, partition, epoch, server))

    async def highest_version(self) -> int | None:
        """The highest version that is stored."""
        return await self._in_thread(self._folder.highest)

    async def save(self, records: Sequence[Record]) -> int:
        await self._sweep_sometimes()
        stale, failed = await self._in_thread(functools.partial(self._folder.save, records))
        if failed:
            raise SaveError(failed, stale=stale)
        return stale

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        return await self._in_thread(functools.partial(self._folder.load, keys))

    async def load_durable(self, keys: Sequence[str]) -> dict[str, Record]:
        return await self._in_thread(functools.partial(self._folder.load_durable, keys))

    async def _sweep_sometimes(self) -> None:
        if self._purge_timer.is_due():
            buckets = list(itertools.islice(self._buckets, self._sweep_buckets))
            await self._in_thread(functools.partial(self._folder.sweep, buckets))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        limiter = self._limiter
        if limiter is None:
            raise BackendUnavailable(f"folder {self.path} isn't open")
        # A thread can't be cancelled: it keeps running and keeps its slot in the limiter, and `close` waits for it.
        task = asyncio.ensure_future(anyio.to_thread.run_sync(work, limiter=limiter))
        self._running.add(task)
        task.add_done_callback(self._done)
        try:
            return await asyncio.shield(task)
        except OSError as error:
            missing = not self.path.parent.is_dir()
            hint = f"; folder {self.path.parent} doesn't exist, make it first" if missing else ""
            raise BackendUnavailable(f"folder {self.path}: {error.strerror or error}{hint}") from error

    def _done(self, task: "asyncio.Task[object]") -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved here, since a caller that was cancelled can't do it
