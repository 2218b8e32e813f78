"""The contract: tombstones are kept for their time and then purged, and nothing else is ever purged."""

import asyncio
import time
from typing import Final

import pytest

from asyncwb.backend import Backend
from asyncwb.testing.contract.base import ContractBase, requires, tombstone
from asyncwb.testing.contract.records import on
from asyncwb.testing.contract.views import view, view_of

_POLL_SECONDS: Final = 0.05


# The keys are numbers, because some backends accept no others.
_OLD: Final = "11"
_RENEWED: Final = "12"
_YOUNG: Final = "13"
_LIVE: Final = "14"
_AGAIN: Final = "15"
_DEAD: Final = "16"
_MEANWHILE: Final = "17"


class PurgeContract(ContractBase):
    """Purging.

    Tests call `let_time_pass`, which a plugin's author overrides to make stored records older and a purge due. Then
    they save some records, since most backends purge when they save.
    """

    async def test_tombstone_is_kept_until_its_time_is_over(self, backend: Backend, url: str) -> None:
        """Until then, a late, older save is stale; a purge is known to have run when an older tombstone is gone.

        A key that is deleted again gets a new tombstone, whose time starts again.
        """
        await backend.save([tombstone(_OLD, 5), tombstone(_RENEWED, 4)])
        await self.let_time_pass(backend, url, self.tombstone_seconds * 0.6)
        young = [tombstone(_YOUNG, 5), tombstone(_RENEWED, 5)]
        await backend.save(young)
        await self._purge(backend)
        late = [self.put(_YOUNG, 3), self.put(_RENEWED, 3)]
        assert await backend.save(late) == 2, "a tombstone was purged at once"
        await self.let_time_pass(backend, url, self.tombstone_seconds * 0.6)
        await self._purge(backend, _OLD)
        assert await backend.save(late) == 2, "a tombstone was purged too early"
        assert view(await backend.load([_YOUNG, _RENEWED])) == view_of(*young)

    async def test_tombstone_is_purged_when_its_time_is_over(self, backend: Backend, url: str) -> None:
        await backend.save([tombstone("1", 5), self.put("2", 1)])
        await backend.save([tombstone("2", 5)])
        await self.let_time_pass(backend, url, self.tombstone_seconds * 1.2)
        await self._purge(backend, "1", "2")
        assert view(await backend.load(["1", "2"])) == {}, (
            f"not purged in {self.purge_seconds:g} s, with saves going on"
        )
        assert await backend.save([self.put("1", 3)]) == 0, "what is gone can be written again, with any version"
        assert view(await backend.load(["1"])) == view_of(self.put("1", 3))

    async def test_purging_leaves_live_records_alone(self, backend: Backend, url: str) -> None:
        """This holds however old they are, and even if their keys were deleted once."""
        live = [self.put(_LIVE, 1), self.put(_AGAIN, 7), self.put(_RENEWED, 9)]
        await backend.save([live[0], tombstone(_AGAIN, 5), self.put(_RENEWED, 5)])
        await backend.save([*live[1:], tombstone(_DEAD, 5)])
        await self.let_time_pass(backend, url, self.tombstone_seconds * 1.2)
        await self._purge(backend, _DEAD)
        assert view(await backend.load([record.key for record in live])) == view_of(*live)
        assert await backend.save(live) == len(live), "a version was forgotten"

    @requires("based_on")
    async def test_record_based_on_a_purged_tombstone_does_not_apply(self, backend: Backend, url: str) -> None:
        """What is purged is nothing, and has version 0; a delete with a base leaves a tombstone like any other."""
        await backend.save([tombstone("1", 5), self.put("2", 1), self.put("3", 1)])
        assert await backend.save([on(1, tombstone("2", 5)), on(1, tombstone("3", 5))]) == 0
        await self.let_time_pass(backend, url, self.tombstone_seconds * 1.2)
        await self._purge(backend, "1", "2", "3")
        assert await backend.save([on(5, self.put("1", 6)), on(5, tombstone("2", 6)), on(0, self.put("3", 6))]) == 2
        assert view(await backend.load(["1", "2", "3"])) == view_of(self.put("3", 6))

    async def _purge(self, backend: Backend, *gone: str) -> None:
        """Saves records until these keys are purged, for at most `purge_seconds`; if there are no keys, saves twice."""
        deadline = time.monotonic() + self.purge_seconds
        for seq in range(1, 10_000):
            await backend.save([self.put(_MEANWHILE, seq)])
            if seq > 1 and (time.monotonic() > deadline or not (gone and await backend.load(gone))):
                return
            await asyncio.sleep(_POLL_SECONDS if seq > 1 else 0)
        pytest.fail("the clock stands still")
