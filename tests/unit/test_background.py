"""BackgroundTasks: a stop ends all work in bounded time, and whatever else ends it is told once."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from anyio.abc import TaskGroup

from asyncwb.support.background import BackgroundTasks

Work = Callable[[], Coroutine[Any, Any, None]]


class Owner:
    """Has background work, and records what is reported of its end."""

    def __init__(self, *works: Work) -> None:
        self.ends: list[BaseException | None] = []
        self.ended = asyncio.Event()

        def start(group: TaskGroup) -> None:
            for work in works:
                group.start_soon(work)

        self.tasks = BackgroundTasks(start, self._on_end)

    def _on_end(self, error: BaseException | None) -> None:
        self.ends.append(error)
        self.ended.set()


class Running:
    """Work that runs until it is cancelled."""

    def __init__(self) -> None:
        self.begun, self.cleaned_up = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cleaned_up.set()


async def test_stop_returns_when_all_work_has_ended() -> None:
    first, second = Running(), Running()
    owner = Owner(first.run, second.run)
    await first.begun.wait()
    await second.begun.wait()
    assert not owner.ends
    await owner.tasks.stop(5.0)
    assert first.cleaned_up.is_set()
    assert second.cleaned_up.is_set()
    assert owner.ends == [None]


async def test_stop_again_does_nothing() -> None:
    owner = Owner(Running().run)
    await owner.tasks.stop(5.0)
    await owner.tasks.stop(5.0)
    assert owner.ends == [None]


async def test_bug_in_one_part_of_the_work_ends_the_others_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    other = Running()

    async def fail() -> None:
        await other.begun.wait()
        raise ZeroDivisionError("a bug")

    owner = Owner(other.run, fail)
    await owner.ended.wait()
    assert other.cleaned_up.is_set()
    (error,) = owner.ends
    assert isinstance(error, BaseExceptionGroup)
    assert error.subgroup(ZeroDivisionError) is not None
    assert "this is a bug in asyncwb" in caplog.text
    await owner.tasks.stop(5.0)
    assert len(owner.ends) == 1


async def test_start_that_fails_is_told() -> None:
    ends: list[BaseException | None] = []

    def start(group: TaskGroup) -> None:
        raise ZeroDivisionError("a bug")

    await BackgroundTasks(start, ends.append).stop(5.0)
    (error,) = ends
    assert isinstance(error, BaseExceptionGroup)
    assert error.subgroup(ZeroDivisionError) is not None


async def test_work_that_somebody_else_cancels_is_told(caplog: pytest.LogCaptureFixture) -> None:
    work = Running()
    before = asyncio.all_tasks()
    owner = Owner(work.run)
    (task,) = asyncio.all_tasks() - before
    await work.begun.wait()
    task.cancel()
    await owner.ended.wait()
    assert work.cleaned_up.is_set()
    assert isinstance(owner.ends[0], asyncio.CancelledError)
    assert "was cancelled from outside" in caplog.text


async def test_work_that_clings_to_life_is_left_behind_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def cling() -> None:
        begun.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    owner = Owner(cling)
    await begun.wait()
    await owner.tasks.stop(0.01)
    assert not owner.ends
    assert "didn't stop within 0.01 s" in caplog.text
    release.set()
    await owner.ended.wait()
