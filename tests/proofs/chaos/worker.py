"""What runs in the processes of a world: flushers, and writers that write, delete and read until they are paused."""

import asyncio
import contextlib
import json
import logging
import os
import random
import signal
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from asyncwb import Buffer
from asyncwb.events import DeadLetter, Event, FlusherCrashed
from tests.proofs.chaos.backends import Telling, make_backend
from tests.proofs.chaos.calls import named, read, write
from tests.proofs.chaos.history import Recorder
from tests.proofs.chaos.updating import Updater

Role = Literal["writer", "flusher"]

_HOT_SHARE: Final = 0.1
_IDS: Final = 10**8
_UPDATING_SHARE: Final = 0.25


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a process is to do.

    Attributes:
        worker: its number, never used twice in a world.
        role: writer or flusher.
        redis, backend: URLs, for `make_backend`.
        history: folder.
        options: settings of the buffer.
        keys: how many keys there are.
        tasks: of a writer: calls at a time.
        rate: of a writer: operations a second that it aims at.
        longest_padding: of a writer: bytes that make values longer.
        levels: of a writer: durabilities, one of which is asked for with each write.
        updates: of a writer: whether it makes updates, and writes on conditions.
        pause_seconds: of a flusher: the longest pause before and after each save.
    """

    worker: int
    role: Role
    redis: str
    backend: str
    history: str
    options: dict[str, Any]
    keys: int = 400
    tasks: int = 3
    rate: float = 2000.0
    longest_padding: int = 40
    levels: tuple[str, ...] = ("memory",)
    updates: bool = False
    pause_seconds: float = 0.0


def tell(*words: object) -> None:
    """In one piece, to whoever forked this process."""
    os.write(1, json.dumps(words).encode() + b"\n")


def run(job: Job) -> None:
    """Does a job until the process is killed."""
    logging.getLogger("asyncwb").setLevel(logging.CRITICAL)
    asyncio.run(_run(job))


async def _run(job: Job) -> None:
    rng = random.Random(job.worker)
    recorder = Recorder(Path(job.history), job.worker)
    backend = make_backend(job.backend)
    if job.role == "flusher":
        backend = Telling(backend, recorder, pause_seconds=job.pause_seconds, rng=rng)
    url = f"{job.redis}?client_name=worker{job.worker}"

    def observe(event: Event) -> None:
        if isinstance(event, FlusherCrashed | DeadLetter):
            tell("bug", job.worker, repr(event))

    async with Buffer[Any](url, backend=backend, observer=observe, **job.options) as buffer:
        work = _Writer(job, buffer, recorder, rng) if job.role == "writer" else _Idle()
        tell("ready", job.worker)
        parent = os.getppid()
        async with asyncio.TaskGroup() as group:
            group.create_task(work.run())
            while os.getppid() == parent:  # else the world has ended, and nobody is left to kill this
                await asyncio.sleep(0.5)
            os._exit(1)


class _Idle:
    async def run(self) -> None:
        pass


class _Writer:
    def __init__(self, job: Job, buffer: Buffer[Any], recorder: Recorder, rng: random.Random) -> None:
        self._job = job
        self._buffer = buffer
        self._recorder = recorder
        self._rng = rng
        self._id = job.worker * _IDS
        self._flows = asyncio.Event()
        self._flows.set()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self._flows.clear)
        loop.add_signal_handler(signal.SIGUSR2, self._flows.set)
        self._busy = job.tasks
        self._hot = max(1, int(job.keys * _HOT_SHARE))
        self._updater = Updater(
            buffer, recorder, rng, self._new_id, self._some, lambda text: tell("bug", job.worker, text)
        )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._job.tasks):
                group.create_task(self._work())

    async def _work(self) -> None:
        share = self._job.rate / self._job.tasks
        due = time.monotonic()
        while True:
            if not self._flows.is_set():
                self._busy -= 1
                if not self._busy:
                    tell("paused", self._job.worker)
                await self._flows.wait()
                self._busy += 1
            due = max(due + await self._step() / share, time.monotonic() - 0.1)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _step(self) -> int:
        """One call; returns how many operations it was."""
        level: Any = self._rng.choice(self._job.levels)
        if self._job.updates and self._rng.random() < _UPDATING_SHARE:
            return await self._updater.step(level)
        dice = self._rng.random()
        if dice < 0.45:
            values = {key: self._value() for key in self._some(24)}
            await self._set(values, self._buffer.set_many(values, durability=level), level)
            return len(values)
        if dice < 0.55:
            keys = self._some(6)
            await write(self._recorder, "delete", keys, self._buffer.delete_many(keys, durability=level), level)
            return len(keys)
        if dice < 0.60:
            (key,) = self._some(1)
            value = self._value()
            await self._set({key: value}, named(key, self._buffer.set(key, value, durability=level)), level)
            return 1
        keys = self._some(24)
        await read(self._recorder, "get", self._buffer, keys)
        return len(keys)

    async def _set(self, values: dict[str, dict[str, Any]], call: Awaitable[dict[str, int]], level: str) -> None:
        await write(self._recorder, "set", {key: value["id"] for key, value in values.items()}, call, level)

    def _some(self, most: int) -> list[str]:
        """Some keys, no key twice; half of them hot."""
        rng = self._rng
        wanted = rng.randint(most // 2 + 1, most) if most > 1 else 1
        hot = {f"key{rng.randrange(self._hot)}" for _ in range(wanted // 2)}
        return list(hot | {f"key{rng.randrange(self._job.keys)}" for _ in range(wanted - wanted // 2)})

    def _new_id(self) -> int:
        self._id += 1
        return self._id

    def _value(self) -> dict[str, Any]:
        return {"id": self._new_id(), "padding": "x" * self._rng.randrange(self._job.longest_padding + 1)}


def end_with_parent() -> None:
    """Where the kernel can: this process is killed when the one that forked it ends."""
    import ctypes  # noqa: PLC0415 - only here, and only on Linux

    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
