"""The lost update: many tasks, buffers and processes change one value, and no change may get lost."""

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Final

import pytest

from asyncwb import Buffer, Codec
from asyncwb.plugins.registry import backend_from_url
from tests.harness import counting_process as program

ROOT: Final = Path(__file__).parents[3]
PROCESSES: Final = 2
TASKS: Final = 10
TIMES: Final = 50


async def changed(url: str, folder: Path, namespace: str, how: str) -> int:
    """What the number is in the backend after all changes of two processes."""
    place = f"sqlite:///{folder}/a.db"
    pipe = asyncio.subprocess.PIPE
    arguments = [url, place, namespace, how, str(TASKS), str(TIMES)]
    async with contextlib.AsyncExitStack() as stack:
        processes: list[asyncio.subprocess.Process] = []
        for _ in range(PROCESSES):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", program.__name__, *arguments, stdin=pipe, stdout=pipe, cwd=ROOT
            )
            stack.push_async_callback(ended, process)
            processes.append(process)
        async with asyncio.timeout(60):
            for process in processes:
                assert process.stdout is not None
                assert await process.stdout.readline() == b"ready\n"
            await asyncio.gather(*(process.communicate(b"\n") for process in processes))
    assert [process.returncode for process in processes] == [0] * PROCESSES
    async with Buffer[int](url, backend=place, namespace=namespace, type=int) as heir:
        await heir.drain(timeout=20)
    reader = backend_from_url(place, codec=Codec("json", int))
    await reader.open(namespace=namespace)
    try:
        return int((await reader.load([program.KEY]))[program.KEY].value)
    finally:
        await reader.close()


async def ended(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


@pytest.mark.parametrize("how", ["add", "expected"])
async def test_changes_of_many_tasks_buffers_and_processes_all_count(
    valkey_url: str, namespace: str, tmp_path: Path, how: str
) -> None:
    assert await changed(valkey_url, tmp_path, namespace, how) == PROCESSES * TASKS * TIMES


async def test_value_that_is_read_and_written_back_loses_changes(
    valkey_url: str, namespace: str, tmp_path: Path
) -> None:
    """What the other two are for: without them this test would show that the changes never met."""
    assert await changed(valkey_url, tmp_path, namespace, "set") < PROCESSES * TASKS * TIMES
