"""The ten uses of updates in examples/updates.py, end to end: what they leave in SQLite, read as others read it."""

import asyncio
import json
import runpy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import GenericAlias
from typing import Any

import pytest

from asyncwb import Buffer
from tests.harness.environments import REPOSITORY
from tests.harness.sqlite import execute

uses = runpy.run_path(str(REPOSITORY / "examples/updates.py"))
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
Open = Callable[..., Buffer[Any]]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "uses.db"


@pytest.fixture
def opened(valkey_url: str, database: Path) -> Open:
    """Makes buffers whose namespace is that of their table; several of one are several processes."""

    def make(namespace: str, kind: Any, **options: Any) -> Buffer[Any]:
        return Buffer[Any](valkey_url, backend=f"sqlite:///{database}", namespace=namespace, type=kind, **options)

    return make


def rows(database: Path, table: str) -> dict[str, Any]:
    return {
        key: json.loads(value)
        for key, value in execute(database, f"SELECT key, value FROM {table} WHERE deleted_at IS NULL")
    }


async def test_all_of_them_run_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    await uses["main"](None, "updates.db")
    shown = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in shown] == [
        "views", "user", "usage", "best", "chat", "readings", "stock", "flags", "sessions begun", "profiles",
    ]  # fmt: skip
    assert rows(tmp_path / "updates.db", "views") == {"/pricing": 1000}
    assert [line for line in shown if line.startswith("stock: Stock(left=1, ")]
    assert "sessions begun: 1" in shown


async def test_page_views_of_two_processes(opened: Open, database: Path) -> None:
    async with opened("views", int) as one, opened("views", int, flushers=0) as other:
        pages = ["/", "/pricing"]
        await asyncio.gather(
            *(uses["view_page"](buffer, page) for buffer in (one, other) for page in pages for _ in range(300))
        )
        assert await other.get_many(pages) == {"/": 600, "/pricing": 600}
    assert rows(database, "views") == {"/": 600, "/pricing": 600}


async def test_visits_of_a_user(opened: Open, database: Path) -> None:
    async with opened("users", uses["User"]) as users:
        await users.set("42", uses["User"]("Ada", NOW, NOW))
        for hours in (3, -2, 1):
            await uses["see_user"](users, "42", NOW + timedelta(hours=hours))
            await uses["see_user"](users, "unknown", NOW)
            await users.drain(timeout=5)
        user = await users.get("42")
        assert user is not None
        assert (user.visits, user.first_seen, user.last_seen) == (3, NOW - timedelta(hours=2), NOW + timedelta(hours=3))
        assert await users.get("unknown") is None
    assert rows(database, "users")["42"]["visits"] == 3
    assert set(rows(database, "users")) == {"42"}


async def test_metering_of_a_language_model(opened: Open, database: Path) -> None:
    async with opened("usage", uses["Usage"]) as usage:
        call = uses["Usage"](input=900, output=100, seconds=0.5, cost=Decimal("0.0123"))
        await asyncio.gather(
            *(uses["meter_call"](usage, "red", model, call) for model in ("l", "s") for _ in range(50))
        )
        await usage.drain(timeout=5)
        await uses["meter_call"](usage, "red", "l", call)
    found = rows(database, "usage")
    assert found["red:l"] == {"calls": 51, "input": 45900, "output": 5100, "seconds": 25.5, "cost": "0.6273"}
    assert {key: row["calls"] for key, row in found.items()} == {"red:l": 51, "red:s": 50, "red:all": 101}
    assert Decimal(found["red:all"]["cost"]) == 101 * Decimal("0.0123")


async def test_leaderboard_is_a_query(opened: Open, database: Path) -> None:
    async with opened("scores", int) as scores:
        for player, points in (("ada", 7), ("bob", 9), ("ada", 12), ("cid", 1), ("ada", 3)):
            await uses["score"](scores, player, points)
            await asyncio.sleep(0.002)
    ranking = execute(database, "SELECT key FROM scores ORDER BY value + 0 DESC")
    assert [key for (key,) in ranking] == ["ada", "bob", "cid"]


