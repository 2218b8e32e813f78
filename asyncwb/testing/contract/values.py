"""The contract: keys, values and batches go in and come out as they are."""

import pytest

from asyncwb.backend import Backend
from asyncwb.errors import RecordRejected, SaveError
from asyncwb.records import Record
from asyncwb.testing.contract.base import ContractBase, by_key, requires, same, tombstone, version

_VALUES = {
    "object": Record("k", version(1), b'{"name":"Ada","visits":1}'),
    "nested": Record("k", version(1), b'{"a":{"b":[1,{"c":null}],"d":{}},"e":[]}'),
    "empty object": Record("k", version(1), b"{}"),
    "odd fields": Record("k", version(1), b'{"$set":{"a.b":1},"x.y":"$z","":0,"$ref":"r","$id":2,"_id":3,"key":4}'),
    "fields of the backend": Record("k", version(1), b'{"_asyncwb":{"v":9},"value":1,"version":2,"deleted":true}'),
    "string": Record("k", version(1), b'"text"'),
    "empty string": Record("k", version(1), b'""'),
    "null in an array": Record("k", version(1), b"[null]"),
    "boolean": Record("k", version(1), b"true"),
    "whole number": Record("k", version(1), b"-9007199254740993"),
    "huge number": Record("k", version(1), b'{"n":18446744073709551615}'),
    "number": Record("k", version(1), b"1.5e300"),
    "whole float": Record("k", version(1), b'{"n":1.0}'),
    "unicode": Record("k", version(1), '{"ü":"日本🙂\\u0000"}'.encode()),
    "nul in a field": Record("k", version(1), b'{"a\\u0000b":1}'),
    "deep": Record("k", version(1), b'{"a":' * 300 + b"1" + b"}" * 300),
    "msgpack": Record("k", version(1), b"\x81\xa1a\x01", codec="msgpack"),
    "bytes": Record("k", version(1), bytes(range(256)), codec="bytes"),
    "empty": Record("k", version(1), b"", codec="bytes"),
}


class ValueContract(ContractBase):
    """Keys, values and batches."""

    async def test_limits_make_sense(self, backend: Backend) -> None:
        limits = backend.limits
        assert limits.max_batch >= 1
        assert limits.preferred_batch >= 1
        assert limits.concurrent_saves >= 1
        assert limits.max_value_bytes is None or limits.max_value_bytes >= 1

    async def test_save_then_load_gives_the_record_back(self, backend: Backend) -> None:
        assert await backend.save([self.put("1", 1)]) == 0
        assert same(await backend.load(["1"]), by_key(self.put("1", 1)))

    async def test_key_that_was_never_saved_is_not_found(self, backend: Backend) -> None:
        await backend.save([self.put("1", 1)])
        assert await backend.load(["2"]) == {}
        assert set(await backend.load(["3", "1", "2"])) == {"1"}

    async def test_key_that_is_asked_for_twice_is_found(self, backend: Backend) -> None:
        await backend.save([self.put("1", 1)])
        assert set(await backend.load(["1", "1"])) == {"1"}

    async def test_what_is_loaded_durably_is_what_is_loaded(self, backend: Backend) -> None:
        """Where there is a method `load_durable`, which `flush` asks."""
        load_durable = getattr(backend, "load_durable", backend.load)
        await backend.save([self.put("1", 1), tombstone("2", 2)])
        assert same(await load_durable(["1", "2", "3"]), await backend.load(["1", "2", "3"]))
        assert await load_durable([]) == await load_durable(["3"]) == {}

    async def test_nothing_to_save_or_load_is_fine(self, backend: Backend) -> None:
        assert await backend.save([]) == 0
        assert await backend.load([]) == {}

    @requires("any_value")
    @pytest.mark.parametrize("record", _VALUES.values(), ids=_VALUES)
    async def test_value_and_codec_survive(self, backend: Backend, record: Record) -> None:
        assert await backend.save([record]) == 0
        assert same(await backend.load(["k"]), {"k": record})
        # And it can be replaced by anything else.
        assert await backend.save([Record("k", version(2), b"7")]) == 0
        assert same(await backend.load(["k"]), {"k": Record("k", version(2), b"7")})

    @requires("any_key")
    async def test_every_legal_key_is_its_own(self, backend: Backend) -> None:
        records = [self.put(key, number + 1) for number, key in enumerate(self.keys())]
        for start in range(0, len(records), 20):
            assert await backend.save(records[start : start + 20]) == 0
        assert same(await backend.load(self.keys()), by_key(*records))
        for record in records:
            assert same(await backend.load([record.key]), by_key(record)), repr(record.key)
        dead = [tombstone(key, 1000 + number) for number, key in enumerate(self.keys()) if number % 2]
        assert await backend.save(dead) == 0
        assert same(await backend.load(self.keys()), by_key(*records, *dead))

    async def test_large_value_survives(self, backend: Backend) -> None:
        size = min(2**20, (backend.limits.max_value_bytes or 2**30) // 2)
        records = [self.put("1", 1, size=size), self.put("2", 1)]
        assert await backend.save(records) == 0
        assert same(await backend.load(["1", "2"]), by_key(*records))

    async def test_value_of_the_largest_size_survives(self, backend: Backend) -> None:
        size = min(16 * 2**20, backend.limits.max_value_bytes or 2**30) - len(self.put("1", 1).payload)
        assert await backend.save([self.put("1", 1, size=size)]) == 0
        assert same(await backend.load(["1"]), by_key(self.put("1", 1, size=size)))

    async def test_batch_of_the_largest_size_is_saved(self, backend: Backend) -> None:
        records = [self.put(str(number), number + 1) for number in range(backend.limits.max_batch)]
        assert await backend.save(records) == 0
        assert same(await backend.load([record.key for record in records]), by_key(*records))
        assert await backend.save(records) == len(records)

    async def test_key_may_occur_twice_in_a_batch(self, backend: Backend) -> None:
        for key, order in (("1", (1, 2, 3)), ("2", (3, 2, 1)), ("3", (2, 3, 1))):
            await backend.save([self.put(key, seq) for seq in order])
            assert same(await backend.load([key]), by_key(self.put(key, 3)))
        await backend.save([self.put("4", 1), tombstone("4", 2), self.put("4", 3), tombstone("5", 2), self.put("5", 1)])
        assert same(await backend.load(["4", "5"]), by_key(self.put("4", 3), tombstone("5", 2)))

    async def test_poison_fails_alone(self, backend: Backend) -> None:
        for number, poison in enumerate(self.poison()):
            before, after = self.put(str(number), 1), self.put(str(1000 + number), 1)
            with pytest.raises(SaveError) as caught:
                await backend.save([before, poison, after])
            assert set(caught.value.failed) == {poison.key}, f"poison {number}"
            assert isinstance(caught.value.failed[poison.key], RecordRejected), "is never tried again"
            assert caught.value.stale == 0
            assert same(await backend.load([before.key, after.key]), by_key(before, after))
            with pytest.raises(SaveError) as caught:
                await backend.save([poison, before, after])
            assert caught.value.stale == 2
            with pytest.raises(SaveError):
                await backend.save([poison])
            assert poison.key not in await backend.load([key for key in (poison.key,) if _is_text(key)])


def _is_text(key: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in key)
