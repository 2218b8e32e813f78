"""Loads for reads: keys share a load, and none that is slow or fails holds up the others."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import Final, NoReturn, Protocol

import anyio

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


_Callers = list[tuple[Caller, int]]


class _Load:
    """One call of the backend, or one to be made.

    Attributes:
        wanted: the keys that aren't answered yet, and everyone who asked for them before the first load began.
        root: the load that this is a part of, or itself.
        parent: the load whose keys were divided, None if it is the root.
        parts: the loads that its keys are divided into.
        number: of those that began before it.
        fresh: whether it counts as one that isn't slow yet.
        over: it has ended, or nobody needs its answer any more.
        deadline, failures: of a root: how long its keys may be asked for again; how often that failed in a row.
    """

    __slots__ = (
        "deadline", "failures", "fresh", "number", "over", "parent", "parts", "root", "scope", "wanted",
    )  # fmt: skip

    def __init__(self, wanted: dict[str, _Callers], *, deadline: float = 0.0, parent: "_Load | None" = None) -> None:
        self.wanted = wanted
        self.parent = parent
        self.root: _Load = self if parent is None else parent.root
        self.parts: list[_Load] = []
        self.number = 0
        self.fresh = parent is None
        self.over = False
        self.scope: anyio.CancelScope | None = None
        self.deadline = deadline
        self.failures = 0

    def give_up(self) -> None:
        """Nobody needs its answer any more."""
        self.over = True
        if self.scope is not None:
            self.scope.cancel()

    def give_up_all(self) -> None:
        """Nor that of its parts."""
        self.give_up()
        for part in self.parts:
            part.give_up_all()

    def forget(self, key: str) -> None:
        """A key is answered, here and in all parts."""
        if self.wanted.pop(key, None) is not None:
            for part in self.parts:
                part.forget(key)


class Loader:
    """Loads keys for many callers; each load begins after all of its callers have asked.

    Keys that are asked for at the same time share a load. If that takes much longer than usual, its keys are asked for
    again in ever smaller parts, side by side, and the first answer counts; if it fails, likewise. So the key at fault
    is soon alone, and the others have their answers. Slow loads don't keep new ones from beginning.

    Args:
        load: asks the backend, and ends in bounded time.
        limit_seconds: how long keys of a load that began may be asked for again.
    """

    def __init__(self, load: Callable[[Sequence[str]], Awaitable[Mapping[str, Record]]], limit_seconds: float) -> None:
        self._load = load
        self._limit = limit_seconds
        self._loop = asyncio.get_running_loop()
        self._pending: dict[str, _Callers] = {}
        self._held: dict[str, _Callers] = {}
        self._roots: list[_Load] = []
        self._parts: deque[_Load] = deque()
        self._fresh = self._parts_under_way = self._under_way = 0
        self._begun = 0
        self._usual = 0.0
        self._group: asyncio.TaskGroup | None = None

    def ask(self, key: str, caller: Caller, number: int) -> None:
        """Queues a key; `begin` has to be called when all is queued that belongs together."""
        queue = self._held if key in self._held else self._pending
        callers = queue.get(key)
        if callers is None:
            queue[key] = [(caller, number)]
        else:
            callers.append((caller, number))

    def begin(self) -> None:
        """Begins as many loads as there is room for."""
        while self._parts and self._parts_under_way < _MOST_PARTS and self._under_way < _MOST_LOADS:
            part = self._parts.popleft()
            if part.wanted and not part.over:
                self._start(part)
        while self._pending and self._fresh < _FRESH and self._under_way < _MOST_LOADS:
            taken = {key: self._pending.pop(key) for key in [*islice(self._pending, _MOST_KEYS)]}
            wanted = self._not_held(taken) if self._any_slow else taken
            if wanted:
                root = _Load(wanted, deadline=self._loop.time() + self._limit)
                self._roots.append(root)
                self._start(root)

    async def serve(self) -> NoReturn:
        """Loads until cancelled. May be called again if it was ended by a bug."""
        for root in self._roots:
            self._answer_all(root, BackendUnavailable("the load crashed, see the log"))
        self._roots.clear()
        # Not anyio's: timers begin loads, too, and outside of a task anyio can't tell asyncio from trio where the
        # package sniffio is installed.
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                self.begin()
                await anyio.sleep_forever()
            finally:
                self._group = None  # it takes no more tasks
        raise AssertionError("serves until it is cancelled")

    def close(self, error: Exception) -> None:
        """Answers everyone who still waits with an error."""
        for wanted in (*(root.wanted for root in self._roots), self._pending, self._held):
            for callers in wanted.values():
                for caller, number in callers:
                    caller.loaded(number, error)
            wanted.clear()
        self._roots.clear()
        self._parts.clear()

    @property
    def _any_slow(self) -> bool:
        return len(self._roots) > self._fresh

    def _not_held(self, wanted: dict[str, _Callers]) -> dict[str, _Callers]:
        """Leaves out what nobody waits for any more, and holds back what has enough loads under way."""
        kept: dict[str, _Callers] = {}
        for key, callers in wanted.items():
            if sum(key in root.wanted for root in self._roots) >= _LOADS_PER_KEY:
                self._held[key] = callers
            elif _awaited(callers):
                kept[key] = callers
        return kept

    def _start(self, load: _Load) -> None:
        if self._group is None:
            return  # closing: `close` answers its callers
        self._under_way += 1
        self._fresh += load.fresh
        self._parts_under_way += load.parent is not None
        self._begun += 1
        load.number = self._begun
        self._group.create_task(self._run(load))

    async def _run(self, load: _Load) -> None:
        started = self._loop.time()
        slow = self._loop.call_later(max(_SLOW_SECONDS, _SLOWER_THAN_USUAL * self._usual), self._slow, load)
        found: Mapping[str, Record] | None = None
        failure: Exception | None = None
        try:
            with anyio.CancelScope() as load.scope:
                try:
                    found = await self._load([*load.wanted])
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
        self._go_on(load.root)

    def _go_on(self, root: _Load) -> None:
        """Something has been answered, or given up: what waited for that may begin."""
        if not root.wanted and root in self._roots:
            self._roots.remove(root)
        if self._held:
            self._pending.update(self._held)
            self._held.clear()
        self.begin()

    def _succeeded(self, load: _Load, found: Mapping[str, Record]) -> None:
        load.root.failures = 0
        for key in [*load.wanted]:
            self._answer(load, key, found.get(key))
        for part in load.parts:
            part.give_up_all()
        # What it was a part of is held up by a key and not by the backend, and other parts ask for that key.
        parent = load.parent
        while parent is not None:
            parent.give_up()
            parent = parent.parent

    def _failed(self, load: _Load, error: Exception) -> None:
        root = load.root
        root.failures += 1
        hopeless = root.failures > _MOST_FAILURES or self._loop.time() >= root.deadline
        if hopeless or (len(load.wanted) == 1 and not load.parts):
            self._answer_all(load, error)
            load.give_up_all()
        elif load.wanted and not load.parts:
            self._divide(load, _FAILED_PARTS)

    def _slow(self, load: _Load) -> None:
        """It no longer holds up the loads behind it, and its keys are asked for again in parts."""
        self._fresh -= load.fresh
        load.fresh = False
        for key, callers in [*load.wanted.items()]:
            if _awaited(callers):
                for caller, _ in callers:
                    caller.when_gone(lambda: self._left_alone(load))
            else:
                load.root.forget(key)
        if len(load.wanted) > 1 and not load.parts:
            self._divide(load, _SLOW_PARTS)
        self._left_alone(load)
        self.begin()

    def _divide(self, load: _Load, number: int) -> None:
        wanted = [*load.wanted.items()]
        size = -(-len(wanted) // number)
        load.parts = [_Load(dict(wanted[at : at + size]), parent=load) for at in range(0, len(wanted), size)]
        self._parts.extend(load.parts)

    def _left_alone(self, load: _Load) -> None:
        """Gives up a load if nobody waits for any of its keys any more."""
        if load.over or any(map(_awaited, load.wanted.values())):
            return
        for key in [*load.wanted]:
            load.root.forget(key)
        load.give_up_all()
        self._go_on(load.root)

    def _answer(self, load: _Load, key: str, result: Loaded) -> None:
        callers = load.wanted[key]
        load.root.forget(key)
        for caller, number in callers:
            caller.loaded(number, result)
        if self._any_slow and not isinstance(result, Exception):
            # This load began after those of earlier callers, which are still under way: it answers these, too.
            for root in [*self._roots]:
                if root.number < load.number and key in root.wanted:
                    self._answer(root, key, result)
                    if not root.wanted:
                        root.give_up_all()
                        self._roots.remove(root)

    def _answer_all(self, load: _Load, error: Exception) -> None:
        for key in [*load.wanted]:
            self._answer(load, key, error)


def _awaited(callers: _Callers) -> bool:
    return not all(caller.gone for caller, _ in callers)
