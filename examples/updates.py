"""Ten uses of updates and conditional writes: values change at Redis's speed without being read first.

uv run python examples/updates.py

Each use has a namespace of its own, which is a table of the database. All of them save into `updates.db`.
"""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from pydantic import BaseModel

from asyncwb import UNSET, Add, Buffer, Max, Min, VersionMismatch


class User(msgspec.Struct):
    name: str
    first_seen: datetime
    last_seen: datetime
    visits: int = 0


class Usage(msgspec.Struct):
    calls: int = 0
    input: int = 0
    output: int = 0
    seconds: float = 0.0
    cost: Decimal = Decimal(0)


class Message(msgspec.Struct):
    author: str
    text: str
    at: datetime


class Reading(msgspec.Struct):
    device: str
    celsius: float


class Stock(msgspec.Struct):
    left: int
    reserved: dict[str, int] = {}


@dataclass
class Session:
    user: str
    expires: datetime


class Profile(BaseModel):
    name: str
    city: str | None = None


class ProfilePatch(BaseModel):
    name: str | None = None
    city: str | None = None


async def view_page(views: Buffer[int], path: str) -> None:
    """Counts a page view. Tasks that count the same page at the same time share one entry."""
    await views.add(path)


async def see_user(users: Buffer[User], user: str, at: datetime) -> None:
    """Notes a visit of a known user, in whatever order visits are reported; of unknown ones nothing is made."""
    change = {"last_seen": Max(at), "first_seen": Min(at), "visits": Add(1)}
    await users.update(user, change, upsert=False)


async def meter_call(usage: Buffer[Usage], team: str, model: str, call: Usage) -> None:
    """Meters a call of a language model, by team and model and in the team's sum."""
    change = {
        "calls": Add(1),
        "input": Add(call.input),
        "output": Add(call.output),
        "seconds": Add(call.seconds),
        "cost": Add(call.cost),
    }
    await usage.update_many({f"{team}:{model}": change, f"{team}:all": change})


async def score(scores: Buffer[int], player: str, points: int) -> None:
    """Keeps the best score of a player; the ranking is a query in the database."""
    await scores.update(player, Max(points))


async def say(rooms: Buffer[list[Message]], room: str, message: Message) -> None:
    """Appends to a room's chat, of which the last 1000 messages stay."""
    await rooms.append(room, message, keep=1000)


async def report(readings: Buffer[Reading], latest: Buffer[Reading], batch: Sequence[Reading]) -> list[str]:
    """Stores a batch of readings under keys that increase, and the latest of each device."""
    keys = await readings.insert_many(batch)
    await latest.set_many({reading.device: reading for reading in batch})
    return keys


async def reserve(stock: Buffer[Stock], item: str, order: str, count: int) -> bool:
    """Reserves some of an item, if there are enough. To repeat it for the same order is harmless."""
    while True:
        value, version = await stock.get_versioned(item)
        if value is None:
            return False
        if order in value.reserved:
            return True
        if value.left < count:
            return False
        try:
            await stock.set(item, Stock(value.left - count, value.reserved | {order: count}), expected=version)
        except VersionMismatch:
            continue  # somebody else was quicker
        return True


async def switch(flags: Buffer[dict[str, bool]], tenant: str) -> None:
    """Sets a flag of a tenant and removes another, beside those that others change."""
    await flags.update(tenant, {"dark_mode": True, "beta": UNSET})


async def log_in(sessions: Buffer[Session], session: str, user: str) -> bool:
    """Begins a session, unless there is one of this id; returns whether it was begun."""
    try:
        await sessions.set(session, Session(user, datetime.now(UTC) + timedelta(hours=8)), expected=None)
    except VersionMismatch:
        return False
    return True


async def patch_profile(profiles: Buffer[Profile], user: str, patch: ProfilePatch) -> None:
    """Changes what a request names, as a PATCH in FastAPI does; the rest stays as others change it."""
    await profiles.update(user, patch.model_dump(exclude_unset=True), upsert=False)


@dataclass
class Shop:
    """The buffers of all uses, on one server and one database."""

    redis: str | None
    database: str
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def open(self, namespace: str, kind: Any) -> Buffer[Any]:
        buffer = Buffer[Any](self.redis, backend=f"sqlite:///{self.database}", namespace=namespace, type=kind)
        return await self.stack.enter_async_context(buffer)


async def main(redis: str | None, database: str) -> None:
    shop, now = Shop(redis, database), datetime(2026, 6, 1, 12, tzinfo=UTC)
    async with shop.stack:
        views = await shop.open("views", int)
        await asyncio.gather(*(view_page(views, "/pricing") for _ in range(1000)))
        print("views:", await views.get("/pricing"))

        users = await shop.open("users", User)
        await users.set("42", User("Ada", now, now))
        hours = (3, -2, 1)
        await asyncio.gather(*(see_user(users, user, now + timedelta(hours=n)) for n in hours for user in ("42", "43")))
        print("user:", await users.get("42"), await users.get("43"))

        usage = await shop.open("usage", Usage)
        call = Usage(input=900, output=100, seconds=0.5, cost=Decimal("0.0123"))
        await asyncio.gather(
            *(meter_call(usage, "red", model, call) for model in ("large", "small") for _ in range(50))
        )
        print("usage:", await usage.get("red:all"))

        scores = await shop.open("scores", int)
        await asyncio.gather(
            *(score(scores, player, n) for player, n in (("ada", 7), ("bob", 9), ("ada", 12), ("ada", 3)))
        )
        print("best:", await scores.get_many(["ada", "bob"]))

        rooms = await shop.open("rooms", list[Message])
        for number in range(1005):
            await say(rooms, "room:7", Message("ada", f"message {number}", now))
        chat = await rooms.get("room:7") or []
        print("chat:", len(chat), "messages, from", chat[0].text)

        readings, latest = await shop.open("readings", Reading), await shop.open("latest", Reading)
        keys = await report(readings, latest, [Reading("roof", 20.5), Reading("cellar", 12.0), Reading("roof", 21.0)])
        print("readings:", len(await readings.get_many(keys)), "latest:", await latest.get("roof"))

        stock = await shop.open("stock", Stock)
        await stock.set("lamp", Stock(5))
        await asyncio.gather(*(reserve(stock, "lamp", f"order {n % 4}", 2) for n in range(8)))
        print("stock:", await stock.get("lamp"))

        flags = await shop.open("flags", dict[str, bool])
        await flags.set("acme", {"beta": True, "sso": True})
        await switch(flags, "acme")
        print("flags:", await flags.get("acme"))

        sessions = await shop.open("sessions", Session)
        begun = await asyncio.gather(*(log_in(sessions, "s1", user) for user in ("ada", "bob", "cid")))
        print("sessions begun:", sum(begun))

        profiles = await shop.open("profiles", Profile)
        await profiles.set("42", Profile(name="Ada"))
        await patch_profile(profiles, "42", ProfilePatch(city="London"))
        await patch_profile(profiles, "43", ProfilePatch(city="Paris"))
        print("profiles:", await profiles.get("42"), await profiles.get("43"))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None, "updates.db"))
