"""A service that writes counters as fast as it can, until it is killed; it prints each acknowledged write on a line.

Usage: service_process.py REDIS_URL BACKEND_URL NAMESPACE DURABILITY KEYS
"""

import asyncio
import os
import sys
from typing import Any

from asyncwb import Buffer, OutcomeUnknown, RedisError


async def main(url: str, backend: str, namespace: str, durability: Any, keys: str) -> None:
    buffer = Buffer[int](
        url, backend=backend, type=int, namespace=namespace, flushers=0, durability=durability, redis_retry_seconds=60.0
    )

    async def count(key: str) -> None:
        number = 0
        while True:
            number += 1
            try:
                await buffer.set(key, number)
            except (OutcomeUnknown, RedisError):
                continue
            # Use a single write, so that a line is complete even if the process is killed.
            os.write(1, f"{key} {number}\n".encode())

    async with buffer:
        await asyncio.gather(*(count(f"k{number}") for number in range(int(keys))))


asyncio.run(main(*sys.argv[1:]))
