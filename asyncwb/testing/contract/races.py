"""The contract: of several who save on the same version, one wins, whoever is frozen or cancelled in the middle."""

import asyncio
from typing import Final

import pytest

from asyncwb.backend import Backend
from asyncwb.records import MAX_SEQ
from asyncwb.testing.contract.base import requires
from asyncwb.testing.contract.child import Nursery
from asyncwb.testing.contract.processes import ProcessContract, skip_if_unseen
from asyncwb.testing.contract.records import on
from asyncwb.testing.contract.stepping import run_until_suspension
from asyncwb.testing.contract.views import view, view_of

_PATIENCE_SECONDS: Final = 0.1
_MOST_STEPS: Final = 1000
_MOST_SUSPENSIONS: Final = 1000
_ROUNDS: Final = 30
_COUNT: Final = 40


class RaceContract(ProcessContract):
    """Tasks and processes that save on the same version."""

    @requires("based_on")
    async def test_counter_of_many_tasks_is_exact(self, backend: Backend) -> None:
        await asyncio.gather(*(self.count_up(backend, "1", 5) for _ in range(8)))
        await self._check_count(backend, 40)

    @requires("based_on", "persistence", "sharing")
    async def test_counter_of_two_processes_is_exact(self, backend: Backend, url: str, nursery: Nursery) -> None:
        async with nursery.child(url) as one, nursery.child(url) as two:
            await asyncio.gather(*(child.count_up(self.put("1", 1), _COUNT) for child in (one, two)))
        await self._check_count(backend, 2 * _COUNT)

    async def _check_count(self, backend: Backend, count: int) -> None:
        found = await backend.load(["1"])
        seq = found["1"].version & MAX_SEQ
        assert seq // 1000 == count, f"{count - seq // 1000} of {count} records were overwritten"
        assert view(found) == view_of(self.put("1", seq))

    @requires("based_on", "persistence", "sharing")
    async def test_of_two_processes_that_save_on_one_version_one_wins(
        self, backend: Backend, url: str, nursery: Nursery
    ) -> None:
        base = 0
        async with nursery.child(url) as one, nursery.child(url) as two:
            for _ in range(_ROUNDS):
                records = [self.put("1", base + 1), self.put("1", base + 2)]
                stale = await asyncio.gather(one.save([on(base, records[0])]), two.save([on(base, records[1])]))
                assert sorted(stale) == [0, 1], f"{2 - sum(stale)} of them applied"
                winner = records[stale.index(0)]
                assert view(await backend.load(["1"])) == view_of(winner)
                base = base + 1 + stale.index(0)

    @requires("based_on", "persistence", "sharing")
    async def test_process_frozen_inside_save_applies_only_to_what_is_stored_then(
        self, backend: Backend, url: str, nursery: Nursery
    ) -> None:
        """A process is frozen at each step in turn, while another version is saved that is older than its record.

        That other version comes from a history of Redis that was lost meanwhile, or from another flusher.
        """
        for key, has_base in (("1", False), ("2", True)):
            async with nursery.child(url) as child:
                for step in range(1, _MOST_STEPS + 1):
                    base, others, late = (self.put(key, step * 10 + number) for number in range(3))
                    await backend.save([base])
                    # Freeze only briefly: the other save may have to wait for the frozen process.
                    frozen = await child.save_and_freeze_at([on(step * 10, late)], step, seconds=_PATIENCE_SECONDS)
                    if not frozen:
                        skip_if_unseen(step)
                        break
                    stale = await backend.save([on(step * 10, others) if has_base else others])
                    seen = view(await backend.load([key]))
                    was_stale = await child.thaw()
                    left = view(await backend.load([key]))
                    where = f"frozen at {child.where}"
                    assert left == seen, f"{where}, it overwrote what it isn't based on"
                    assert left == view_of(others if was_stale else late), f"{where}, it counted wrong"
                    if has_base:
                        assert stale + was_stale == 1, f"{where}, {2 - stale - was_stale} of two saves applied"

    @requires("based_on")
    async def test_save_with_a_base_that_is_cancelled_at_any_await_can_be_repeated(self, backend: Backend) -> None:
        base = 0
        for stop_at in range(1, _MOST_SUSPENSIONS):
            record = on(base, self.put("1", stop_at))
            finished = await run_until_suspension(lambda record=record: backend.save([record]), stop_at)  # type: ignore[misc]
            assert await backend.save([record]) in ((1,) if finished else (0, 1))
            assert view(await backend.load(["1"])) == view_of(self.put("1", stop_at))
            if finished:
                return
            base = stop_at
        pytest.fail(f"not finished after {_MOST_SUSPENSIONS} suspensions")
