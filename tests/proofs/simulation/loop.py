"""A deterministic event loop with virtual time: processes whose callbacks interleave, freeze and die as a seed says."""

import asyncio
import contextlib
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any

from anyio._backends import _asyncio as anyio_asyncio


class Process:
    """A simulated operating-system process: it owns the callbacks of its tasks.

    Attributes:
        name: in the trace.
        frozen: nothing of it runs (SIGSTOP); what becomes due meanwhile runs when it wakes.
        dead: nothing of it ever runs again (SIGKILL): no `finally`, no cancellation.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.frozen = False
        self.dead = False
        self.ready: deque[asyncio.Handle] = deque()

    @property
    def runs(self) -> bool:
        """Whether it has something to do, and may."""
        return bool(self.ready) and not (self.frozen or self.dead)


OWNER: ContextVar[Process] = ContextVar("OWNER")
"""Whose callbacks are made now; tasks inherit it from whoever made them."""


class _Task(asyncio.Task[Any]):
    """Hashes by its number: the order of a set of tasks (anyio keeps such) must not depend on where they lie."""

    def __init__(self, number: int, *args: Any, **options: Any) -> None:
        self._number = number
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        return self._number


class _Future(asyncio.Future[Any]):
    """Likewise."""

    def __init__(self, number: int, *args: Any, **options: Any) -> None:
        self._number = number
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        return self._number


class _CancelScope(anyio_asyncio.CancelScope):
    """Likewise."""

    def __init__(self, *args: Any, **options: Any) -> None:
        loop = asyncio._get_running_loop()
        self._number = loop.next_number() if isinstance(loop, SimulatedLoop) else id(self) >> 4
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        return self._number


# anyio makes its scopes by this name; outside of a simulated loop nothing is different.
anyio_asyncio.CancelScope = _CancelScope  # type: ignore[misc]


class SimulatedLoop(asyncio.AbstractEventLoop):
    """Runs one callback a step. Within a process they run in asyncio's order; between processes the seed chooses.

    Attributes:
        steps: how many callbacks have run.
        world: owns what is nobody's: the network, the servers, the faults.
        errors: what callbacks have raised into the loop.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._now = 1_000.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Process]] = []
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.steps = 0
        self.world = Process("world")
        self.processes: list[Process] = [self.world]
        self.errors: list[str] = []
        self.trace: Callable[[Process], None] | None = None

    def next_number(self) -> int:
        return next(self._numbers)

    def new_process(self, name: str) -> Process:
        process = Process(name)
        self.processes.append(process)
        return process

    def spawn(self, process: Process, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that belongs to a process, and so does all that it starts."""
        context = copy_context()
        context.run(OWNER.set, process)
        return self.create_task(work, context=context)

    def run_until(self, done: Callable[[], bool], *, most_steps: int) -> bool:
        """Steps until `done`; False if the steps are used up or nothing is left to do."""
        with self._running():
            limit = self.steps + most_steps
            while not done():
                if self.steps >= limit or not self._step():
                    return False
        return True

    def finish(self) -> None:
        """Ends every task that is left, those of dead processes too, so that nothing outlives the loop."""
        for process in self.processes:
            process.dead = process.frozen = False
        for _ in range(50):
            left = [task for task in self._tasks if not task.done()]
            if not left:
                break
            for task in left:
                task.cancel()
            self.run_until(lambda: all(task.done() for task in self._tasks), most_steps=100 * len(left))
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.exception()
        self._tasks.clear()

    def _step(self) -> bool:
        ready = [process for process in self.processes if process.runs]
        while not ready:
            if not self._advance():
                return False
            ready = [process for process in self.processes if process.runs]
        process = ready[0] if len(ready) == 1 else self._rng.choice(ready)
        handle = process.ready.popleft()
        if not handle.cancelled():
            self.steps += 1
            if self.trace is not None:
                self.trace(process)
            handle._run()
        return True

    def _advance(self) -> bool:
        """Moves the time on to the next timer; False if there is none."""
        while self._timers:
            when, _, timer, process = heapq.heappop(self._timers)
            if timer.cancelled() or process.dead:
                continue
            self._now = max(self._now, when)
            process.ready.append(timer)
            return True
        return False

    @contextlib.contextmanager
    def _running(self) -> Any:
        asyncio._set_running_loop(self)
        try:
            yield
        finally:
            asyncio._set_running_loop(None)

    # What asyncio and anyio ask of a loop. (typeshed types these by ParamSpec-like tuples, which add nothing here.)

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        context = context or copy_context()
        process = context.get(OWNER, self.world)
        handle = asyncio.Handle(callback, args, self, context)
        process.ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        context = context or copy_context()
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), timer, context.get(OWNER, self.world)))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are passed over when they are due."""

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(next(self._numbers), loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None, **_: Any
    ) -> asyncio.Task[Any]:
        task = _Task(next(self._numbers), coro, loop=self, name=name, context=context)
        self._tasks.add(task)
        if len(self._tasks) > 500:
            self._tasks = {each for each in self._tasks if not each.done()}
        return task

    def get_task_factory(self) -> None:
        return None

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if "handle" in context:
            self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")
