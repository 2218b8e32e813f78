"""What all parts of the contract share: how a backend is made, and what it may declare itself unable to do."""

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final, TypeVar

import msgspec
import pytest

from asyncwb.backend import Backend
from asyncwb.codecs import Codec
from asyncwb.plugins.registry import backend_from_url
from asyncwb.records import MAX_SEQ, Record
from asyncwb.testing.contract.outage import Outage
from asyncwb.testing.contract.records import KEYS, NAMESPACE, on, tombstone, version
from asyncwb.testing.contract.timelimit import bound, bounded

_OPEN_SECONDS: Final = 30.0
"""For `open` and `close`: asyncwb allows them 5, but the machine that tests run on may be slow."""

F = TypeVar("F", bound=Callable[..., Any])

ABILITIES: Final[Mapping[str, str]] = {
    "persistence": "what was saved is there after the backend, or its process, has ended",
    "sharing": "several objects and processes use one storage",
    "highest": "it finds the highest version that is stored, within a few seconds",
    "servers": "it keeps which Redis server began which epoch",
    "progress": "a process that is frozen in the middle of a save holds up nobody",
    "clock": "tombstones live their time although the clock of a process is days ahead or behind",
    "based_on": "it saves a record that is based on a version only onto that version, so that there are updates",
    "any_value": "it takes every value: JSON of any shape, msgpack and bytes",
    "any_key": "it takes every key: 1 byte to 1 KiB of UTF-8",
}
"""Abilities that a backend may lack by its nature, and may then declare in `cannot`."""


def requires(*abilities: str) -> Callable[[F], F]:
    """Marks a test to be skipped for a backend that lacks one of these abilities."""
    assert ABILITIES.keys() >= set(abilities)

    def mark(test: F) -> F:
        test.requires = abilities  # type: ignore[attr-defined]
        return test

    return mark


