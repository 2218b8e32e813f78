"""The contract: several processes, killed and frozen in the middle of a save."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import ClassVar, Final

import pytest

from asyncwb.backend import Backend
from asyncwb.records import Record
from asyncwb.testing.contract.base import ContractBase, by_key, requires, same, tombstone
from asyncwb.testing.contract.child import Child, Nursery

_PATIENCE_SECONDS: Final = 0.1
_MOST_STEPS: Final = 400
_PROGRESS_SECONDS: Final = 3.0
_WRONG_SECONDS: Final = 10 * 86_400


class ProcessContract(ContractBase):
    """Processes.

    They are frozen or killed at a line of the backend's own code: a *step* is one line executed by its module or its
    package, in whatever thread.

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
        records = [self.put("1", 1), tombstone("2", 2)]
        async with nursery.child(url) as child:
            assert await child.save(records) == 0
            epoch = await child.new_epoch(5)
            await child.kill()
        assert same(await backend.load(["1", "2"]), by_key(*records))
        assert await backend.new_epoch(0) == epoch
        assert await backend.save(records) == 2

    @requires("persistence", "sharing")
    async def test_two_processes_save_the_same_keys(self, backend: Backend, url: str, nursery: Nursery) -> None:
        keys = [str(number) for number in range(10)]
        batches = [[self.put(key, seq) for key in keys] for seq in range(1, 41)]

        async def run(child: Child, mine: Sequence[Sequence[Record]]) -> int:
            return sum([await child.save(batch) for batch in mine])

        async with nursery.child(url) as one, nursery.child(url) as two:
            stale = await asyncio.gather(run(one, batches[::2]), run(two, batches[1::2]))
            assert stale[1] < 20 * len(keys), "the highest version is never stale"
        assert same(await backend.load(keys), by_key(*batches[-1]))

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
        # Not the last step: the save may be over by then, and there is nothing to kill.
        for point in range(1, self.kill_points + 1):
            old, new = self.put(str(point), 1, size=1000), self.put(str(point), 2, size=1000)
            assert await backend.save([old]) == 0
            async with nursery.child(url) as child:
                await child.save_and_die_at([new], max(1, steps * point // (self.kill_points + 1)))
            found = await backend.load([old.key])
            assert same(found, by_key(old)) or same(found, by_key(new)), f"killed at point {point}: {found}"
            assert await backend.save([new]) == (0 if same(found, by_key(old)) else 1)
            assert same(await backend.load([old.key]), by_key(new))

    @requires("persistence", "sharing")
    async def test_process_frozen_inside_save_cannot_undo_a_newer_one(
        self, backend: Backend, url: str, nursery: Nursery
    ) -> None:
        """Frozen at every step in turn, while a newer version is saved; of a save with very many, at the first ones."""
        for key, newer in (("1", self.put), ("2", tombstone)):
            async with nursery.child(url) as child:
                # Bounded: where a save reads all that was ever written, each one takes more steps than the last.
                for step in range(1, _MOST_STEPS + 1):
                    # One key throughout: the number of steps may depend on how much there is.
                    old, new = self.put(key, step * 10), newer(key, step * 10 + 1)
                    # Not for long: the save may have to wait for the frozen one.
                    if not await child.save_and_freeze_at([old], step, seconds=_PATIENCE_SECONDS):
                        break
                    assert await backend.save([new]) == 0
                    await child.thaw()
                    found = await backend.load([key])
                    assert same(found, by_key(new)), f"frozen at step {step}: {found}"

    @requires("persistence", "sharing", "progress")
    async def test_process_frozen_inside_save_holds_up_nobody(
        self, backend: Backend, url: str, nursery: Nursery
    ) -> None:
        async with nursery.child(url) as child:
            for step in range(1, _MOST_STEPS + 1):
                old, new = self.put("1", step * 10), self.put("1", step * 10 + 1)
                if not await child.save_and_freeze_at([old], step, seconds=_PROGRESS_SECONDS):
                    return
                assert await backend.save([new, self.put("2", step)]) == 0
                assert same(await backend.load(["1"]), by_key(new)), f"frozen at step {step}"
                assert child.frozen, f"frozen at step {step}, it held up the others for {_PROGRESS_SECONDS:g} s"
                await child.thaw()
                assert same(await backend.load(["1"]), by_key(new)), f"thawed at step {step}"

    @requires("persistence", "sharing")
    async def test_process_frozen_inside_load_finds_what_was_there_or_is_newer(
        self, backend: Backend, url: str, nursery: Nursery
    ) -> None:
        """Frozen at every step in turn, in the middle of a listing, too, while the key is replaced."""
        held = self.put("1", 1)
        assert await backend.save([held]) == 0
        # As long as the save takes, unless it may have to wait for the frozen one.
        seconds = _PATIENCE_SECONDS if "progress" in self.cannot else _PROGRESS_SECONDS
        async with nursery.child(url) as child:
            for step in range(1, _MOST_STEPS + 1):
                if not await child.load_and_freeze_at(held, step, seconds=seconds):
                    break
                newer = self.put("1", 1 + step)
                assert await backend.save([newer]) == 0
                found = await child.thaw()
                assert found >= held.version, f"frozen at step {step}: {'an older' if found else 'no'} record was found"
                held = newer

    @requires("persistence", "sharing", "clock")
    async def test_tombstone_outlives_a_process_with_a_wrong_clock(
        self, backend: Backend, url: str, nursery: Nursery
    ) -> None:
        """One whose clock is ahead doesn't purge it, nor do others purge what one whose clock is behind has deleted."""
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
