"""The contract: a record that is based on a version applies only if exactly that version is stored."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncwb.backend import Backend
from asyncwb.errors import SaveError
from asyncwb.records import Record, Version
from asyncwb.testing.contract.base import ContractBase, requires, tombstone
from asyncwb.testing.contract.records import on
from asyncwb.testing.contract.views import view, view_of

_EXAMPLES = itertools.count(5000, 10)
_BATCHES = st.lists(
    st.lists(
        st.tuples(st.integers(0, 3), st.none() | st.integers(0, 2), st.booleans()),
        max_size=5,
        unique_by=lambda save: save[0],
    ),
    max_size=10,
)
"""Batches of (key, which of the key's last versions it is based on, whether it deletes)."""


class BasedOnContract(ContractBase):
    """Records with `based_on`. A backend that doesn't know it is asked for no updates, and is skipped here."""

    async def test_support_of_based_on_is_declared(self, backend: Backend) -> None:
        """Without the attribute asyncwb takes no updates; with it, `save` has to keep to `Record.based_on`."""
        declared = getattr(backend, "supports_based_on", False)
        if "based_on" in self.cannot:
            assert declared is False, "it declares supports_based_on, so 'based_on' can't be in `cannot`"
        else:
            assert declared is True, (
                "let `save` keep to Record.based_on and set supports_based_on = True, or declare in `cannot` why it "
                "hasn't got the ability 'based_on'"
            )

    @requires("based_on")
    async def test_record_applies_to_exactly_the_version_that_it_is_based_on(self, backend: Backend) -> None:
        await backend.save([self.put("1", 5)])
        assert await backend.save([on(5, self.put("1", 6))]) == 0
        assert await backend.save([on(5, self.put("1", 9))]) == 1, "a newer one is stored"
        assert await backend.save([on(8, self.put("1", 9))]) == 1, "an older one is stored"
        assert view(await backend.load(["1"])) == view_of(self.put("1", 6))
        assert await backend.save([on(6, self.put("1", 9))]) == 0
        assert view(await backend.load(["1"])) == view_of(self.put("1", 9))

    @requires("based_on")
    async def test_record_based_on_nothing_applies_only_where_nothing_is_stored(self, backend: Backend) -> None:
        assert await backend.save([on(0, self.put("1", 5))]) == 0
        assert await backend.save([on(0, self.put("1", 6))]) == 1
        assert view(await backend.load(["1"])) == view_of(self.put("1", 5))

    @requires("based_on")
    async def test_record_based_on_a_version_does_not_apply_where_nothing_is_stored(self, backend: Backend) -> None:
        assert await backend.save([on(5, self.put("1", 6)), on(5, tombstone("2", 6))]) == 2
        assert view(await backend.load(["1", "2"])) == {}
        assert await backend.save([self.put("1", 3), self.put("2", 3)]) == 0

    @requires("based_on")
    async def test_tombstone_counts_with_its_version(self, backend: Backend) -> None:
        await backend.save([self.put("1", 4)])
        await backend.save([tombstone("1", 5), tombstone("2", 5)])
        for wrong in (0, 4, 6):
            assert await backend.save([on(wrong, self.put("1", 7)), on(wrong, self.put("2", 7))]) == 2
        assert view(await backend.load(["1", "2"])) == view_of(tombstone("1", 5), tombstone("2", 5))
        assert await backend.save([on(5, self.put("1", 7)), on(5, tombstone("2", 7))]) == 0
        assert view(await backend.load(["1", "2"])) == view_of(self.put("1", 7), tombstone("2", 7))

    @requires("based_on")
    async def test_delete_applies_to_exactly_the_version_that_it_is_based_on(self, backend: Backend) -> None:
        await backend.save([self.put("1", 5)])
        for wrong in (0, 4, 6):
            assert await backend.save([on(wrong, tombstone("1", 7))]) == 1
        assert view(await backend.load(["1"])) == view_of(self.put("1", 5))
        assert await backend.save([on(5, tombstone("1", 7)), on(0, tombstone("2", 7))]) == 0
        assert view(await backend.load(["1", "2"])) == view_of(tombstone("1", 7), tombstone("2", 7))
        assert await backend.save([self.put("1", 6), self.put("2", 6)]) == 2, "the tombstones stop older saves"

    @requires("based_on")
    async def test_value_without_a_version_counts_as_version_0(self, backend: Backend, url: str) -> None:
        """What was there before asyncwb may be updated, but isn't what a version was worked out from."""
        for key in ("1", "2"):
            await self.add_unversioned(backend, url, key)
        found = await backend.load(["1", "2"])
        assert {key: (record.version, record.deleted) for key, record in found.items()} == {
            "1": (0, False),
            "2": (0, False),
        }
        assert await backend.save([on(5, self.put("1", 6)), on(5, tombstone("2", 6))]) == 2
        assert view(await backend.load(["1", "2"])) == view(found)
        assert await backend.save([on(0, self.put("1", 6)), on(0, tombstone("2", 6))]) == 0
        assert view(await backend.load(["1", "2"])) == view_of(self.put("1", 6), tombstone("2", 6))

    @requires("based_on")
    async def test_repeating_a_save_with_a_base_changes_nothing(self, backend: Backend) -> None:
        """It is stale, since its own version is stored, or a newer one: that is how a lost answer is made up for."""
        await backend.save([self.put("1", 5), self.put("3", 5)])
        records = [on(5, self.put("1", 6)), on(0, self.put("2", 6)), on(5, tombstone("3", 6))]
        assert await backend.save(records) == 0
        assert await backend.save(records) == 3
        kept = [self.put("1", 6), self.put("2", 6), tombstone("3", 6)]
        assert view(await backend.load(["1", "2", "3"])) == view_of(*kept)
        await backend.save([on(6, self.put("1", 7))])
        assert await backend.save(records) == 3
        assert view(await backend.load(["1", "2", "3"])) == view_of(self.put("1", 7), *kept[1:])

    @requires("based_on")
    async def test_base_is_compared_in_all_its_bits(self, backend: Backend) -> None:
        await backend.save([self.put("1", 5, epoch=2), self.put("2", 2**32 - 2, epoch=2**31 - 1)])
        highest = self.put("2", 2**32 - 1, epoch=2**31 - 1)
        assert await backend.save([on(5, self.put("1", 6, epoch=3), epoch=1)]) == 1
        assert await backend.save([on(2**32 - 3, highest, epoch=2**31 - 1)]) == 1
        assert await backend.save([on(5, self.put("1", 6, epoch=3), epoch=2)]) == 0
        assert await backend.save([on(2**32 - 2, highest, epoch=2**31 - 1)]) == 0
        assert view(await backend.load(["1", "2"])) == view_of(self.put("1", 6, epoch=3), highest)

    @requires("based_on")
    async def test_batch_of_records_with_and_without_a_base_counts_only_the_stale(self, backend: Backend) -> None:
        await backend.save([self.put(str(number), 5) for number in range(1, 7)])
        batch = [
            self.put("1", 6), on(5, self.put("2", 6)), self.put("3", 4), on(4, self.put("4", 6)), tombstone("5", 6),
            on(5, tombstone("6", 6)), on(0, self.put("7", 6)), on(5, self.put("8", 6)), self.put("9", 6),
        ]  # fmt: skip
        assert await backend.save(batch) == 3
        assert view(await backend.load([str(number) for number in range(1, 10)])) == view_of(
            self.put("1", 6), self.put("2", 6), self.put("3", 5), self.put("4", 5), tombstone("5", 6),
            tombstone("6", 6), self.put("7", 6), self.put("9", 6),
        )  # fmt: skip
        assert await backend.save(batch) == len(batch)

    @requires("based_on")
    async def test_base_is_not_stored(self, backend: Backend) -> None:
        await backend.save([on(0, self.put("1", 5)), on(0, tombstone("2", 5))])
        assert [record.based_on for record in (await backend.load(["1", "2"])).values()] == [None, None]

    @requires("based_on")
    async def test_poison_fails_alone_among_records_with_a_base(self, backend: Backend) -> None:
        for number, poison in enumerate(self.poison_or_skip()):
            keys = [str(1000 * part + number) for part in range(1, 4)]
            await backend.save([self.put(keys[0], 5), self.put(keys[1], 5)])
            batch = [on(5, self.put(keys[0], 6)), poison, on(4, self.put(keys[1], 6)), on(0, self.put(keys[2], 6))]
            with pytest.raises(SaveError) as caught:
                await backend.save(batch)
            assert set(caught.value.failed) == {poison.key}, f"poison {number}: {poison}"
            assert caught.value.stale == 1
            assert view(await backend.load(keys)) == view_of(
                self.put(keys[0], 6), self.put(keys[1], 5), self.put(keys[2], 6)
            )

    @requires("based_on")
    @given(batches=_BATCHES)
    @settings(
        max_examples=30,
        deadline=None,
        database=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,  # each example has keys of its own
            HealthCheck.differing_executors,
            HealthCheck.too_slow,
        ],
    )
    async def test_saves_with_bases_in_any_order_do_what_each_would_do_alone(
        self, backend: Backend, batches: Sequence[Sequence[tuple[int, int | None, bool]]]
    ) -> None:
        first, held = next(_EXAMPLES), dict[str, Record]()
        versions: dict[str, list[Version]] = {}
        for seq, batch in enumerate(batches, 1):
            records, stale = [], 0
            for number, base, deleted in batch:
                key = str(first + number)
                record = tombstone(key, seq) if deleted else self.put(key, seq)
                seen = versions.setdefault(key, [0, 0, 0])
                if base is None:
                    applies = True
                    records.append(record)
                else:
                    records.append(on(seen[~base] & 0xFFFFFFFF, record))
                    applies = records[-1].based_on == (held[key].version if key in held else 0)
                seen.append(record.version)
                stale += not applies
                if applies:
                    held[key] = record
            assert await backend.save(records) == stale
        assert view(await backend.load([str(first + number) for number in range(4)])) == view(held)
