"""Bell: one ring, one flusher; no ring is lost."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from asyncwb.support.wakeup import Bell


async def test_ring_wakes_one() -> None:
    bell = Bell()
    waiting = [asyncio.create_task(bell.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    bell.ring()
    await asyncio.sleep(0.01)
    assert [task.done() for task in waiting] == [True, False, False]
    bell.ring()
    bell.ring()
    await asyncio.gather(*waiting)


async def test_ring_that_nobody_hears_is_kept_once() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    await asyncio.wait_for(bell.wait(), 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bell.wait(), 0.01)


async def test_ring_of_a_cancelled_waiter_goes_to_the_next() -> None:
    bell = Bell()
    first, second = asyncio.create_task(bell.wait()), asyncio.create_task(bell.wait())
    await asyncio.sleep(0)
    bell.ring()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await asyncio.wait_for(second, 1)


async def test_ring_passes_over_a_waiter_that_has_gone() -> None:
    bell = Bell()
    first, second = asyncio.create_task(bell.wait()), asyncio.create_task(bell.wait())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    bell.ring()
    await asyncio.wait_for(second, 1)


async def test_earliest_alarm_counts() -> None:
    bell = Bell()
    loop = asyncio.get_running_loop()
    started = loop.time()
    bell.ring_in(5.0)
    bell.ring_in(0.05)
    bell.ring_in(1.0)
    await asyncio.wait_for(bell.wait(), 1)
    assert 0.04 < loop.time() - started < 0.9
    bell.close()


async def test_closed_bell_has_no_alarm() -> None:
    bell = Bell()
    bell.ring_in(0.01)
    bell.close()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bell.wait(), 0.05)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_alarm_that_is_due_at_once_is_an_alarm(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        bell = Bell()
        bell.ring_in(0.0)
        bell.ring_in(0.0)
        bell.ring_in(5.0)
        await asyncio.wait_for(bell.wait(), 1)
        bell.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
