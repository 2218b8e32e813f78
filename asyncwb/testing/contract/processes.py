"""The contract: several processes, some killed or frozen in the middle of a call."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import ClassVar, Final

import pytest

from asyncwb.backend import Backend
from asyncwb.records import Record
from asyncwb.testing.contract.base import ContractBase, requires, tombstone
from asyncwb.testing.contract.child import Child, Nursery
from asyncwb.testing.contract.views import view, view_of

_PATIENCE_SECONDS: Final = 0.1
_MOST_STEPS: Final = 400
_PROGRESS_SECONDS: Final = 3.0
_WRONG_SECONDS: Final = 10 * 86_400


class ProcessContract(ContractBase):
    """Several processes.

    They are frozen or killed at a line of the backend's own code. A *step* is the execution of one line of its module
    or package, in any thread.

    Attributes:
        kill_points: at how many steps of a save, evenly spread, a process is killed.
    """

    kill_points: ClassVar[int] = 5

    @pytest.fixture(scope="class")
    @classmethod
    def nursery(cls) -> Iterator[Nursery]:
        """Starts processes with this class's backend open: `async with nursery.child(url) as child`."""
        nursery = Nursery(cls)
        yield nursery
        nursery.close()

    @requires("persistence", "sharing")
    async def test_what_was_saved_survives_the_end_of_its_process(
        self, backend: Backend, url: str, nursery: Nursery
    ) -> None:
        """The process kills itself in the statement right after the call, so that nothing deferred gets done."""
        records = [self.put("1", 1), tombstone("2", 2)]
        for record in records:
            async with nursery.child(url) as child:
                await child.save_and_die([record])
        assert view(await backend.load(["1", "2"])) == view_of(*records)
        assert await backend.save(records) == 2
        async with nursery.child(url) as child:
            await child.new_epoch_and_die(5)
        assert await backend.new_epoch(0) >= 5

    @requires("persistence", "sharing")
    async def test_two_processes_save_the_same_keys(self, backend: Backend, url: str, nursery: Nursery) -> None:
        keys = [str(number) for number in range(10)]
        batches = [[self.put(key, seq) for key in keys] for seq in range(1, 41)]

        async def run(child: Child, mine: Sequence[Sequence[Record]]) -> int:
            return sum([await child.save(batch) for batch in mine])

        async with nursery.child(url) as one, nursery.child(url) as two:
            stale = await asyncio.gather(run(one, batches[::2]), run(two, batches[1::2]))
            assert stale[1] < 20 * len(keys), "the highest version is never stale"
        assert view(await backend.load(keys)) == view_of(*batches[-1])

    @requires("persistence", "sharing")
    async def test_two_processes_never_get_the_same_epoch(self, backend: Backend, url: str, nursery: Nursery) -> None:
        async def run(child: Child) -> list[int]:
            return [await child.new_epoch(1) for _ in range(25)]

        async with nursery.child(url) as one, nursery.child(url) as two:
            first, second = await asyncio.gather(run(one), run(two))
        assert len(set(first + second)) == 50
        assert first == sorted(first)
        assert await backend.new_epoch(0) == max(first + second)

    @requires("persistence", "sharing")
    async def test_process_killed_inside_save_leaves_the_old_or_the_new(
        self, backend: Backend, url: str, nursery: Nursery
    ) -> None:
        async with nursery.child(url) as child:
            steps = await child.count_steps([self.put("0", 1)])
        skip_if_unseen(steps + 1)
        # Not at the last step: the save may have ended by then.
        for point in range(1, self.kill_points + 1):
            old, new = self.put(str(point), 1, size=1000), self.put(str(point), 2, size=1000)
            assert await backend.save([old]) == 0
            async with nursery.child(url) as child:
                await child.save_and_die_at([new], max(1, steps * point // (self.kill_points + 1)))
            found = view(await backend.load([old.key]))
            assert found in (view_of(old), view_of(new)), f"killed at {child.where}"
            assert await backend.save([new]) == (0 if found == view_of(old) else 1), f"killed at {child.where}"
            assert view(await backend.load([old.key])) == view_of(new)

    @requires("persistence", "sharing")
    async def test_process_frozen_inside_save_cannot_undo_a_newer_one(
        self, backend: Backend, url: str, nursery: Nursery
    ) -> None:
        """A process is frozen at each step in turn (the first `_MOST_STEPS`), while a newer version is saved."""
        for key, newer in (("1", self.put), ("2", tombstone)):
            async with nursery.child(url) as child:
                # Bounded: if a save reads everything that was ever written, each save takes more steps than the last.
                for step in range(1, _MOST_STEPS + 1):
                    # Use one key throughout: the number of steps may depend on how many records there are.
                    old, new = self.put(key, step * 10), newer(key, step * 10 + 1)
                    # Freeze only briefly: the newer save may have to wait for the frozen process.
                    if not await child.save_and_freeze_at([old], step, seconds=_PATIENCE_SECONDS):
                        skip_if_unseen(step)
                        break
                    assert await backend.save([new]) == 0
                    await child.thaw()
                    assert view(await backend.load([key])) == view_of(new), f"frozen at {child.where}"

    @requires("persistence", "sharing", "progress")
    async def test_process_frozen_inside_save_holds_up_nobody(
        self, backend: Backend, url: str, nursery: Nursery
    ) -> None:
        async with nursery.child(url) as child:
            for step in range(1, _MOST_STEPS + 1):
                old, new = self.put("1", step * 10), self.put("1", step * 10 + 1)
                if not await child.save_and_freeze_at([old], step, seconds=_PROGRESS_SECONDS):
                    skip_if_unseen(step)
                    return
                assert await backend.save([new, self.put("2", step)]) == 0
                assert view(await backend.load(["1"])) == view_of(new), f"frozen at {child.where}"
                held_up = f"frozen at {child.where}, it held up the others for {_PROGRESS_SECONDS:g} s"
                assert child.frozen, held_up
                await child.thaw()
                assert view(await backend.load(["1"])) == view_of(new), f"frozen at {child.where}, and thawed"

    @requires("persistence", "sharing")
    async def test_process_frozen_inside_load_finds_what_was_there_or_is_newer(
        self, backend: Backend, url: str, nursery: Nursery
    ) -> None:
        """A process is frozen at each step in turn, including the middle of a listing, while the key is replaced."""
        held = self.put("1", 1)
        assert await backend.save([held]) == 0
        # Long enough for the newer save to end; only briefly if that may have to wait for the frozen process.
        seconds = _PATIENCE_SECONDS if "progress" in self.cannot else _PROGRESS_SECONDS
        async with nursery.child(url) as child:
            for step in range(1, _MOST_STEPS + 1):
                if not await child.load_and_freeze_at(held, step, seconds=seconds):
                    skip_if_unseen(step)
                    break
                newer = self.put("1", 1 + step)
                assert await backend.save([newer]) == 0
                found = await child.thaw()
                kind = "an older" if found else "no"
                assert found >= held.version, f"frozen at {child.where}, it found {kind} record"
                held = newer

    @requires("persistence", "sharing", "clock")
    async def test_tombstone_outlives_a_process_with_a_wrong_clock(
        self, backend: Backend, url: str, nursery: Nursery
    ) -> None:
        """A process whose clock is ahead doesn't purge tombstones early, nor are those of one whose clock is behind."""
        assert await backend.save([tombstone("1", 5)]) == 0
        for key, wrong in (("2", _WRONG_SECONDS), ("3", -_WRONG_SECONDS)):
            async with nursery.child(url) as child:
                await child.set_clock(wrong)
                assert await child.save([tombstone(key, 5)]) == 0
                assert await child.save([self.put("4", 5)]) in (0, 1)
            async with nursery.child(url) as child:
                await child.save([self.put("5", 5)])  # the first save of a process is likely to purge
                await child.save([self.put("6", 5)])
            assert await backend.save([self.put("1", 3), self.put(key, 3)]) == 2, f"with a clock of {wrong:+d} s"


def skip_if_unseen(step: int) -> None:
    """Skips the test if the call ended before its first step."""
    if step == 1:
        pytest.skip(
            "no line of the backend's own code was seen: is it compiled? It can't be frozen or killed in a call"
        )
