"""A namespace that layout 2 left in Redis is refused by everything, with what to do, and stays as it is."""

import asyncio
import re
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from asyncwb import Buffer, NamespaceMismatch
from asyncwb.admin.inspector import open_inspector
from asyncwb.protocol.keys import namespace_key
from asyncwb.redis.connection import RedisLink
from asyncwb.testing import MemoryBackend
from tests.harness.commands import run, run_json
from tests.harness.servers import Server

SAYS = (
    r"has layout 2, not 3 \(\{wb:NS:0\}:meta says so\).* commit d57071d .*`asyncwb flush --all --namespace NS`.*delete"
)


async def write_layout_2(link: RedisLink, namespace: str, partitions: int) -> None:
    """Makes the keys that asyncwb made at commit d57071d for a record in each partition, one of them leased."""
    for number in range(partitions):
        prefix = f"{{wb:{namespace}:{number}}}:"
        fields: dict[str, str | int] = {
            "identity": "0" * 40, "epoch": 1, "seq": 1, "layout": 2, "partitions": partitions, "codec": "json",
            "bytes": 19, "largest": 19, "clock": 1_700_000_000_000, "behind": 0, "ahead": 0,
        }  # fmt: skip
        await link.command("HSET", f"{prefix}meta", *[part for pair in fields.items() for part in pair])
        await link.command("SET", f"{prefix}rec:k{number}", struct.pack(">IIQ", 1, 1, 1_700_000_000_000) + b"pj1")
        await link.command("ZADD", f"{prefix}{'lease' if number else 'dirty'}", 1_700_000_000_000, f"k{number}")
        if number:
            await link.command("HSET", f"{prefix}claim:{'0' * 32}", f"k{number}", struct.pack(">II", 1, 1))
        await link.command(
            "SET", f"{prefix}writer:{'1' * 32}", struct.pack(">QQ", 1, 0) + b"OK 0 1   0\n", "PX", 7_200_000
        )


async def contents(link: RedisLink) -> dict[bytes, Any]:
    return {name: await link.command("DUMP", name) for name in await link.command("KEYS", "*")}


@pytest.mark.parametrize("partitions", [1, 3])
async def test_namespace_of_layout_2_is_refused_by_everything_and_left_alone(
    valkey_server: Server, namespace: str, tmp_path: Path, partitions: int
) -> None:
    link = RedisLink.from_url(valkey_server.url, timeout_seconds=5)
    await write_layout_2(link, namespace, partitions)
    before, says = await contents(link), SAYS.replace("NS", re.escape(namespace))
    for wanted in (None, partitions):
        buffer = Buffer[int](valkey_server.url, backend=MemoryBackend(), namespace=namespace, partitions=wanted)
        with pytest.raises(NamespaceMismatch, match=says):
            await buffer.open()
    with pytest.raises(NamespaceMismatch, match=says):
        async with open_inspector(valkey_server.url, namespace):
            pass
    where = ("--redis", valkey_server.url, "--namespace", namespace)
    place = f"sqlite:///{tmp_path / 'a.db'}"
    rows = tmp_path / "rows.csv"
    rows.write_text("id,n\n1,2\n")
    for command in (
        ("status",), ("keys",), ("show", "k0"), ("dead", "list"), ("dead", "show", "k0"), ("dead", "retry", "--all"),
        ("dead", "drop", "k0", "--yes"), ("audit",), ("flush", "--all", "--backend", place),
        ("adopt-server", "--backend", place),
        ("ingest", str(rows), "--key", "id", "--backend", place),
    ):  # fmt: skip
        assert re.search(says, (await run(*command, *where, status=2)).stderr), command
    assert re.search(says, await said_by_worker("--backend", place, *where))
    handed = ("hand-over", "--backend", place, "--from", namespace, "--to", "other", "--redis", valkey_server.url)
    assert re.search(says, (await run(*handed, status=2)).stderr)
    (finding,) = [
        each for each in (await run_json("doctor", *where, status=1))["findings"] if each["check"] == "namespace"
    ]
    assert finding["level"] == "error"
    assert re.search(says, finding["text"])
    assert await contents(link) == before
    await link.close()


async def test_namespace_can_be_opened_when_the_keys_of_layout_2_are_deleted(
    valkey_server: Server, namespace: str
) -> None:
    link = RedisLink.from_url(valkey_server.url, timeout_seconds=5)
    await write_layout_2(link, namespace, 3)
    (pattern,) = re.findall(r"delete the keys that match (\S+),", await refusal(valkey_server.url, namespace))
    await link.command("DEL", *await link.command("KEYS", pattern))
    memory = MemoryBackend()
    async with Buffer[int](valkey_server.url, backend=memory, namespace=namespace) as buffer:
        await buffer.set("a", 1)
    assert memory.values == {"a": 1}
    await link.close()


async def test_open_buffer_does_not_write_beside_layout_2(valkey_server: Server, namespace: str) -> None:
    """Somebody empties the server, and a process of an older version is quicker to make the namespace anew."""
    link = RedisLink.from_url(valkey_server.url, timeout_seconds=5)
    async with Buffer[int](valkey_server.url, backend=MemoryBackend(), namespace=namespace, flushers=0) as buffer:
        await write_layout_2(link, namespace, 1)
        await link.command("DEL", namespace_key(namespace), buffer._engine.partitions[0].queue.keys.meta)
        with pytest.raises(NamespaceMismatch, match="has layout 2"):
            await buffer.set("a", 1)
        assert not await link.command("KEYS", "*rec:a")
    await link.close()


async def said_by_worker(*arguments: str) -> str:
    """What it writes to stderr before it ends with status 2. It needs a process, since it handles signals."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "asyncwb", "worker", *arguments, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(20):
            _, said = await worker.communicate()
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
    assert worker.returncode == 2
    return said.decode()


async def refusal(url: str, namespace: str) -> str:
    with pytest.raises(NamespaceMismatch) as caught:
        await Buffer(url, backend=MemoryBackend(), namespace=namespace).open()
    return str(caught.value)
