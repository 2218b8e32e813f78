"""A service that uses a buffer: does one thing after the other, and has every answer judged."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Final

from asyncwb import (
    AsyncwbError,
    Buffer,
    BufferFull,
    DeadLettered,
    NotConfirmed,
    OutcomeUnknown,
    PartialFailure,
    RedisUnavailable,
    VersionMismatch,
)
from asyncwb.testing import FaultyBackend
from tests.proofs.faults.history import History, Write
from tests.proofs.faults.keyspace import Keyspace
from tests.proofs.faults.proxy import Fault

HANG_SECONDS: Final = 30.0
"""No operation may take so long, however slow the machine: the faults are over within a second."""

LEAVE_SECONDS: Final = 5.0
"""So long after its end a closed buffer may still have a task or a connection."""

_ATTEMPTS: Final = 40

_NOT_APPLIED: Final = (RedisUnavailable, BufferFull, VersionMismatch)
"""Errors of a write that promise that nothing was written."""

_TEMPORARY: Final = (RedisUnavailable, OutcomeUnknown)
"""Errors of everything else that a fault of the network explains."""

_owner: ContextVar[set[asyncio.Task[Any]] | None] = ContextVar("owner", default=None)


def note_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Has every task of this loop noted under the driver that it comes from, so that leaks are found."""

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop, **options)
        if (owned := _owner.get()) is not None:
            owned.add(task)
            task.add_done_callback(owned.discard)
        return task

    loop.set_task_factory(make)


