"""The contract: the owner of a place, and the highest version and the servers that are stored in it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from asyncwb.backend import Backend
from asyncwb.errors import PlaceTaken
from asyncwb.plugins.succession import SERVERS_KEPT
from asyncwb.testing.contract.base import NAMESPACE, ContractBase, requires, tombstone
from asyncwb.testing.contract.views import view, view_of

OTHER: Final = "contract.Other-1"
"""Another namespace, whose name has all kinds of characters."""


class PlaceContract(ContractBase):
    """A place belongs to the first namespace that opens it, and knows what it holds."""

    async def test_another_namespace_is_refused_after_the_first(self, backend: Backend) -> None:
        await backend.save([self.put("1", 1)])
        await backend.close()
        with pytest.raises(PlaceTaken, match=NAMESPACE) as caught:
            await backend.open(namespace=OTHER)
        assert OTHER in str(caught.value), "the message names both"
        await backend.close()
        await backend.open(namespace=NAMESPACE)
        assert view(await backend.load(["1"])) == view_of(self.put("1", 1))

    @requires("persistence")
    async def test_another_namespace_is_refused_by_another_object(self, backend: Backend, url: str) -> None:
        await backend.close()
        other = self.make_backend(url)
        try:
            with pytest.raises(PlaceTaken):
                await other.open(namespace=OTHER)
        finally:
            await other.close()

    @requires("sharing")
    async def test_of_two_namespaces_that_open_a_new_place_one_wins(self, url: str) -> None:
        backends = [self.make_backend(url) for _ in range(6)]
        names = [NAMESPACE, OTHER] * 3
        try:
            opened = await asyncio.gather(
                *(each.open(namespace=name) for each, name in zip(backends, names, strict=True)),
                return_exceptions=True,
            )
        finally:
            for each in backends:
                await each.close()
        winners = {name for name, error in zip(names, opened, strict=True) if error is None}
        losers = [error for error in opened if error is not None]
        assert len(winners) == 1, f"{winners} have both opened it"
        assert len(losers) == 3
        assert all(isinstance(error, PlaceTaken) for error in losers), losers

    async def test_place_is_handed_over_with_a_new_epoch(self, backend: Backend) -> None:
        epoch = await backend.new_epoch(3)
        await backend.save([self.put("1", 1)])
        await backend.close()
        with pytest.raises(PlaceTaken):
            await backend.open(namespace=OTHER, former="nobody")
        await backend.close()
        for _ in range(2):  # the second time OTHER is the owner already, and nothing changes
            await backend.open(namespace=OTHER, former=NAMESPACE)
            assert await backend.new_epoch(0) == epoch + 1
            await backend.close()
        await backend.open(namespace=OTHER)
        assert set(await backend.load(["1"])) == {"1"}
        await backend.close()
        with pytest.raises(PlaceTaken):
            await backend.open(namespace=NAMESPACE)

    @requires("sharing")
    async def test_who_has_it_open_is_told_when_it_is_handed_over(self, backend: Backend, url: str) -> None:
        async with self._another(url, OTHER, former=NAMESPACE) as other:
            for at_least in (0, 1, 100):
                with pytest.raises(PlaceTaken):
                    await backend.new_epoch(at_least)
            assert await other.new_epoch(0) == 1, "who is refused allots nothing"

    @requires("highest")
    async def test_highest_version_that_is_stored_is_found(self, backend: Backend) -> None:
        """If a place was restored without its bookkeeping, epochs begin above the highest version."""
        assert callable(getattr(backend, "highest_version", None)), (
            "without it the ability 'highest' has to be declared"
        )
        looking: Any = backend
        assert await looking.highest_version() is None
        await backend.save([self.put("1", 7, epoch=40), self.put("3", 9, epoch=2)])
        assert await looking.highest_version() == self.put("1", 7, epoch=40).version
        await backend.save([tombstone("2", 8, epoch=41)])
        assert await looking.highest_version() == tombstone("2", 8, epoch=41).version
        await backend.close()
        await backend.open(namespace=NAMESPACE)
        assert await looking.highest_version() == tombstone("2", 8, epoch=41).version

    @requires("servers")
    async def test_servers_that_began_epochs_are_remembered(self, backend: Backend) -> None:
        """This lets asyncwb detect a server that comes back after another one has taken over."""
        assert callable(getattr(backend, "note_server", None)), "without it the ability 'servers' has to be declared"
        noting: Any = backend
        assert list(await noting.note_server(0, 0, "")) == []
        first = [(epoch, f"{epoch:040x}") for epoch in (1, 2, 5)]
        for epoch, server in first:
            await noting.note_server(0, epoch, server)
        assert list(await noting.note_server(0, 5, first[-1][1])) == first, "noting it again changes nothing"
        assert list(await noting.note_server(0, 5, "f" * 40)) == first, "what is noted of an epoch first stays"
        await backend.close()
        await backend.open(namespace=NAMESPACE)
        assert list(await noting.note_server(0, 0, "")) == first
        assert list(await noting.note_server(1, 0, "")) == [], "each partition has servers of its own"
        more = [(epoch, "0123456789" * 4) for epoch in range(6, 30)]
        await asyncio.gather(*(noting.note_server(0, *each) for each in more))
        assert list(await noting.note_server(0, 0, "")) == more[-SERVERS_KEPT:]
        assert await backend.new_epoch(0) == 0, "none of this allots an epoch"
        assert await backend.load(["servers.0", "1"]) == {}

    @asynccontextmanager
    async def _another(self, url: str, namespace: str, *, former: str | None = None) -> AsyncIterator[Backend]:
        other = self.make_backend(url)
        try:
            await other.open(namespace=namespace, former=former)
            yield other
        finally:
            await other.close()
