"""Names of places, whose they are, and epochs above what is stored."""

import asyncio
import itertools
import logging
import re
from typing import Any

import pytest

from asyncwb import Bookkeeping, Buffer, PlaceTaken, default_name, takes_place
from asyncwb.errors import BackendUnavailable, ConfigurationError
from asyncwb.events import CircuitChanged, Event
from asyncwb.plugins.places import epoch_above
from asyncwb.records import MAX_EPOCH, Record, make_version
from asyncwb.testing import MemoryBackend

NAMESPACES = [
    "users", "Users", "USERS", "my_app", "my-app", "my.app", "my__app", "a_meta", "a", "a_key", "42", "_", "-", ".",
    "x" * 40, "x" * 41, "x" * 64, "sqlite_x", "system.users", "default", "a_epoch", "users_",
]  # fmt: skip


def test_default_name_is_an_identifier_of_its_own_for_every_namespace() -> None:
    names = {namespace: default_name(namespace) for namespace in NAMESPACES}
    for name in names.values():
        assert re.fullmatch(r"[a-z_][a-z0-9_]{0,50}", name), name
        assert not name.startswith(("sqlite_", "system"))
    # Also where case is folded, and with the names of the bookkeeping beside each.
    beside = [f"{name}{suffix}" for name in names.values() for suffix in ("", "_meta", "_epoch", "_asyncwb", "_key")]
    assert len({name.casefold() for name in beside}) == len(beside)
    assert names["users"] == "users"
    assert names["my_app"] == "my_app"


def test_default_names_of_many_namespaces_differ() -> None:
    letters = "aA_.-0"
    names = {default_name("".join(each)) for size in (1, 2, 3, 4) for each in itertools.product(letters, repeat=size)}
    assert len(names) == sum(6**size for size in (1, 2, 3, 4))


@pytest.mark.parametrize(
    ("stored", "epoch"),
    [(None, 0), (0, 0), (1 << 32, 2), (make_version(3, 2**32 - 1), 4), (1_764_000_000_000, 411)],
)
def test_epoch_above_what_is_stored(stored: object, epoch: int) -> None:
    assert epoch_above(stored, place="table 't'") == epoch


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        ("2026-11-26", "not an integer"), (1.5, "not an integer"), (b"x", "not an integer"), (True, "not an integer"),
        (7, "can't have made"), (-1, "can't have made"), (2**32 - 1, "can't have made"),
        (make_version(MAX_EPOCH, 0), "no room"), (make_version(MAX_EPOCH - 1, 0), "no room"), (2**63, "no room"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_version_is_refused_with_what_to_do(stored: object, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        epoch_above(stored, place="table 't'")
    assert "table 't'" in str(caught.value)
    assert re.search("name another|lower", str(caught.value))


def test_place_is_taken_by_the_first_and_given_only_by_its_owner() -> None:
    assert takes_place(None, "a", former=None, place="p")
    assert not takes_place("a", "a", former=None, place="p")
    assert takes_place("a", "b", former="a", place="p")
    for former in (None, "c"):
        with pytest.raises(PlaceTaken, match="p belongs to namespace 'a', so namespace 'b'") as caught:
            takes_place("a", "b", former=former, place="p")
        assert "asyncwb hand-over --backend URL --from a --to b" in str(caught.value)


class Store(MemoryBackend):
    """Versioned records, as a plugin's bookkeeping has them."""


async def test_bookkeeping_without_an_owner_belongs_to_the_first_and_keeps_its_epoch() -> None:
    store = Store()
    await store.save([Record("epoch", 7, b"", codec="bytes")])  # as `allot_epoch` has always kept it
    one, two = (Bookkeeping(store, place="p") for _ in range(2))
    await one.open("one")
    assert await one.new_epoch(0) == 7
    with pytest.raises(PlaceTaken):
        await two.open("two")
    await two.open("two", former="one")
    assert await two.new_epoch(0) == 8
    with pytest.raises(PlaceTaken):
        await one.new_epoch(1)


async def test_two_namespaces_are_refused_in_one_place(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer[Any](valkey_url, backend=memory, namespace=namespace) as buffer:
        await buffer.set("a", 1)
    with pytest.raises(PlaceTaken) as caught:
        await Buffer[Any](valkey_url, backend=memory, namespace=f"{namespace}.b").open()
    assert f"'{namespace}'" in str(caught.value)
    assert f"'{namespace}.b'" in str(caught.value)
    assert memory.values == {"a": 1}


class Away(MemoryBackend):
    """A backend that can't be reached while it is `down`."""

    down = False

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        if self.down:
            raise ConnectionError("away")
        await super().open(namespace=namespace, former=former)


async def test_place_found_to_be_anothers_after_an_outage_gets_nothing_and_answers_nothing(
    valkey_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    away, events = Away(), list[Event]()
    options: Any = {"namespace": namespace, "drain_timeout_seconds": 0.2, "probe_seconds": 0.05, "flushers": 2}
    async with Buffer[int](valkey_url, backend=away, **options) as buffer:
        await buffer.set("a", 1)
    away.down = True
    async with Buffer[int](valkey_url, backend=away, observer=events.append, **options) as buffer:
        away.owner, away.down = "another", False
        held = dict(away.records)
        await buffer.set("a", 2)
        with pytest.raises(BackendUnavailable, match="belongs to namespace 'another'"):
            await buffer.get("elsewhere")
        with pytest.raises(TimeoutError):
            await buffer.flush("a", timeout=1)
        stats = await buffer.stats()
        assert away.records == held, "nothing was saved"
        assert (stats.dirty + stats.leased, stats.dead) == (1, 0), "it stays in Redis, and nobody blames it"
    assert any(isinstance(each, CircuitChanged) and "'another'" in each.reason for each in events)
    told = [each for each in caplog.records if each.levelno == logging.ERROR and "nothing is saved" in each.message]
    assert len(told) == 1, "once, not with every probe"


async def test_place_handed_over_while_it_is_open_gets_nothing_any_more(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    options: Any = {"namespace": namespace, "drain_timeout_seconds": 0.2, "probe_seconds": 0.05}
    async with Buffer[int](valkey_url, backend=memory, **options) as buffer:
        await buffer.set("a", 1)
        await buffer.drain(timeout=5)
        memory.owner = "another"
        await asyncio.sleep(1.3)  # the epoch is checked once a second
        held = dict(memory.records)
        await buffer.set("b", 1)
        with pytest.raises(TimeoutError):
            await buffer.flush("b", timeout=0.5)
        assert memory.records == held
