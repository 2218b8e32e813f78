"""The contract: keys, values and batches come back unchanged."""

import re
from typing import Final

import pytest

from asyncwb.backend import Backend
from asyncwb.errors import RecordRejected, SaveError
from asyncwb.records import Record
from asyncwb.testing.contract.base import ContractBase, requires, tombstone, version
from asyncwb.testing.contract.views import view, view_of

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

_ESCAPED: Final = b"'\\\"\\u0000"
"""Characters, as JSON writes them, that take more bytes as text inside a statement or another document."""
_MOST_BYTES: Final = 16 * 2**20
"""The largest value, unless a user of asyncwb sets another limit."""


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
        assert view(await backend.load(["1"])) == view_of(self.put("1", 1))

    async def test_key_that_was_never_saved_is_not_found(self, backend: Backend) -> None:
        await backend.save([self.put("1", 1)])
        assert await backend.load(["2"]) == {}
        assert set(await backend.load(["3", "1", "2"])) == {"1"}

    async def test_key_that_is_asked_for_twice_is_found(self, backend: Backend) -> None:
        await backend.save([self.put("1", 1)])
        assert set(await backend.load(["1", "1"])) == {"1"}

    async def test_what_is_loaded_durably_is_what_is_loaded(self, backend: Backend) -> None:
        """Tests the method `load_durable`, which `flush` calls, if the backend has it."""
        load_durable = getattr(backend, "load_durable", None)
        if load_durable is None:
            pytest.skip("it has no method load_durable, so that load shows only what is durable")
        records = [self.put("1", 1), tombstone("2", 2)]
        await backend.save(records)
        assert view(await load_durable(["1", "2", "3"])) == view_of(*records)
        assert await load_durable([]) == await load_durable(["3"]) == {}

    async def test_nothing_to_save_or_load_is_fine(self, backend: Backend) -> None:
        assert await backend.save([]) == 0
        assert await backend.load([]) == {}

    @requires("any_value")
    @pytest.mark.parametrize("record", _VALUES.values(), ids=_VALUES)
    async def test_value_and_codec_survive(self, backend: Backend, record: Record) -> None:
        assert await backend.save([record]) == 0
        assert view(await backend.load(["k"])) == view({"k": record})
        # And it can be replaced by anything else.
        assert await backend.save([Record("k", version(2), b"7")]) == 0
        assert view(await backend.load(["k"])) == view({"k": Record("k", version(2), b"7")})

    async def test_large_value_survives(self, backend: Backend) -> None:
        size = min(2**20, (backend.limits.max_value_bytes or 2**30) // 2)
        records = [self.put("1", 1, size=size), self.put("2", 1)]
        assert await backend.save(records) == 0
        assert view(await backend.load(["1", "2"])) == view_of(*records)

    async def test_value_of_the_largest_size_survives(self, backend: Backend) -> None:
        """The value is stored under the longest key, too."""
        record = self._largest(backend)
        assert await backend.save([record]) == 0
        assert view(await backend.load([record.key])) == view_of(record)

    async def test_value_of_the_largest_size_may_be_of_what_is_escaped(self, backend: Backend) -> None:
        """Quotes, backslashes and NULs take several bytes each as text inside a statement or a document."""
        record = self._largest(backend)
        filling = re.search(rb"x{2,}", record.payload)
        if filling is None:
            pytest.skip("value(number, size) gives no text of x, which could be replaced")
        size = len(filling[0])
        text = (_ESCAPED * (size // len(_ESCAPED))).ljust(size, b"x")
        record = Record(record.key, record.version, record.payload.replace(filling[0], text, 1))
        assert await backend.save([record]) == 0
        assert view(await backend.load([record.key])) == view_of(record)

    @requires("any_value")
    async def test_bytes_of_the_largest_size_may_be_nuls(self, backend: Backend) -> None:
        """If bytes are written as text, a NUL takes up to six characters."""
        record = Record("1", version(1), bytes(_largest_size(backend)), codec="bytes")
        assert await backend.save([record]) == 0
        assert view(await backend.load(["1"])) == view_of(record)

    def _largest(self, backend: Backend) -> Record:
        key = "1" if "any_key" in self.cannot else "k" * 1024
        return self.put(key, 1, size=_largest_size(backend) - len(self.put(key, 1).payload))

    async def test_batch_of_the_largest_size_is_saved(self, backend: Backend) -> None:
        records = [self.put(str(number), number + 1) for number in range(backend.limits.max_batch)]
        assert await backend.save(records) == 0
        assert view(await backend.load([record.key for record in records])) == view_of(*records)
        assert await backend.save(records) == len(records)

    async def test_key_may_occur_twice_in_a_batch(self, backend: Backend) -> None:
        for key, order in (("1", (1, 2, 3)), ("2", (3, 2, 1)), ("3", (2, 3, 1))):
            await backend.save([self.put(key, seq) for seq in order])
            assert view(await backend.load([key])) == view_of(self.put(key, 3))
        await backend.save([self.put("4", 1), tombstone("4", 2), self.put("4", 3), tombstone("5", 2), self.put("5", 1)])
        assert view(await backend.load(["4", "5"])) == view_of(self.put("4", 3), tombstone("5", 2))

    async def test_poison_fails_alone(self, backend: Backend) -> None:
        for number, poison in enumerate(self.poison_or_skip()):
            before, after = self.put(str(number), 1), self.put(str(1000 + number), 1)
            with pytest.raises(SaveError) as caught:
                await backend.save([before, poison, after])
            assert set(caught.value.failed) == {poison.key}, f"poison {number}: {poison}"
            reason = caught.value.failed[poison.key]
            assert isinstance(reason, RecordRejected), f"{reason!r} means that it is tried again and again"
            assert caught.value.stale == 0
            assert view(await backend.load([before.key, after.key])) == view_of(before, after)
            with pytest.raises(SaveError) as caught:
                await backend.save([poison, before, after])
            assert caught.value.stale == 2
            with pytest.raises(SaveError):
                await backend.save([poison])
            assert poison.key not in await backend.load([key for key in (poison.key,) if _is_text(key)])


def _largest_size(backend: Backend) -> int:
    return min(_MOST_BYTES, backend.limits.max_value_bytes or _MOST_BYTES)


def _is_text(key: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in key)
