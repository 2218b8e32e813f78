"""A service that counts visits: hot keys, written many times a second, saved a few times a second.

uv run python examples/service.py
"""

import asyncio

import msgspec

from asyncwb import Buffer


class User(msgspec.Struct):
    name: str
    visits: int


async def main() -> None:
    async with Buffer(None, backend="sqlite:///app.db", namespace="users", type=User, max_delay_seconds=0.5) as users:
        for visit in range(1, 1001):
            await users.set("42", User("Ada", visit))  # returns when Redis has it
        print("read back at once:", await users.get("42"))
        await users.flush("42", timeout=5)  # returns when SQLite has it
        print("records saved for 1000 writes:", users.totals.saved)


if __name__ == "__main__":
    asyncio.run(main())
