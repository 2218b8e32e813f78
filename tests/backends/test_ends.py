"""A process that fails before it closes its buffer ends, with its traceback and within seconds."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.databases import Mongod
from tests.harness.servers import Server

FAILING = """
import asyncio, sys
from asyncwb import Buffer

async def main():
    buffer = await Buffer(sys.argv[1] or None, backend=sys.argv[2], namespace="ends").open()
    await buffer.set("k", 1)
    await buffer.drain()
    assert await buffer.get("k") == 1
    raise RuntimeError("the service fails before aclose")

asyncio.run(main())
"""


def ends(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=30, check=False, cwd=folder
    )
    assert time.monotonic() - started < 10
    return ended


@pytest.mark.parametrize(
    ("server", "scheme"), [("redis", "sqlite"), ("redis", "file"), ("redis", "mongodb"), ("embedded", "sqlite")]
)
def test_service_that_fails_before_it_closes_its_buffer_ends(
    valkey_server: Server, mongods: Callable[[bool], Mongod], tmp_path: Path, scheme: str, server: str
) -> None:
    url = {"sqlite": "sqlite:///a.db", "file": "file:data"}.get(scheme) or mongods(False).url("ends")
    ended = ends(tmp_path, FAILING, valkey_server.url if server == "redis" else "", url)
    assert ended.returncode == 1, ended.stderr
    assert "RuntimeError: the service fails before aclose" in ended.stderr
    assert "call_soon_threadsafe" not in ended.stderr, "no thread fails because the event loop is closed"


SHARING = """
import asyncio, sys
from asyncwb import Buffer, UsageError
from asyncwb_backends.sqlite import SQLiteBackend

async def main():
    backend = SQLiteBackend("a.db")
    one = await Buffer(sys.argv[1], backend=backend, namespace="one").open()
    try:
        await Buffer(sys.argv[1], backend=backend, namespace="one").open()
    except UsageError as error:
        print(error)
    await one.set("k", 1)
    await one.aclose()

asyncio.run(main())
"""


def test_process_that_gave_one_backend_to_two_buffers_ends(valkey_url: str, tmp_path: Path) -> None:
    ended = ends(tmp_path, SHARING, valkey_url)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "in use by another open buffer" in ended.stdout


AGAIN = """
import asyncio, sys
from asyncwb import Buffer
from asyncwb_backends.sqlite import SQLiteBackend

async def fail():
    await Buffer(sys.argv[1], backend=backend, namespace="again").open()
    raise KeyError("a service that fails before it closes")

async def work():
    async with Buffer(sys.argv[1], backend=backend, namespace="again") as buffer:
        await buffer.set("a", 1)

backend = SQLiteBackend("a.db")
try:
    asyncio.run(fail())
except KeyError:
    asyncio.run(work())
    print("fine")
"""


def test_backend_of_a_buffer_whose_event_loop_has_ended_is_free(valkey_url: str, tmp_path: Path) -> None:
    ended = ends(tmp_path, AGAIN, valkey_url)
    assert (ended.returncode, ended.stdout) == (0, "fine\n"), ended.stderr
