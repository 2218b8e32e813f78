"""Loads for reads: keys share a load, and none that is slow or fails holds up the others."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NoReturn, Protocol

import anyio
from anyio.abc import TaskGroup

from asyncwb.errors import BackendUnavailable
from asyncwb.records import Record

_MOST_KEYS: Final = 1000
"""In one load."""
_FRESH: Final = 2
"""Loads that aren't slow yet, side by side. What is asked for meanwhile shares the next load."""
_MOST_LOADS: Final = 64
"""Loads side by side, slow ones included: a backend that hangs isn't given more than it can ever get done."""
_MOST_PARTS: Final = 32
"""Of these, how many may be parts of others: loads of keys that nobody has asked for yet always find a place."""
_LOADS_PER_KEY: Final = 2
"""Loads of a key side by side. One slow key that many ask for takes no more places than that."""

_SLOW_SECONDS: Final = 0.1
_SLOWER_THAN_USUAL: Final = 4.0
"""A load is slow if it takes this many times as long as loads usually take, and at least `_SLOW_SECONDS`."""
_LEARNING: Final = 0.2
"""The weight of the latest load in what is usual."""

_SLOW_PARTS: Final = 8
_FAILED_PARTS: Final = 2
_MOST_FAILURES: Final = 16
"""After so many failures in a row the backend is at fault, and no single key."""

Loaded = Record | Exception | None
"""What a load tells of a key: its record, why that can't be told, or that there is none."""


class Caller(Protocol):
    """Who asks for some keys, each with a number of its own."""

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        ...

    def when_gone(self, call: Callable[[], None]) -> None:
        """`call` is called once nobody waits any more, be it for an answer or a cancellation."""
        ...

    def loaded(self, number: int, result: Loaded) -> None:
        """Takes the answer for one key."""
        ...


class _Wanted:
    """A key, and everyone who asked for it before its first load began. Later callers need a load of their own."""

    __slots__ = ("answered", "callers", "key", "load")

    def __init__(self, key: str) -> None:
        self.key = key
        self.callers: list[tuple[Caller, int]] = []
        self.answered = False
        self.load: _Load

    @property
    def alive(self) -> bool:
        return not self.answered and not all(caller.gone for caller, _ in self.callers)


@dataclass(slots=True)
class _Origin:
    """What all parts of a load have in common: how often they failed in a row, and when they have to end."""

    deadline: float
    failures: int = 0


class _Load:
    """One call of the backend, or one to be made; `parts` are the loads that its keys are divided into."""

    __slots__ = ("fresh", "origin", "over", "parent", "parts", "scope", "wanted")

    def __init__(self, wanted: list[_Wanted], origin: _Origin, parent: "_Load | None" = None) -> None:
        self.wanted = wanted
        self.origin = origin
        self.parent = parent
        self.parts: list[_Load] = []
        self.fresh = parent is None
        self.over = False
        self.scope: anyio.CancelScope | None = None

    def left(self) -> list[_Wanted]:
        return [each for each in self.wanted if not each.answered]

    def give_up(self) -> None:
        """Nobody needs its answer any more."""
        self.over = True
        if self.scope is not None:
            self.scope.cancel()


