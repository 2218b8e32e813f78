"""Supervisor: whatever ends the work, it is told and started again, after a pause that grows."""

import asyncio
from collections.abc import Callable

import pytest

from asyncwb.support.supervision import Supervisor
from tests.harness.virtual_time import LongestJitter, in_virtual_time

Crash = tuple[str, BaseException, float]

ENDS: dict[str, Callable[[], BaseException | None]] = {
    "it returns": lambda: None,
    "it fails": lambda: ZeroDivisionError("a bug"),
    "it is cancelled from within": asyncio.CancelledError,
    "its generator is closed": GeneratorExit,
    "it fails in a group": lambda: BaseExceptionGroup("", [asyncio.CancelledError()]),
}


def supervisor(crashes: list[Crash]) -> Supervisor:
    def crashed(name: str, error: BaseException, seconds: float) -> None:
        crashes.append((name, error, seconds))

    return Supervisor(initial_seconds=1.0, longest_seconds=8.0, on_crash=crashed, rng=LongestJitter())


class Work:
    """Work that runs for the given seconds each time and crashes; once none are left, it runs on."""

    def __init__(self, *seconds: float) -> None:
        self._seconds = [*seconds]
        self.starts: list[float] = []
        self.runs_on = asyncio.Event()

    async def run(self) -> None:
        self.starts.append(asyncio.get_running_loop().time())
        if not self._seconds:
            self.runs_on.set()
            await asyncio.Event().wait()
        await asyncio.sleep(self._seconds.pop(0))
        raise ZeroDivisionError("a bug")


async def pauses_of(*seconds: float) -> list[float]:
    """Returns the reported pauses for work that ran for these times, after checking that they were really made."""
    crashes: list[Crash] = []
    work = Work(*seconds)
    keeping = asyncio.create_task(supervisor(crashes).keep("the work", work.run))
    await work.runs_on.wait()
    keeping.cancel()
    told = [pause for _, _, pause in crashes]
    begun = zip(work.starts, work.starts[1:], seconds, strict=False)
    assert [later - earlier - ran for earlier, later, ran in begun] == pytest.approx(told)
    return told


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_whatever_ends_the_work_is_told_and_it_is_started_again(
    end: Callable[[], BaseException | None], caplog: pytest.LogCaptureFixture
) -> None:
    crashes: list[Crash] = []
    runs_on, starts = asyncio.Event(), 0

    async def work() -> None:
        nonlocal starts
        starts += 1
        if starts > 1:
            runs_on.set()
            await asyncio.Event().wait()
        if (error := end()) is not None:
            raise error

    def crashed(name: str, error: BaseException, seconds: float) -> None:
        crashes.append((name, error, seconds))

    kept = Supervisor(initial_seconds=0.001, longest_seconds=0.001, on_crash=crashed, rng=LongestJitter())
    keeping = asyncio.create_task(kept.keep("the work", work))
    async with asyncio.timeout(5):
        await runs_on.wait()
    keeping.cancel()
    ((name, error, seconds),) = crashes
    assert (name, seconds) == ("the work", 0.001)
    assert isinstance(error, type(end() or RuntimeError()))
    assert "the work crashed, starting it again" in caplog.text


def test_pause_grows_with_each_crash_up_to_its_limit() -> None:
    assert in_virtual_time(pauses_of(0, 0, 0, 0, 0, 0)) == [1, 2, 4, 8, 8, 8]


def test_work_that_ran_for_long_begins_with_the_shortest_pause() -> None:
    assert in_virtual_time(pauses_of(0, 0, 17, 0)) == [1, 2, 1, 2]


def test_work_that_ran_for_a_while_only_has_not_recovered() -> None:
    assert in_virtual_time(pauses_of(0, 0, 15, 0)) == [1, 2, 4, 8]


async def test_work_ends_with_the_supervisor_when_that_is_cancelled() -> None:
    crashes: list[Crash] = []
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    keeping = asyncio.create_task(supervisor(crashes).keep("the work", work))
    await begun.wait()
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert ended.is_set()
    assert not crashes


@pytest.mark.parametrize("exit_", [KeyboardInterrupt, SystemExit])
async def test_end_of_the_process_is_no_crash(exit_: type[BaseException]) -> None:
    crashes: list[Crash] = []

    async def work() -> None:
        raise exit_

    with pytest.raises(exit_):
        await supervisor(crashes).keep("the work", work)
    assert not crashes


async def test_crash_of_work_that_has_somebody_of_its_own_is_told_to_them_alone() -> None:
    everybody: list[Crash] = []
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    own = supervisor(everybody).keep("a flusher", Work(0).run, lambda name, *_: told.set_result(name))
    keeping = asyncio.create_task(own)
    assert await told == "a flusher"
    keeping.cancel()
    assert not everybody
