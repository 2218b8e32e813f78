"""What all parts of the contract share: how a backend is made, and what it may declare that it can't do."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, TypeVar

import msgspec
import pytest

from asyncwb.backend import Backend
from asyncwb.codecs import Codec
from asyncwb.records import Record
from asyncwb.registry import backend_from_url
from asyncwb.testing.contract.records import KEYS, NAMESPACE, tombstone, version

F = TypeVar("F", bound=Callable[..., Any])

ABILITIES: Final[Mapping[str, str]] = {
    "persistence": "what was saved is there after the backend, or its process, has ended",
    "sharing": "several objects and processes use one storage",
    "highest": "it finds the highest version that is stored, within a few seconds",
    "servers": "it keeps which Redis server began which epoch",
    "progress": "a process that is frozen in the middle of a save holds up nobody",
    "clock": "tombstones live their time although the clock of a process is days ahead or behind",
    "any_value": "it takes every value: JSON of any shape, msgpack and bytes",
    "any_key": "it takes every key: 1 byte to 1 KiB of UTF-8",
}
"""What a backend may declare that it can't do by its nature, in `cannot`."""


def requires(*abilities: str) -> Callable[[F], F]:
    """Marks a test that a backend without one of these abilities needn't pass."""
    assert ABILITIES.keys() >= set(abilities)

    def mark(test: F) -> F:
        test.requires = abilities  # type: ignore[attr-defined]
        return test

    return mark


class ContractBase:
    """How tests make backends and records; everything here may be overridden.

    Attributes:
        cannot: ability (see `ABILITIES`) -> why this backend hasn't got it.
    """

    cannot: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture
    def url(self) -> str:
        """Override: names a storage that is empty, and the place in it: another namespace has to be led there, too."""
        raise NotImplementedError("give the contract a fixture `url` that names an empty storage")

    def make_backend(self, url: str) -> Backend:
        """A backend on the storage, not open. Called in other processes, too, on a fresh object of this class."""
        return backend_from_url(url, codec=Codec("json"))

    def value(self, number: int, size: int = 0) -> Any:
        """A value that JSON can hold, different for each number, with a text of `size` characters."""
        return {"n": number, "text": "x" * size}

    def keys(self) -> Sequence[str]:
        """Keys that are likely to break something."""
        return tuple(dict.fromkeys(KEYS))

    def poison(self) -> Sequence[Record]:
        """Records that this backend can't store, if there are any."""
        return ()

    def put(self, key: str, seq: int, number: int | None = None, *, epoch: int = 1, size: int = 0) -> Record:
        """A record with the value of `number`, by default of its sequence number."""
        value = self.value(seq if number is None else number, size)
        return Record(key, version(seq, epoch), msgspec.json.encode(value))

    @pytest.fixture(autouse=True)
    def _exemption(self, request: pytest.FixtureRequest) -> None:
        unknown = self.cannot.keys() - ABILITIES.keys()
        assert not unknown, f"cannot: unknown {sorted(unknown)}; there are {', '.join(ABILITIES)}"
        for ability in getattr(request.function, "requires", ()):
            if ability in self.cannot:
                pytest.skip(f"{type(self).__name__} declares that it hasn't got {ability!r}: {self.cannot[ability]}")

    @pytest.fixture
    async def backend(self, url: str) -> AsyncIterator[Backend]:
        """Open and empty."""
        backend = self.make_backend(url)
        try:
            await backend.open(namespace=NAMESPACE)
            yield backend
        finally:
            await backend.close()


def same(found: Mapping[str, Record], expected: Mapping[str, Record]) -> bool:
    """Whether two sets of records are equal, the bytes of JSON and msgpack payloads apart."""
    return found.keys() == expected.keys() and all(_image(found[key]) == _image(expected[key]) for key in expected)


def _image(record: Record) -> object:
    if record.deleted:
        return record.key, record.version
    # Encoded again, so that 1, 1.0 and True are told apart, and so is the order of fields.
    value = record.payload if record.codec == "bytes" else msgspec.msgpack.encode(record.value)
    return record.key, record.version, record.codec, value


def by_key(*records: Record) -> dict[str, Record]:
    """Records as `load` returns them."""
    return {record.key: record for record in records}


__all__ = ["ABILITIES", "NAMESPACE", "ContractBase", "by_key", "requires", "same", "tombstone", "version"]