class Driver:
    """One buffer in the hands of one caller.

    Args:
        buffer: not open yet.
        backend: of the buffer.
        keyspace: what Redis holds, seen directly.
        history: takes note of every write.
        excused: whether errors of Redis are no violation: with time limits as tight as these a machine that stands
            still for a moment is a fault of the network, too.
        fault: what befalls this buffer.
        clients: how many connections the buffer has now.
    """

    def __init__(
        self,
        buffer: Buffer[Any],
        backend: FaultyBackend,
        keyspace: Keyspace,
        history: History,
        *,
        excused: bool,
        fault: Fault | None = None,
        clients: Callable[[], int] = lambda: 0,
    ) -> None:
        self.buffer = buffer
        self.backend = backend
        self.history = history
        self._keyspace = keyspace
        self._fault = fault
        self._excused = excused
        self._clients = clients
        self._session: asyncio.Task[None] | None = None
        self._callers: list[asyncio.Task[Any]] = []
        self._cancelled: set[asyncio.Task[Any]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._looked = 0
        self.recovered_at: float | None = None

    # Being interrupted

    def cancel(self) -> bool:
        """Cancels the caller (the last one, if there are several), or everything if nobody waits."""
        waiting = [task for task in self._callers if not task.done()]
        if not waiting:
            return self.stop()
        self._cancelled.add(waiting[-1])
        return waiting[-1].cancel()

    def stop(self) -> bool:
        """Cancels everything: the buffer is closed without a drain."""
        if self._session is None or self._session in self._cancelled:
            return False
        self._cancelled.add(self._session)
        return self._session.cancel()

    async def run(self, workload: "Callable[[Driver], Awaitable[None]]") -> None:
        """A workload in a task of its own, and what is left behind when it has ended."""

        async def session() -> None:
            _owner.set(self._tasks)
            try:
                await workload(self)
            finally:
                await self.buffer.aclose(drain=False)

        self._session = asyncio.create_task(session())
        try:
            await asyncio.wait([self._session])
        except asyncio.CancelledError:
            self._session.cancel()
            await asyncio.wait([self._session])
            raise
        stopped = self._session.cancelled() and self._session in self._cancelled
        if not stopped:
            self._session.result()  # raises what is wrong with the harness
        self._session = None
        await self._nothing_left()

    # What a service does

    async def open(self) -> None:
        for _ in range(_ATTEMPTS):
            self.history.life += 1
            if isinstance(await self.ask("open", self.buffer.open), Buffer):
                return
        self.history.problem(f"open failed {_ATTEMPTS} times")

    async def close(self, *, drain: bool = True) -> None:
        await self.ask("aclose", lambda: self.buffer.aclose(drain=drain))
        await self._nothing_left()

    def whole(self, number: int) -> Any:
        """The value that is known by this number."""
        return number

    async def set(self, *keys: str) -> None:
        """New values; several keys with one call."""
        numbers = {key: self.history.value() for key in keys}
        writes = [self.history.begin(key, number) for key, number in numbers.items()]
        values = {key: self.whole(number) for key, number in numbers.items()}
        if len(keys) == 1:
            answer = await self._do("set", lambda: self.buffer.set(keys[0], values[keys[0]]))
            self._judge("set", writes, answer if isinstance(answer, BaseException) else {keys[0]: answer})
        else:
            self._judge("set_many", writes, await self._do("set_many", lambda: self.buffer.set_many(values)))
        await self._look_after_fault()

    async def delete(self, key: str) -> None:
        writes = [self.history.begin(key, None)]
        answer = await self._do("delete", lambda: self.buffer.delete(key))
        self._judge("delete", writes, answer if isinstance(answer, BaseException) else {key: answer})
        await self._look_after_fault()

    async def get(self, *keys: str) -> None:
        if len(keys) == 1:
            value = await self.ask("get", lambda: self.buffer.get(keys[0]))
            if not isinstance(value, BaseException):
                self.history.saw(keys[0], value, "get")
            return
        answer = await self.ask("get_many", lambda: self.buffer.get_many(keys), *((PartialFailure,) * self._excused))
        if isinstance(answer, PartialFailure):
            for error in answer.failed.values():
                if not isinstance(error, _TEMPORARY):
                    self.history.problem(f"get_many raised {answer!r}")
        if not isinstance(answer, BaseException) or isinstance(answer, PartialFailure):
            values, failed = (answer.values, answer.failed) if isinstance(answer, PartialFailure) else (answer, {})
            for key in keys:
                if key not in failed:
                    self.history.saw(key, values.get(key), "get_many")

    async def flush(self, key: str, *, may_be_dead: bool = False) -> None:
        before = [self.history.floor(key)]
        answer = await self.ask(f"flush {key}", lambda: self.buffer.flush(key), *((DeadLettered,) * may_be_dead))
        if not isinstance(answer, BaseException):
            await self._is_saved(before, f"flush {key}")
        await self.look()

    async def drain(self) -> None:
        before = [self.history.floor(key) for key in self.history.keys]
        answer = await self.ask("drain", self.buffer.drain, DeadLettered)
        if not isinstance(answer, BaseException) or isinstance(
            answer, DeadLettered
        ):  # which comes when all else is saved
            await self._is_saved(before, "drain")
        await self.look()

    async def ask(self, what: str, call: Callable[[], Awaitable[Any]], *also: type[Exception]) -> Any:
        """Anything that writes nothing; its answer, or its error if that is excusable."""
        answer = await self._do(what, call)
        excuses = also + (_TEMPORARY if self._excused else ())
        if isinstance(answer, BaseException) and not isinstance(answer, (asyncio.CancelledError, *excuses)):
            self.history.problem(f"{what} raised {answer!r}")
        return answer

    async def look(self) -> None:
        """At Redis itself and at the backend: no write may be nowhere, and no record in two sets (I1, I2)."""
        # What is acknowledged by now: a write that goes on beside this look may end after it has read.
        floors = {key: self.history.floor(key) for key in self.history.keys}
        in_redis = await self._keyspace.records()
        for key, found in in_redis.items():
            if len(found.sets) != 1:
                self.history.problem(f"I1: the record of key {key!r} is in {sorted(found.sets) or 'no set'}")
        # Redis first: what left it before is in the backend by now.
        in_backend = await self.backend.inner.load(list(floors)) if floors else {}
        for key, floor in floors.items():
            if floor is None or floor.version is None:
                continue
            held = [in_redis[key].version] if key in in_redis else []
            held += [in_backend[key].version] if key in in_backend else []
            if max(held, default=0) < floor.version:
                self.history.report.lost += 1
                self.history.problem(f"I2: {floor} of key {key!r} is neither in Redis nor in the backend")

    async def _look_after_fault(self) -> None:
        if self._fault is not None and self._fault.happened > self._looked:
            self._looked = self._fault.happened
            await self.look()

    # How it is judged

    async def _do(self, what: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """The answer, or the exception."""

        async def caller() -> Any:
            # Here: cancelled before its first step, a task does nothing at all.
            self._callers.append(task)
            try:
                return await call()
            finally:
                self._callers.remove(task)

        task = asyncio.create_task(caller())
        try:
            done, _ = await asyncio.wait([task], timeout=HANG_SECONDS)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=HANG_SECONDS)
            if task.done() and not task.cancelled():
                task.exception()  # of a call that ended in the moment of a stop nobody asks for its outcome
        if not done:
            self.history.problem(f"{what} hangs")
        if task.cancelled():
            if done and task not in self._cancelled:
                self.history.problem(f"{what} was cancelled by nobody")
            return asyncio.CancelledError()
        error = task.exception()
        if error is None:
            if self.recovered_at is None and self._fault is not None and self._fault.first_at is not None:
                self.recovered_at = asyncio.get_running_loop().time()
            return task.result()
        if not isinstance(error, AsyncwbError):
            self.history.problem(f"{what} raised {error!r}, which is none of asyncwb's errors")
        return error

    def _judge(self, what: str, writes: list[Write], answer: Any) -> None:
        for write in writes:
            own = _own_answer(answer, write.key)
            if isinstance(own, int):
                write.state, write.version = "acknowledged", own
            elif isinstance(own, NotConfirmed):
                write.state, write.version = "acknowledged", own.versions[write.key]
            elif isinstance(own, _NOT_APPLIED):
                write.state = "not applied"
            else:
                write.state = "unknown"
            if isinstance(own, BaseException) and not isinstance(own, asyncio.CancelledError):
                known = (*_NOT_APPLIED, NotConfirmed, OutcomeUnknown)
                if not self._excused or not isinstance(own, known):
                    self.history.problem(f"{what} raised {own!r}")

    async def _is_saved(self, writes: Sequence[Write | None], what: str) -> None:
        """What flush or drain has promised of the writes that were acknowledged before it."""
        held = await self.backend.inner.load(self.history.keys)
        dead = {key for key, found in (await self._keyspace.records()).items() if "dead" in found.sets}
        for write in writes:
            if write is None or write.version is None or write.key in dead:
                continue
            if write.key not in held or held[write.key].version < write.version:
                self.history.report.lost += 1
                self.history.problem(f"{what} returned, and the backend doesn't hold {write} of key {write.key!r}")

    async def _nothing_left(self) -> None:
        """A closed buffer has no task and no connection."""
        mine = {asyncio.current_task(), self._session}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                while self._tasks - mine or self._clients():
                    await asyncio.sleep(0.002)
        if left := self._tasks - mine:
            self.history.problem(f"tasks left after aclose: {left}")
        if self._clients():
            self.history.problem(f"{self._clients()} connection(s) left after aclose")
        if self.buffer.totals.crashes:
            self.history.problem(f"{self.buffer.totals.crashes} flusher crash(es)")

    @contextlib.asynccontextmanager
    async def alongside(self, work: Awaitable[None]) -> AsyncIterator[None]:
        """Something that goes on while the block runs."""
        task = asyncio.ensure_future(work)
        try:
            yield
            await task
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])

    @contextlib.contextmanager
    def held_saves(self) -> Iterator[None]:
        """Saves begin, and don't end before the block."""
        self.backend.before_save.clear()
        self.backend.save_started.clear()
        try:
            yield
        finally:
            self.backend.before_save.set()


def _own_answer(answer: Any, key: str) -> int | BaseException:
    """What the call for one or several keys says of one of them: its version, or its error."""
    if isinstance(answer, PartialFailure):
        return answer.versions[key] if key in answer.versions else answer.failed[key]
    own: int | BaseException = answer if isinstance(answer, BaseException) else answer[key]
    return own
