"""What a plugin's author tells the contract about outages."""

import pytest

from asyncwb.testing.contract import Outage


def test_what_is_taken_away_has_to_be_given_back() -> None:
    with pytest.raises(TypeError, match="give stop and start, or neither"):
        Outage(stop=lambda: None)
    with pytest.raises(TypeError, match="give freeze and thaw, or neither"):
        Outage(thaw=lambda: None)


async def test_functions_run_in_threads_and_coroutine_functions_are_awaited() -> None:
    done: list[str] = []

    async def thaw() -> None:
        done.append("thaw")

    outage = Outage(
        stop=lambda: done.append("stop"), start=lambda: done.append("start"),
        freeze=lambda: done.append("freeze"), thaw=thaw,
    )  # fmt: skip
    async with outage.stopped(), outage.frozen():
        assert done == ["stop", "freeze"]
    assert done == ["stop", "freeze", "thaw", "start"]


async def test_storage_is_given_back_also_when_the_test_fails() -> None:
    done: list[str] = []
    outage = Outage(stop=lambda: done.append("stop"), start=lambda: done.append("start"))
    with pytest.raises(ZeroDivisionError):
        async with outage.stopped():
            raise ZeroDivisionError
    assert done == ["stop", "start"]


async def test_test_of_what_cannot_be_done_to_the_storage_is_skipped() -> None:
    with pytest.raises(pytest.skip.Exception, match="doesn't tell how the storage is frozen"):
        async with Outage(stop=lambda: None, start=lambda: None).frozen():
            raise AssertionError("it was not frozen")
