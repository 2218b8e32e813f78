"""The contract: a backend applies only records that are newer than what it holds, including tombstones."""

import itertools
from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncwb.backend import Backend
from asyncwb.records import Record
from asyncwb.testing.contract.base import ContractBase, by_key, tombstone, version
from asyncwb.testing.contract.views import view, view_of

_EXAMPLES = itertools.count(1000, 10)
_SAVES = st.lists(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(0, 6), st.booleans()),
        max_size=5,
        unique_by=lambda save: save[0],
    ),
    max_size=10,
)
"""Batches of (key, epoch, sequence number, whether it deletes)."""


class VersionContract(ContractBase):
    """Versions and tombstones."""

    async def test_older_version_is_stale_and_not_applied(self, backend: Backend) -> None:
        assert await backend.save([self.put("1", 5)]) == 0
        assert await backend.save([self.put("1", 4)]) == 1
        assert view(await backend.load(["1"])) == view_of(self.put("1", 5))

    async def test_equal_version_is_stale_and_not_applied(self, backend: Backend) -> None:
        await backend.save([self.put("1", 5)])
        assert await backend.save([self.put("1", 5, number=7)]) == 1
        assert await backend.save([tombstone("1", 5)]) == 1
        assert view(await backend.load(["1"])) == view_of(self.put("1", 5))

    async def test_newer_version_replaces(self, backend: Backend) -> None:
        for seq in (1, 2, 10, 11, 100):
            assert await backend.save([self.put("1", seq)]) == 0
            assert view(await backend.load(["1"])) == view_of(self.put("1", seq))

    async def test_epoch_outranks_sequence(self, backend: Backend) -> None:
        await backend.save([self.put("1", 4_000_000_000, 1)])
        newer = self.put("1", 1, epoch=2)
        assert await backend.save([newer]) == 0
        assert await backend.save([self.put("1", 4_000_000_001, 1)]) == 1
        assert view(await backend.load(["1"])) == view_of(newer)

    async def test_highest_possible_version_is_kept_exactly(self, backend: Backend) -> None:
        highest = self.put("1", 2**32 - 1, 1, epoch=2**31 - 1)
        await backend.save([self.put("1", 2**32 - 2, 2, epoch=2**31 - 1)])
        assert await backend.save([highest]) == 0
        assert view(await backend.load(["1"])) == view_of(highest)

    async def test_mixed_batch_counts_only_the_stale(self, backend: Backend) -> None:
        await backend.save([self.put("1", 5), self.put("2", 5)])
        assert await backend.save([self.put("1", 6), self.put("2", 4), self.put("3", 1)]) == 1
        assert view(await backend.load(["1", "2", "3"])) == view_of(
            self.put("1", 6), self.put("2", 5), self.put("3", 1)
        )

    async def test_repeating_a_save_changes_nothing(self, backend: Backend) -> None:
        records = [self.put("1", 1), tombstone("2", 2)]
        assert await backend.save(records) == 0
        assert await backend.save(records) == 2
        assert view(await backend.load(["1", "2"])) == view_of(*records)

    async def test_tombstone_stops_a_late_old_save(self, backend: Backend) -> None:
        await backend.save([self.put("1", 1)])
        assert await backend.save([tombstone("1", 3)]) == 0
        assert await backend.save([self.put("1", 2)]) == 1
        assert view(await backend.load(["1"])) == view_of(tombstone("1", 3))

    async def test_tombstone_of_an_unknown_key_is_kept(self, backend: Backend) -> None:
        assert await backend.save([tombstone("1", 3)]) == 0
        assert await backend.save([self.put("1", 2)]) == 1
        assert view(await backend.load(["1"])) == view_of(tombstone("1", 3))

    async def test_late_tombstone_does_not_delete_what_is_newer(self, backend: Backend) -> None:
        await backend.save([self.put("1", 5)])
        assert await backend.save([tombstone("1", 4)]) == 1
        assert view(await backend.load(["1"])) == view_of(self.put("1", 5))

    async def test_newer_tombstone_replaces_an_older_one(self, backend: Backend) -> None:
        await backend.save([tombstone("1", 1)])
        assert await backend.save([tombstone("1", 3)]) == 0
        assert await backend.save([self.put("1", 2)]) == 1
        assert view(await backend.load(["1"])) == view_of(tombstone("1", 3))

    async def test_key_can_be_created_again(self, backend: Backend) -> None:
        await backend.save([self.put("1", 1)])
        await backend.save([tombstone("1", 2)])
        assert await backend.save([self.put("1", 3)]) == 0
        assert view(await backend.load(["1"])) == view_of(self.put("1", 3))
        assert await backend.save([tombstone("1", 2)]) == 1
        assert view(await backend.load(["1"])) == view_of(self.put("1", 3))

    @given(saves=_SAVES)
    @settings(
        max_examples=40,
        deadline=None,
        database=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,  # each example has keys of its own
            HealthCheck.differing_executors,  # the same test for many backends is what a contract is
            HealthCheck.too_slow,
        ],
    )
    async def test_saves_in_any_order_end_at_the_highest_versions(
        self, backend: Backend, saves: Sequence[Sequence[tuple[int, int, int, bool]]]
    ) -> None:
        first, held = next(_EXAMPLES), dict[str, Record]()
        for save in saves:
            batch = [
                tombstone(str(first + key), seq, epoch=epoch)
                if deleted
                else self.put(str(first + key), seq, epoch * 100 + seq, epoch=epoch)
                for key, epoch, seq, deleted in save
            ]
            newer = [record for record in batch if record.key not in held or held[record.key].version < record.version]
            assert await backend.save(batch) == len(batch) - len(newer)
            held.update(by_key(*newer))
        assert view(await backend.load([str(first + key) for key in range(4)])) == view(held)


__all__ = ["VersionContract", "version"]
