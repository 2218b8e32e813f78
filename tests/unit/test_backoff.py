"""Retries: pauses that grow and spread, within a time limit, and only for what may pass."""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable

import pytest

from asyncwb.errors import AsyncwbError, BackendUnavailable, OutcomeUnknown, RedisRefused, RedisUnavailable
from asyncwb.support.backoff import Backoff, Retrying, backoff_seconds, retrying
from tests.harness.virtual_time import LongestJitter, in_virtual_time

RNG = random.Random(1)


class Server:
    """A server that answers only after some errors."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = [*errors]
        self.asked: list[float] = []

    async def ask(self) -> str:
        self.asked.append(asyncio.get_running_loop().time())
        if self.errors:
            raise self.errors.pop(0)
        return "the answer"


async def ask_function(ask: Callable[[], Awaitable[str]]) -> str:
    return await retrying(ask, limit_seconds=60.0, rng=RNG)


async def ask_object(ask: Callable[[], Awaitable[str]]) -> str:
    return await Retrying(limit_seconds=60.0, rng=RNG)(ask)


@pytest.mark.parametrize("ask", [ask_function, ask_object])
def test_server_that_is_away_and_lost_answers_are_asked_again(
    ask: Callable[[Callable[[], Awaitable[str]]], Awaitable[str]],
) -> None:
    server = Server(RedisUnavailable("away"), OutcomeUnknown("lost"), RedisUnavailable("away"))

    async def work() -> str:
        return await ask(server.ask)

    assert in_virtual_time(work()) == "the answer"
    assert len(server.asked) == 4


@pytest.mark.parametrize("error", [RedisRefused("no"), BackendUnavailable("away"), ZeroDivisionError()])
async def test_what_another_attempt_would_not_change_is_raised_at_once(error: AsyncwbError) -> None:
    server = Server(error)
    with pytest.raises(type(error)) as caught:
        await retrying(server.ask, limit_seconds=60.0, rng=RNG)
    assert caught.value is error
    assert len(server.asked) == 1


@pytest.mark.parametrize("error", [RedisUnavailable, OutcomeUnknown])
def test_server_that_stays_away_is_unavailable_once_the_time_is_over(error: type[AsyncwbError]) -> None:
    """This holds even if answers were lost, since for an idempotent request a lost answer is harmless."""
    server = Server(*(error("gone") for _ in range(1000)))
    with pytest.raises(RedisUnavailable, match="gone") as caught:
        in_virtual_time(retrying(server.ask, limit_seconds=10.0, rng=RNG))
    assert isinstance(caught.value.__cause__, error)
    assert server.asked[-1] - server.asked[0] == pytest.approx(10.0), "once more when the time is over, never later"


async def test_without_any_time_there_is_one_attempt() -> None:
    server = Server(RedisUnavailable("away"))
    with pytest.raises(RedisUnavailable):
        await retrying(server.ask, limit_seconds=0.0, rng=RNG)
    assert len(server.asked) == 1


def test_pauses_double_up_to_half_a_second() -> None:
    async def pauses() -> list[float]:
        loop = asyncio.get_running_loop()
        backoff = Backoff(2.0, LongestJitter())
        ends = [loop.time()]
        while await backoff.pause():
            ends.append(loop.time())
        return [later - earlier for earlier, later in itertools.pairwise(ends)]

    found = in_virtual_time(pauses())
    assert found[:8] == pytest.approx([0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5])
    assert sum(found) == pytest.approx(2.0), "the last one ends with the time"


def test_attempts_of_a_record_are_spread_over_the_upper_half_of_a_growing_pause() -> None:
    for attempt, most in ((1, 0.1), (2, 0.2), (3, 0.4), (10, 5.0), (10_000, 5.0)):
        pauses = [backoff_seconds(attempt, initial=0.1, longest=5.0, rng=RNG) for _ in range(200)]
        assert most / 2 <= min(pauses) < 0.6 * most
        assert 0.9 * most < max(pauses) <= most
