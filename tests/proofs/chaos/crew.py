"""The processes of a world, as its own process sees them: started, signalled, and ended with it."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.proofs.chaos.worker import Job

_PROGRAM: Final = str(Path(__file__).with_name("zygote.py"))
_PATIENCE_SECONDS: Final = 60.0


@dataclass(slots=True, eq=False)
class Worker:
    """One process.

    Attributes:
        job: what it does.
        pid: its id.
        alive: whether it has not been killed.
    """

    job: Job
    pid: int
    alive: bool = True

    @property
    def number(self) -> int:
        return self.job.worker


@dataclass(slots=True)
class _Told:
    """What came from the zygote and the workers, each to the one that waits for it."""

    futures: "dict[tuple[Any, ...], asyncio.Future[list[Any]]]" = field(default_factory=lambda: defaultdict(_future))


def _future() -> "asyncio.Future[list[Any]]":
    return asyncio.get_running_loop().create_future()


class Crew:
    """Forks workers from one zygote.

    Attributes:
        workers: all that there have been.
        failure: why the world can't go on.
        bugs: what workers have told of that must never happen.
        mortal: whether flushers may end by themselves.
        fallen: those that did.
    """

    def __init__(self, zygote: asyncio.subprocess.Process) -> None:
        assert zygote.stdin is not None
        assert zygote.stdout is not None
        self._requests, self._lines = zygote.stdin, zygote.stdout
        self._told = _Told()
        self._last = 0
        self.workers: list[Worker] = []
        self.failure = ""
        self.bugs: list[str] = []
        self.mortal = False
        self.fallen: list[Worker] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls) -> AsyncIterator["Crew"]:
        pipe = asyncio.subprocess.PIPE
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
        zygote = await asyncio.create_subprocess_exec(
            sys.executable, _PROGRAM, stdin=pipe, stdout=pipe, env=environment
        )
        crew = cls(zygote)
        listening = asyncio.create_task(crew._listen())
        try:
            yield crew
        finally:
            crew._send("release")
            crew._requests.close()
            try:
                async with asyncio.timeout(10):
                    await zygote.wait()
            except TimeoutError:
                zygote.kill()  # its workers end with it
                await zygote.wait()
            listening.cancel()
            await asyncio.wait([listening])

    def some(self, role: str) -> list[Worker]:
        """Those alive with a role."""
        return [worker for worker in self.workers if worker.alive and worker.job.role == role]

    async def start(self, job: Job, *, ready: bool = True) -> Worker:
        """Forks a worker; waits until it is at work."""
        self._last += 1
        job = msgspec.structs.replace(job, worker=self._last)
        self._send("fork", msgspec.to_builtins(job))
        _, _, pid = await self._wait("forked", job.worker)
        self._told.futures.pop(("ended", pid), None)  # of another process, long ago
        worker = Worker(job, pid)
        self.workers.append(worker)
        if ready:
            await self.ready(worker)
        return worker

    async def ready(self, worker: Worker) -> None:
        """Returns when it is at work."""
        await self._wait("ready", worker.number)

    async def kill(self, worker: Worker) -> int:
        """SIGKILL; returns when it is dead, with the time of the signal."""
        worker.alive = False
        at = await self.signal(worker, signal.SIGKILL)
        await self._wait("ended", worker.pid)
        return at

    async def signal(self, worker: Worker, number: signal.Signals) -> int:
        """Returns the time when it was sent."""
        self._told.futures.pop(("signalled", worker.pid), None)
        self._send("signal", worker.pid, int(number))
        *_, at = await self._wait("signalled", worker.pid)
        assert at, f"worker {worker.number} has ended by itself"
        return int(at)

    def guard(self, pid: int, folder: Path) -> None:
        """A process that ends, and a folder that goes, also if this process is killed."""
        self._send("guard", pid, str(folder))

    async def hold(self) -> None:
        """From now on writers begin no calls."""
        for worker in self.some("writer"):
            self._told.futures.pop(("paused", worker.number), None)
            await self.signal(worker, signal.SIGUSR1)

    async def held(self) -> None:
        """Returns when no writer is in the middle of a call."""
        for worker in self.some("writer"):
            await self._wait("paused", worker.number)

    async def resume(self) -> None:
        for worker in self.some("writer"):
            await self.signal(worker, signal.SIGUSR2)

    def check(self) -> None:
        """Raises if a worker has ended by itself."""
        assert not self.failure, self.failure

    def _ended(self, pid: int) -> None:
        for worker in self.workers:
            if worker.alive and worker.pid == pid:
                if self.mortal and worker.job.role == "flusher":
                    worker.alive = False
                    self.fallen.append(worker)
                else:
                    self.failure = self.failure or f"process {pid} has ended by itself"

    def _send(self, *words: object) -> None:
        self._requests.write(json.dumps(words).encode() + b"\n")

    async def _wait(self, *what: Any) -> list[Any]:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            waiting = asyncio.ensure_future(asyncio.shield(self._told.futures[what]))
            while not (await asyncio.wait([waiting], timeout=0.5))[0]:
                self.check()
        words: list[Any] = waiting.result()
        return words

    async def _listen(self) -> None:
        while line := await self._lines.readline():
            words = json.loads(line)
            if words[0] == "failed":
                self.failure = f"worker {words[1]} failed: {words[2]}"
                continue
            if words[0] == "bug":
                self.bugs.append(f"worker {words[1]}: {words[2]}")
                continue
            if words[0] == "ended":
                self._ended(words[1])
            future = self._told.futures[words[0], words[1]]
            if not future.done():
                future.set_result(words)
