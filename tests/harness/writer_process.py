"""A process that writes new keys, waits while the buffer is full, and finally prints the keys that were acknowledged.

Usage: writer_process.py NUMBER REDIS_URL BACKEND_URL NAMESPACE COUNT [max_dirty=N] [size=BYTES]
"""

import asyncio
import sys
from typing import Any

from asyncwb import Buffer


async def main(number: str, url: str, backend: str, namespace: str, count: str, *options: str) -> None:
    given = dict(option.split("=") for option in options)
    value = "x" * int(given.pop("size", "1"))
    settings: Any = {name: int(text) for name, text in given.items()}
    buffer = Buffer[Any](
        url,
        backend=backend,
        namespace=namespace,
        flushers=0,
        on_full="wait",
        full_timeout_seconds=120.0,
        **settings,
    )
    acknowledged: list[str] = []

    async def write(first: int) -> None:
        for item in range(first, int(count), 100):
            await buffer.set(f"{number}.{item}", value)
            acknowledged.append(f"{number}.{item}")

    async with buffer:
        await asyncio.gather(*map(write, range(100)))
    sys.stdout.write("\n".join(acknowledged))


asyncio.run(main(*sys.argv[1:]))
