"""A process that flushes a namespace into SQLite and stops at a gate, so that a test can kill or freeze it there.

Usage: flusher_process.py REDIS_URL DATABASE NAMESPACE GATE LEASE_SECONDS COMMIT

GATE is `before` or `after` (each save), or `none`. It prints `ready`, and `gate <versions>` when it stops at the gate;
a line on stdin lets it continue. After each save it prints `saved <stale>`.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asyncwb import Buffer, Record
from asyncwb_backends.sqlite import SQLiteBackend


class Gated(SQLiteBackend):
    gate = "none"

    async def save(self, records: Sequence[Record]) -> int:
        if self.gate == "before":
            await self._stop_here(records)
        stale = await super().save(records)
        if self.gate == "after":
            await self._stop_here(records)
        print("saved", stale, flush=True)
        return stale

    async def _stop_here(self, records: Sequence[Record]) -> None:
        print("gate", *(record.version for record in records), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def main(url: str, database: str, namespace: str, gate: str, lease: str, commit: Any) -> None:
    backend = Gated(Path(database), table="asyncwb")
    backend.gate = gate
    async with Buffer(url, backend=backend, namespace=namespace, lease_seconds=float(lease), commit=commit):
        print("ready", flush=True)
        await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
