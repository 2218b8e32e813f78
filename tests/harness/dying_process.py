"""A worker that is restarted whenever it dies, as by a supervisor; saving a key `killer…` kills its process.

Usage: dying_process.py REDIS_URL DATABASE NAMESPACE LEASE_SECONDS MAX_ATTEMPTS COMMIT

It prints the id of each process. A worker exits when the process that forked it is gone.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asyncwb import Buffer, Record
from asyncwb_backends.sqlite import SQLiteBackend


class Deadly(SQLiteBackend):
    async def save(self, records: Sequence[Record]) -> int:
        await asyncio.sleep(0.01)
        if any(record.key.startswith("killer") for record in records):
            os._exit(3)  # like a crash of a driver in C
        return await super().save(records)


async def main(url: str, database: str, namespace: str, lease: str, attempts: str, commit: Any) -> None:
    async with Buffer[Any](
        url,
        backend=Deadly(Path(database)),
        namespace=namespace,
        lease_seconds=float(lease),
        max_attempts=int(attempts),
        commit=commit,
        batch_size=50,
        retry_initial_seconds=0.01,
        retry_max_seconds=0.1,
    ):
        parent = os.getppid()
        while os.getppid() == parent:
            await asyncio.sleep(0.05)
        os._exit(0)


while True:
    child = os.fork()
    if not child:
        asyncio.run(main(*sys.argv[1:]))
    print(child, flush=True)
    os.waitpid(child, 0)