async def test_chat_keeps_its_last_messages_in_order(opened: Open, database: Path) -> None:
    messages = GenericAlias(list, (uses["Message"],))
    async with opened("rooms", messages) as one, opened("rooms", messages) as other:
        for number in range(520):
            for buffer, author in ((one, "ada"), (other, "bob")):
                await uses["say"](buffer, "room:7", uses["Message"](author, str(number), NOW))
        chat = await one.get("room:7")
        assert chat is not None
    texts = [(message.author, message.text) for message in chat]
    assert texts == [(author, str(number)) for number in range(20, 520) for author in ("ada", "bob")]
    saved = rows(database, "rooms")["room:7"]
    assert [(each["author"], each["text"]) for each in saved] == texts


async def test_readings_of_sensors(opened: Open, database: Path) -> None:
    kind = uses["Reading"]
    async with opened("readings", kind) as readings, opened("latest", kind) as latest:
        batches = [[kind("roof", 20.0 + number), kind("cellar", 12.0)] for number in range(50)]
        keys = [key for batch in batches for key in await uses["report"](readings, latest, batch)]
    assert keys == sorted(set(keys))
    found = rows(database, "readings")
    assert [found[key]["celsius"] for key in keys[::2]] == [20.0 + number for number in range(50)]
    assert rows(database, "latest")["roof"]["celsius"] == 69.0


async def test_inventory_is_never_oversold(opened: Open, database: Path) -> None:
    kind = uses["Stock"]
    async with opened("stock", kind) as one, opened("stock", kind) as other:
        await one.set("lamp", kind(11))
        attempts = [(buffer, f"order {number % 9}") for number in range(18) for buffer in (one, other)]
        outcomes = await asyncio.gather(*(uses["reserve"](buffer, "lamp", order, 2) for buffer, order in attempts))
        sold = {order for (_, order), done in zip(attempts, outcomes, strict=True) if done}
        assert len(sold) == 5
        assert not await uses["reserve"](one, "chair", "order", 1)
    lamp = rows(database, "stock")["lamp"]
    assert (lamp["left"], set(lamp["reserved"])) == (1, sold)


async def test_flags_of_a_tenant(opened: Open, database: Path) -> None:
    async with opened("flags", dict[str, bool]) as flags:
        await flags.set("acme", {"beta": True, "sso": True})
        await asyncio.gather(
            uses["switch"](flags, "acme"), flags.update("acme", {"sso": False}), uses["switch"](flags, "new")
        )
    assert rows(database, "flags") == {"acme": {"sso": False, "dark_mode": True}, "new": {"dark_mode": True}}


async def test_session_begins_once(opened: Open, database: Path) -> None:
    async with opened("sessions", uses["Session"]) as one, opened("sessions", uses["Session"]) as other:
        for session in ("s1", "s2"):
            logins = [uses["log_in"](buffer, session, user) for buffer in (one, other) for user in ("ada", "bob")]
            assert sorted(await asyncio.gather(*logins)) == [False, False, False, True]
            await one.drain(timeout=5)
            assert not await uses["log_in"](other, session, "late")
        await one.delete("s1")
        assert await uses["log_in"](other, "s1", "again")
    assert rows(database, "sessions")["s1"]["user"] == "again"


async def test_patches_of_profiles(opened: Open, database: Path) -> None:
    async with opened("profiles", uses["Profile"]) as profiles:
        await profiles.set("42", uses["Profile"](name="Ada"))
        patches = [uses["ProfilePatch"](city="London"), uses["ProfilePatch"](name="Ada L.")]
        await asyncio.gather(
            *(uses["patch_profile"](profiles, user, each) for each in patches for user in ("42", "43"))
        )
        assert await profiles.get("42") == uses["Profile"](name="Ada L.", city="London")
    assert rows(database, "profiles") == {"42": {"name": "Ada L.", "city": "London"}}
