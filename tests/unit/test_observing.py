"""Announcer: an observer hears of every event, and whatever it raises stops nothing."""

import asyncio
from collections.abc import Callable

import pytest

from asyncwb.support.observing import Announcer

STRAY: dict[str, Callable[[], BaseException]] = {
    "an error": lambda: ZeroDivisionError("a bug"),
    "CancelledError": asyncio.CancelledError,
    "GeneratorExit": GeneratorExit,
    "a group of them": lambda: BaseExceptionGroup("", [asyncio.CancelledError()]),
}


def test_observer_is_told_of_every_event_in_its_order() -> None:
    told: list[str] = []
    announcer = Announcer(told.append)
    announcer.emit("first")
    announcer.emit("second")
    assert told == ["first", "second"]


def test_event_that_nobody_observes_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    Announcer[str](None).emit("anything")
    assert not caplog.records


@pytest.mark.parametrize("stray", STRAY.values(), ids=STRAY)
def test_observer_that_fails_is_logged_with_its_event_and_told_of_the_next(
    stray: Callable[[], BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    def observe(event: str) -> None:
        told.append(event)
        raise stray()

    announcer = Announcer(observe)
    announcer.emit("first")
    announcer.emit("second")
    assert told == ["first", "second"]
    assert [record.getMessage() for record in caplog.records] == [
        "the observer failed on 'first'",
        "the observer failed on 'second'",
    ]
    assert all(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("exit_", [KeyboardInterrupt, SystemExit])
def test_observer_may_end_the_process(exit_: type[BaseException]) -> None:
    def observe(_event: str) -> None:
        raise exit_

    with pytest.raises(exit_):
        Announcer(observe).emit("anything")
