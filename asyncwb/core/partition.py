"""Everything that serves one partition in one process: its queue, and the batching of writes, reads and waits."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Final

from anyio.abc import TaskGroup

from asyncwb.errors import OutcomeUnknown, RedisError
from asyncwb.events import Event
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.protocol.acknowledged import Acknowledged
from asyncwb.protocol.epochs import Epochs
from asyncwb.protocol.messages import LookedUp, Write
from asyncwb.protocol.queue import Queue
from asyncwb.protocol.waits import Waits
from asyncwb.protocol.wire import OVERHEAD_BYTES
from asyncwb.reading.drain import Drain
from asyncwb.reading.flush_waiter import Waiter
from asyncwb.reading.reader import Found, Reader
from asyncwb.records import Version
from asyncwb.settings import Settings
from asyncwb.stats import Totals
from asyncwb.support.backoff import Retrying
from asyncwb.support.batching import Batcher
from asyncwb.support.isolation import isolated
from asyncwb.support.supervision import Supervisor
from asyncwb.writing.admission import MOST_PER_REQUEST, Admission
from asyncwb.writing.durability import Confirmation, Confirmer, DurabilitySupport
from asyncwb.writing.folding import Folder
from asyncwb.writing.producer import Producer

_MANY: Final = 2**30


class Partition:
    """One partition, as this process serves it.

    Attributes:
        queue: the partition's state in Redis.
        puts: takes a group of writes from each caller and answers with the version of the first; the versions of the
            others follow it one by one.
        confirms: takes a level of durability and the epoch of the writes for which it is wanted.
        gets: takes a group of keys from each caller and answers with what each key has.
        waiter: waits until writes are saved.
        waits: the callers that wait; flushers of this process tell it what they have saved.
        acknowledged: what this process has written and not yet seen saved.
    """

    def __init__(
        self,
        queue: Queue,
        epochs: Epochs,
        backend: BackendAdapter,
        support: DurabilitySupport,
        settings: Settings,
        *,
        totals: Totals,
        rng: random.Random,
        wake: Callable[[], None],
        emit: Callable[[Event], None],
    ) -> None:
        self.queue = queue
        self._retry = Retrying(limit_seconds=settings.redis_retry_seconds, rng=rng)
        self._wake = wake
        self._reader = Reader(queue, epochs, backend, settings, rng)
        self._folder = Folder(queue)
        self._producer = Producer(queue, epochs, settings, rng=rng, wake=wake, on_long=self._folder.fold)
        loop = asyncio.get_running_loop()
        self.acknowledged = Acknowledged(max(2, settings.max_remembered_writes // queue.partitions), loop.time)
        self.waits = Waits(self.acknowledged)
        self._admission = Admission(
            self._producer,
            queue,
            epochs,
            backend,
            settings,
            acknowledged=self.acknowledged,
            totals=totals,
            rng=rng,
            emit=emit,
        )
        self.puts: Batcher[Sequence[Write], Version] = Batcher(
            self._admission.put,
            max_weight=MOST_PER_REQUEST,
            max_size=settings.batch_bytes,
            # With the other values refused writes wait or are written through, and later ones must not overtake them.
            width=2 if settings.on_full == "raise" else 1,
        )
        confirmer = Confirmer(queue, support, settings, rng)
        self.confirms: Batcher[Confirmation, None] = Batcher(
            isolated(confirmer.confirm), max_weight=_MANY, max_size=_MANY
        )
        self.gets: Batcher[Sequence[bytes], Sequence[Found]] = Batcher(
            isolated(self._reader.read), max_weight=MOST_PER_REQUEST, max_size=_MANY, width=2
        )
        self.waiter = Waiter(queue, epochs, backend.load_durable, self.waits, settings, rng=rng, wake=wake)

    def start(self, group: TaskGroup, supervisor: Supervisor) -> None:
        """Starts serving in `group`, until that is cancelled; `supervisor` restarts whatever crashes."""
        for name, serve in (
            ("writes", self.puts.serve),
            ("writes at a limit", self._admission.serve),
            ("long records", self._folder.serve),
            ("confirmations", self.confirms.serve),
            ("reads", self.gets.serve),
            ("loads", self._reader.loader.serve),
            ("calls that wait for saves", self.waiter.serve),
        ):
            group.start_soon(supervisor.keep, f"serving {name} of partition {self.queue.partition}", serve)

    async def look_up(self, raw: bytes) -> LookedUp:
        """What a key has, for a write on a condition. Raises the same errors as a read."""
        return await self._reader.look_up(raw)

    async def join(self) -> None:
        """Returns when no write waits to be acknowledged."""
        await self.puts.join()
        await self._admission.join()

    def drain(self) -> Drain:
        """Returns a drain of every write acknowledged before this call; it does nothing until it is run."""
        return Drain(self.queue, self.waiter, self.acknowledged, retry=self._retry, wake=self._wake)

    async def leave(self) -> None:
        """Removes from Redis what only this process needed; afterwards this process must not write any more."""
        with contextlib.suppress(RedisError):  # if Redis can't be reached, it expires there
            await self._producer.leave()

    def close(self, error: Exception) -> None:
        """Fails every call that still waits."""
        unknown = f"{error} before the answer to a write came: it may or may not have been applied"
        self.puts.close(error, under_way=OutcomeUnknown(unknown))
        self._admission.close(error, under_way=OutcomeUnknown(unknown))
        self.confirms.close(error)
        self.gets.close(error)
        self._reader.loader.close(error)
        self.waiter.close(error)


def in_pages(writes: Sequence[Write], settings: Settings) -> list[list[Write]]:
    """Splits one caller's writes into groups that fit into one script call and within the limits of an empty buffer."""
    most = min(MOST_PER_REQUEST, settings.max_dirty or MOST_PER_REQUEST)
    max_bytes = min(settings.batch_bytes, settings.max_bytes or settings.batch_bytes)
    pages: list[list[Write]] = []
    room = 0
    for write in writes:
        size = len(write[1]) + OVERHEAD_BYTES
        if not pages or len(pages[-1]) == most or size > room:
            pages.append([])
            room = max_bytes
        pages[-1].append(write)
        room -= size
    return pages