class Loader:
    """Loads keys for many callers; each load begins after all of its callers have asked.

    Keys that are asked for at the same time share a load. If that takes much longer than usual, its keys are asked for
    again in ever smaller parts, side by side, and the first answer counts; if it fails, likewise. So the key at fault
    is soon alone, and the others have their answers. Slow loads don't keep new ones from beginning.

    Args:
        load: asks the backend, and ends within `limit_seconds`.
        limit_seconds: how long keys of a load that began may be asked for again.
    """

    def __init__(self, load: Callable[[Sequence[str]], Awaitable[Mapping[str, Record]]], limit_seconds: float) -> None:
        self._load = load
        self._limit = limit_seconds
        self._loop = asyncio.get_running_loop()
        self._pending: dict[str, _Wanted] = {}
        self._held: dict[str, _Wanted] = {}
        self._loading: dict[str, list[_Wanted]] = {}
        self._parts: deque[_Load] = deque()
        self._fresh = self._parts_under_way = self._under_way = 0
        self._usual = 0.0
        self._group: TaskGroup | None = None

    def ask(self, key: str, caller: Caller, number: int) -> None:
        """Queues a key; `begin` has to be called when all is queued that belongs together."""
        loading = self._loading.get(key)
        queue = self._held if loading is not None and len(loading) >= _LOADS_PER_KEY else self._pending
        wanted = queue.get(key)
        if wanted is None:
            wanted = queue[key] = _Wanted(key)
        wanted.callers.append((caller, number))

    def begin(self) -> None:
        """Begins as many loads as there is room for."""
        while self._parts and self._parts_under_way < _MOST_PARTS and self._under_way < _MOST_LOADS:
            part = self._parts.popleft()
            if not part.over and part.left():
                self._start(part)
        while self._pending and self._fresh < _FRESH and self._under_way < _MOST_LOADS:
            taken = [self._pending.pop(key) for key in [*islice(self._pending, _MOST_KEYS)]]
            wanted = [each for each in taken if each.alive]
            if not wanted:
                continue
            load = _Load(wanted, _Origin(self._loop.time() + self._limit))
            for each in wanted:
                each.load = load
                self._loading.setdefault(each.key, []).append(each)
            self._start(load)

    async def serve(self) -> NoReturn:
        """Loads until cancelled. May be called again if it was ended by a bug."""
        ended = BackendUnavailable("the load crashed, see the log")
        for wanted in [each for several in self._loading.values() for each in several]:
            self._answer_callers(wanted, ended)
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                self.begin()
                await anyio.sleep_forever()
        finally:
            self._group = None
        raise AssertionError("serves until it is cancelled")

    def close(self, error: Exception) -> None:
        """Answers everyone who still waits with an error."""
        unanswered = [each for several in self._loading.values() for each in several]
        for wanted in [*unanswered, *self._pending.values(), *self._held.values()]:
            wanted.answered = True
            for caller, number in wanted.callers:
                caller.loaded(number, error)
        for queue in (self._loading, self._pending, self._held):
            queue.clear()
        self._parts.clear()

    def _start(self, load: _Load) -> None:
        if self._group is None:
            return  # closing: `close` answers its callers
        self._under_way += 1
        self._fresh += load.fresh
        self._parts_under_way += load.parent is not None
        self._group.start_soon(self._run, load)

    async def _run(self, load: _Load) -> None:
        started = self._loop.time()
        slow = self._loop.call_later(max(_SLOW_SECONDS, _SLOWER_THAN_USUAL * self._usual), self._slow, load)
        found: Mapping[str, Record] | None = None
        failure: Exception | None = None
        try:
            with anyio.CancelScope() as load.scope:
                try:
                    found = await self._load([each.key for each in load.left()])
                except Exception as error:  # noqa: BLE001 - it is raised where it belongs: in the callers
                    failure = error
                except asyncio.CancelledError as error:
                    task = asyncio.current_task()
                    if task is not None and task.cancelling():
                        raise
                    # Of a task inside of the driver: nobody has cancelled this one.
                    failure = BackendUnavailable("the load was cancelled from within the backend")
                    failure.__cause__ = error
        finally:
            slow.cancel()
            self._under_way -= 1
            self._fresh -= load.fresh
            self._parts_under_way -= load.parent is not None
            load.fresh = False
        load.over = True
        if found is not None:
            self._usual += _LEARNING * (self._loop.time() - started - self._usual)
            self._succeeded(load, found)
        elif failure is not None:
            self._failed(load, failure)
        self.begin()

    def _succeeded(self, load: _Load, found: Mapping[str, Record]) -> None:
        load.origin.failures = 0
        for wanted in load.wanted:
            self._answer(wanted, found.get(wanted.key))
        for part in load.parts:
            _give_up_all(part)
        # What it was a part of is held up by a key and not by the backend, and other parts ask for that key.
        parent = load.parent
        while parent is not None:
            parent.give_up()
            parent = parent.parent

    def _failed(self, load: _Load, error: Exception) -> None:
        load.origin.failures += 1
        left = load.left()
        hopeless = load.origin.failures > _MOST_FAILURES or self._loop.time() >= load.origin.deadline
        if len(left) > 1 and not hopeless:
            if not load.parts:
                self._divide(load, left, _FAILED_PARTS)
        elif not load.parts or hopeless:
            for wanted in left:
                self._answer(wanted, error)
            for part in load.parts:
                _give_up_all(part)

    def _slow(self, load: _Load) -> None:
        """It no longer holds up the loads behind it, and its keys are asked for again in parts."""
        self._fresh -= load.fresh
        load.fresh = False
        left = load.left()
        for wanted in left:
            for caller, _ in wanted.callers:
                caller.when_gone(lambda: self._left_alone(load))
        for wanted in left:
            if not wanted.alive:
                self._settle(wanted)
        alive = [each for each in left if each.alive]
        if len(alive) > 1 and not load.parts:
            self._divide(load, alive, _SLOW_PARTS)
        else:
            self._left_alone(load)
            self.begin()

    def _divide(self, load: _Load, wanted: list[_Wanted], number: int) -> None:
        size = -(-len(wanted) // number)
        for start in range(0, len(wanted), size):
            part = _Load(wanted[start : start + size], load.origin, load)
            load.parts.append(part)
            self._parts.append(part)
        self.begin()

    def _left_alone(self, load: _Load) -> None:
        """Gives up a load if nobody waits for any of its keys any more."""
        if load.over or any(each.alive for each in load.wanted):
            return
        load.give_up()
        for wanted in load.wanted:
            self._settle(wanted)
        self.begin()

    def _answer(self, wanted: _Wanted, result: Loaded) -> None:
        if wanted.answered:
            return
        loading = self._loading[wanted.key]
        if len(loading) > 1 and not isinstance(result, Exception):
            # This load began after those of earlier callers, which are still under way: it answers these, too.
            for earlier in loading[: loading.index(wanted)]:
                self._answer_callers(earlier, result)
                if not earlier.load.left():
                    _give_up_all(earlier.load)
        self._answer_callers(wanted, result)

    def _answer_callers(self, wanted: _Wanted, result: Loaded) -> None:
        self._settle(wanted)
        for caller, number in wanted.callers:
            caller.loaded(number, result)

    def _settle(self, wanted: _Wanted) -> None:
        """A key that is loaded no longer makes room for those who asked for it since."""
        if wanted.answered:
            return
        wanted.answered = True
        loading = self._loading[wanted.key]
        loading.remove(wanted)
        if not loading:
            del self._loading[wanted.key]
        if self._held and (held := self._held.pop(wanted.key, None)) is not None:
            self._pending[wanted.key] = held


def _give_up_all(load: _Load) -> None:
    load.give_up()
    for part in load.parts:
        _give_up_all(part)