class ContractBase:
    """How the tests make backends and records; everything here may be overridden.

    Attributes:
        cannot: ability (see `ABILITIES`) -> why this backend lacks it.
        time_limit_seconds: a test that takes longer fails, and says where it hung.
        tombstone_seconds: how long this backend keeps a tombstone.
        purge_seconds: how long purging what `let_time_pass` has made old enough may take, while saves go on.
    """

    cannot: ClassVar[Mapping[str, str]] = {}
    time_limit_seconds: ClassVar[float] = 120.0
    tombstone_seconds: ClassVar[float] = 86_400.0
    purge_seconds: ClassVar[float] = 10.0

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, test in list(vars(cls).items()):
            if name.startswith("test_"):
                setattr(cls, name, bound(test))

    @pytest.fixture
    def url(self) -> str:
        """Override: the URL of an empty storage and of a place in it, the same one whatever the namespace is."""
        raise NotImplementedError("give the contract a fixture `url` that names an empty storage")

    @pytest.fixture
    def outage(self) -> Outage:
        """Override if the storage can be made to fail: says how. Otherwise the tests of outages are skipped.

        For example, with a server that the tests have started::

            @pytest.fixture
            def outage(self):
                return Outage(
                    stop=server.kill,
                    start=server.start,
                    freeze=lambda: os.kill(server.pid, signal.SIGSTOP),
                    thaw=lambda: os.kill(server.pid, signal.SIGCONT),
                )
        """
        pytest.skip(
            f"{type(self).__name__} doesn't tell how its storage fails: override the fixture `outage`, as in "
            "`return Outage(stop=server.kill, start=server.start, freeze=server.freeze, thaw=server.thaw)`"
        )

    async def let_time_pass(self, backend: Backend, url: str, seconds: float) -> None:  # noqa: ARG002 - to be overridden
        """Override: makes everything in the storage older by so many seconds, and makes the next purge due.

        For example, UPDATE the dates of all rows, or set the clock that the backend reads. If a timer decides when the
        backend purges, make it expire.

        Args:
            backend: an open backend.
            url: the URL of its storage.
            seconds: by how much everything becomes older.
        """
        pytest.skip(
            f"{type(self).__name__} doesn't tell how time passes: override `async def let_time_pass(self, backend, "
            "url, seconds)` so that it makes all tombstones that much older and a purge due, for example by an UPDATE"
        )

    async def add_unversioned(self, backend: Backend, url: str, key: str) -> None:  # noqa: ARG002 - to be overridden
        """Override if other programs may write into the storage: adds a value for the key as they would.

        Such a value has no version, so `load` returns it with version 0. For example, INSERT a row.

        Args:
            backend: an open backend.
            url: the URL of its storage.
            key: a key that isn't stored yet.
        """
        pytest.skip(
            f"{type(self).__name__} doesn't tell how other programs write into its storage: override "
            "`async def add_unversioned(self, backend, url, key)` if they may, for example by an INSERT"
        )

    def make_backend(self, url: str) -> Backend:
        """Returns an unopened backend for the storage; other processes call it too, on new objects of this class."""
        return backend_from_url(url, codec=Codec("json"))

    def value(self, number: int, size: int = 0) -> Any:
        """Returns a value that JSON can hold, different for each number, with a text of `size` characters."""
        return {"n": number, "text": "x" * size}

    def keys(self) -> Sequence[str]:
        """Returns keys that are likely to break something."""
        return tuple(dict.fromkeys(KEYS))

    def poison(self) -> Sequence[Record]:
        """Returns records that this backend can't store, if there are any."""
        return ()

    def poison_or_skip(self) -> Sequence[Record]:
        """Returns the records of `poison`, or skips the test if there are none."""
        return self.poison() or pytest.skip(
            f"{type(self).__name__} names no record that its backend can't store: override poison() if there are any"
        )

    def put(self, key: str, seq: int, number: int | None = None, *, epoch: int = 1, size: int = 0) -> Record:
        """Returns a record with the value for `number`, which by default is the sequence number."""
        value = self.value(seq if number is None else number, size)
        return Record(key, version(seq, epoch), msgspec.json.encode(value))

    async def count_up(self, backend: Backend, key: str, times: int) -> int:
        """Saves so many records of a key, each based on what is stored, and each counting one up.

        The count is the sequence number without its last three digits, which are random: of two records with the same
        count one is newer, and would replace the other where only that is looked at.

        Args:
            backend: an open backend.
            key: the key. Several tasks or processes may count it up at the same time.
            times: how often; a save that is stale is tried again on what is stored then.

        Returns:
            How many saves were stale.
        """
        stale = 0
        for _ in range(times):
            while True:
                found = (await backend.load([key])).get(key)
                seq = found.version & MAX_SEQ if found is not None else 0
                following = (seq // 1000 + 1) * 1000 + secrets.randbelow(1000)
                if await backend.save([on(seq, self.put(key, following))]) == 0:
                    break
                stale += 1
        return stale

    @pytest.fixture(autouse=True)
    def _exemption(self, request: pytest.FixtureRequest) -> None:
        unknown = self.cannot.keys() - ABILITIES.keys()
        assert not unknown, f"cannot: unknown {sorted(unknown)}; there are {', '.join(ABILITIES)}"
        for ability in getattr(request.function, "requires", ()):
            if ability in self.cannot:
                pytest.skip(f"{type(self).__name__} declares that it hasn't got {ability!r}: {self.cannot[ability]}")

    @pytest.fixture
    async def backend(self, url: str) -> AsyncIterator[Backend]:
        """An open, empty backend."""
        async with self.opened(url) as backend:
            yield backend

    @asynccontextmanager
    async def opened(self, url: str, namespace: str = NAMESPACE) -> AsyncIterator[Backend]:
        """Opens another backend on the same storage, and closes it at the end of the block."""
        backend = self.make_backend(url)
        try:
            async with bounded("open", _OPEN_SECONDS):
                await backend.open(namespace=namespace)
            yield backend
        finally:
            async with bounded("close", _OPEN_SECONDS):
                await backend.close()


def by_key(*records: Record) -> dict[str, Record]:
    """Returns key -> record, as `load` does."""
    return {record.key: record for record in records}


__all__ = ["ABILITIES", "NAMESPACE", "ContractBase", "by_key", "requires", "tombstone", "version"]
