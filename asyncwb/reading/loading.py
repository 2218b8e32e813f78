"""Loads from the backend for reads: keys share a load, and one that is slow or fails doesn't hold up the others."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import Final, NoReturn, Protocol

import anyio

from asyncwb.errors import BackendUnavailable
from asyncwb.records import Record

_MOST_KEYS: Final = 1000
"""How many keys a load may have."""
_FRESH: Final = 2
"""How many loads that aren't slow may run at once. Keys that are asked for meanwhile share the next load."""
_MOST_LOADS: Final = 64
"""How many loads may run at once, including slow ones: so a backend that hangs isn't flooded with loads."""
_MOST_PARTS: Final = 32
"""How many of these may be parts of other loads, so that there is always room to load keys for the first time."""
_LOADS_PER_KEY: Final = 2
"""How many loads of the same key may run at once, not counting parts: a slow key that many ask for takes no more."""

_SLOW_SECONDS: Final = 0.1
_SLOWER_THAN_USUAL: Final = 4.0
"""A load is slow once it has taken this many times as long as usual, and at least `_SLOW_SECONDS`."""
_LEARNING: Final = 0.2
"""The weight of the latest load in the moving average of how long loads usually take."""

_SLOW_PARTS: Final = 8
_FAILED_PARTS: Final = 2
_MOST_FAILURES: Final = 16
"""After this many failures in a row the backend is at fault, not a single key."""

Loaded = Record | Exception | None
"""The result of a load for a key: its record, an error, or None if there is no record."""


class Caller(Protocol):
    """Somebody who asks for some keys, and identifies each by a number."""

    @property
    def gone(self) -> bool:
        """Whether the answer isn't needed any more."""
        ...

    def when_gone(self, call: Callable[[], None]) -> None:
        """Has `call` called once the answer isn't needed any more, after an answer or a cancellation."""
        ...

    def loaded(self, number: int, result: Loaded) -> None:
        """Takes the answer for one key."""
        ...


_Callers = list[tuple[Caller, int]]


class _Load:
    """One call of the backend, under way or still to be made.

    Attributes:
        wanted: the keys that aren't answered yet, each with all who asked for it before the root began.
        root: the first load of these keys, of which this is a part, or itself.
        parent: the load whose keys were divided; None for a root.
        parts: the loads into which its keys were divided.
        number: loads are numbered in the order in which they begin.
        fresh: whether it counts as not slow; never for a part.
        over: whether it has ended, or its answer isn't needed any more.
        deadline: for a root: until when its keys may be asked for again, on the loop's clock.
        failures: for a root: how many of its loads have failed in a row.
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
        """Cancels the load, since its answer isn't needed any more."""
        self.over = True
        if self.scope is not None:
            self.scope.cancel()

    def give_up_all(self) -> None:
        """Cancels the load and all its parts."""
        self.give_up()
        for part in self.parts:
            part.give_up_all()

    def forget(self, key: str) -> None:
        """Drops a key that has been answered, here and in all parts."""
        if self.wanted.pop(key, None) is not None:
            for part in self.parts:
                part.forget(key)


class Loader:
    """Loads keys for many callers; each load begins after all of its callers have asked.

    Keys that are asked for at the same time share a load. If a load fails or takes much longer than usual, its keys are
    asked for again in ever smaller parts, concurrently, and the first answer counts. So the key at fault is soon alone,
    and the others have their answers. Slow loads don't keep new ones from beginning.

    Args:
        load: loads keys from the backend; it has to end in bounded time.
        limit_seconds: for how long after a load began its keys may be asked for again when it fails.
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
        """Queues a key; `begin` has to be called once all keys that belong together are queued."""
        queue = self._held if key in self._held else self._pending
        callers = queue.get(key)
        if callers is None:
            queue[key] = [(caller, number)]
        else:
            callers.append((caller, number))

    def begin(self) -> None:
        """Begins as many of the queued loads as the limits allow."""
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
        """Runs loads until cancelled. May be called again if a bug ended it."""
        for root in self._roots:
            self._answer_all(root, BackendUnavailable("the load from the backend crashed, see the log"))
        self._roots.clear()
        # Not a task group of anyio: timers begin loads, too, and outside of a task anyio can't tell asyncio from trio
        # if the package sniffio is installed.
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
        """Leaves out keys that nobody waits for any more, and holds back those with enough loads under way."""
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
                    # A task inside the driver was cancelled; nobody has cancelled this one.
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
        """Begins loads that have waited for others to be answered or given up."""
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
        # A single key and not the backend holds up the loads that it is a part of; other parts ask for that key.
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
        """Marks a load as slow: it no longer holds up later loads, and its keys are asked for again in parts."""
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
            # Older loads of the key are still under way. This one began later, so it answers their callers, too.
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
