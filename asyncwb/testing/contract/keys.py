"""The contract: no key is confused with another."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar

import pytest

from asyncwb.backend import Backend
from asyncwb.records import Record
from asyncwb.testing.contract import collisions
from asyncwb.testing.contract.base import ContractBase, by_key, requires, tombstone
from asyncwb.testing.contract.views import view, view_of

T = TypeVar("T")

_AT_ONCE: Final = 100


class KeyContract(ContractBase):
    """Keys."""

    @requires("any_key")
    async def test_every_legal_key_is_its_own(self, backend: Backend) -> None:
        await self._are_different(backend, [self.keys()])

    @requires("any_key")
    async def test_keys_that_differ_only_in_blanks_are_different(self, backend: Backend) -> None:
        """Mainly trailing blanks: most collations of SQL databases ignore them in comparisons."""
        await self._are_different(backend, collisions.BLANKS)

    @requires("any_key")
    async def test_keys_that_differ_only_in_case_accents_or_unicode_form_are_different(self, backend: Backend) -> None:
        """The collations of most databases fold something; a column of bytes, or a binary collation, folds nothing."""
        await self._are_different(backend, collisions.LETTERS)

    @requires("any_key")
    async def test_keys_that_differ_only_in_how_they_are_written_are_different(self, backend: Backend) -> None:
        """Numbers, paths, escapes, patterns."""
        await self._are_different(backend, collisions.WRITTEN)

    @requires("any_key")
    async def test_long_keys_that_differ_only_in_one_place_are_different(self, backend: Backend) -> None:
        """A storage that shortens keys cuts off their ends."""
        await self._are_different(backend, collisions.cut())

    @requires("any_key")
    async def test_keys_with_the_same_short_hash_are_different(self, backend: Backend) -> None:
        """32 bits are too few: among 77,000 keys, two are likely to have the same ones."""
        await self._are_different(backend, collisions.of_short_hashes())

    @requires("any_key")
    async def test_short_key_that_is_the_hash_of_a_long_one_is_different(self, backend: Backend) -> None:
        """If long keys are stored under a hash, no short key may be stored under the same name."""
        await self._are_different(backend, collisions.of_hashes())

    async def _are_different(self, backend: Backend, families: Iterable[Sequence[str]]) -> None:
        """Checks that each key can be saved, found and deleted without affecting the others."""
        most = min(_AT_ONCE, backend.limits.max_batch)
        keys = list(dict.fromkeys(key for family in families for key in family))
        records = [self.put(key, number) for number, key in enumerate(keys, 1)]
        stale = sum([await backend.save(batch) for batch in _parts(records, most)])
        found: dict[str, Record] = {}
        for some in _parts(keys, most):
            found.update(await backend.load(some))
        if stale or view(found) != view_of(*records):
            await self._tell(backend, records, stale)
        for record in records[:: max(1, len(records) // 20)]:
            assert view(await backend.load([record.key])) == view_of(record), f"key {record.key!r} alone"
        dead = [tombstone(key, len(keys) + number) for number, key in enumerate(keys, 1) if number % 2]
        for batch in _parts(dead, most):
            assert await backend.save(batch) == 0
        left = {**by_key(*records), **by_key(*dead)}
        for some in _parts(keys, most):
            loaded = await backend.load(some)
            assert view(loaded) == view({key: left[key] for key in some}), "after every second one was deleted"

    async def _tell(self, backend: Backend, records: Sequence[Record], stale: int) -> None:
        """Fails with a message that names the keys that are confused with one another."""
        told = []
        names = {_content(each): each.key for each in records}
        for record in records:
            found = (await backend.load([record.key])).get(record.key)
            if found is None:
                told.append(f"key {record.key!r} was saved and isn't found")
            elif _content(found) != _content(record):
                other = names.get(_content(found))
                told.append(
                    f"keys {record.key!r} and {other!r} are one: the first gives what was saved as the second"
                    if other is not None
                    else f"key {record.key!r} gives {view({'': found})['']} instead of {view({'': record})['']}"
                )
        told = told or [f"{stale} of {len(records)} different new keys were said to be stale"]
        pytest.fail("\n".join(told[:10] + ([f"and {len(told) - 10} more"] if len(told) > 10 else [])))


def _content(record: Record) -> object:
    return record.version, record.codec, record.payload if record.codec == "bytes" else repr(record.value)


def _parts(items: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), most):
        yield items[start : start + most]
