"""A process that changes one number many times, from several tasks and through two buffers.

Usage: counting_process.py REDIS_URL BACKEND_URL NAMESPACE HOW TASKS TIMES

HOW is `add`, `expected` (what was read is written back on the condition of its version, and again if somebody was
faster) or `set` (it is written back in any case). It prints `ready`, and begins with a line on stdin.
"""

import asyncio
import sys

from asyncwb import Buffer, VersionMismatch

KEY = "number"


async def add(buffer: Buffer[int]) -> None:
    await buffer.add(KEY)


async def expected(buffer: Buffer[int]) -> None:
    while True:
        value, version = await buffer.get_versioned(KEY)
        try:
            await buffer.set(KEY, (value or 0) + 1, expected=version)
        except VersionMismatch:
            continue
        return


async def set_anyhow(buffer: Buffer[int]) -> None:
    value = await buffer.get(KEY)
    await buffer.set(KEY, (value or 0) + 1)


async def main(url: str, backend: str, namespace: str, how: str, tasks: str, times: str) -> None:
    change = {"add": add, "expected": expected, "set": set_anyhow}[how]

    async def work(buffer: Buffer[int]) -> None:
        for _ in range(int(times)):
            await change(buffer)

    async with (
        Buffer(url, backend=backend, namespace=namespace, type=int, flushers=1) as one,
        Buffer(url, backend=backend, namespace=namespace, type=int, flushers=0) as other,
    ):
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        async with asyncio.TaskGroup() as group:
            for number in range(int(tasks)):
                group.create_task(work((one, other)[number % 2]))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
