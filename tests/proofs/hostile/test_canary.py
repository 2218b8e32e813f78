"""No credentials in errors, tracebacks, logs, reprs, what commands print, or what stands in Redis."""

import asyncio
import dataclasses
import gc
import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from click.testing import CliRunner

from asyncwb import AsyncwbError, Buffer, Codec
from asyncwb.cli import main
from asyncwb.plugins.registry import backend_from_url
from asyncwb.redis.connection import RedisLink
from asyncwb.redis.targets import Target, target_of_client, target_of_url
from asyncwb.testing import MemoryBackend
from asyncwb_postgresql import from_url as postgresql_from_url
from tests.harness.servers import Server

StartServer = Callable[..., Server]
# Each holds what nothing else does, not even the name of a test.
CANARY = "zqxj"
USER, PASSWORD, OTHER = f"{CANARY}user", f"{CANARY}/pass", f"{CANARY}two"
ENCODED = PASSWORD.replace("/", "%2F")


class Watch:
    """Everything that anybody could see."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def error(self, error: BaseException) -> None:
        """With everything that it came of."""
        chain: list[BaseException] = [error]
        for each in chain:
            self.seen += [str(each), repr(each), *map(repr, each.args)]
            chain += [other for other in (each.__cause__, each.__context__) if other is not None and other not in chain]
            if isinstance(each, BaseExceptionGroup):
                chain += each.exceptions
        self.seen += traceback.format_exception(error)

    def objects(self) -> None:
        """All objects of asyncwb's that there are."""
        for each in gc.get_objects():
            if str(type(each).__module__).startswith(("asyncwb", "asyncwb_backends")):
                self.seen += [repr(each), str(each)]
                if dataclasses.is_dataclass(each):
                    # As a log of an application would show it, or an error tracker.
                    self.seen.append(
                        str({field.name: getattr(each, field.name, None) for field in dataclasses.fields(each)})
                    )

    def shown(self) -> list[str]:
        return sorted({text[:400] for text in self.seen if CANARY in text})


@pytest.fixture
def watch(caplog: pytest.LogCaptureFixture) -> Iterator[Watch]:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "asyncwb")
    watch = Watch()
    yield watch
    watch.objects()
    formatter = logging.Formatter("%(message)s")
    watch.seen += [formatter.format(record) for record in caplog.records if record.name.startswith("asyncwb")]
    assert watch.shown() == []


def test_watch_sees(watch: Watch) -> None:
    seeing = Watch()
    try:
        try:
            raise ValueError(f"redis://:{PASSWORD}@h")
        except ValueError as error:
            raise KeyError("x") from error
    except KeyError as error:
        seeing.error(error)
    assert seeing.shown()


REDIS_URLS = (
    f"redis://{USER}:{ENCODED}@127.0.0.1:1/0", f"redis://{USER}:{PASSWORD}@127.0.0.1:1/0",
    f"redis://:{PASSWORD}#@127.0.0.1:1/0",
    f"redis://{USER}:{PASSWORD}?@127.0.0.1:1/0", f"redis://{USER}:{ENCODED}@127.0.0.1:port/0",
    f"redis:/{USER}:{ENCODED}@h",
    f"{USER}:{ENCODED}@127.0.0.1:1", f"rediss://{USER}:{ENCODED}@127.0.0.1:1/0?ssl_ca_certs=/no/such/file",
    f"redis://{USER}:{ENCODED}@127.0.0.1:1/0?socket_timeout=x&password={OTHER}",
    f"unix://{USER}:{ENCODED}@/no/such?db=x",
    f"unix:///no/such/socket?username={USER}&password={OTHER}", f"valkey://{USER}:{ENCODED}@[::1:6/0",
    f"http://{USER}:{ENCODED}@h",
    f"redis+sentinel://{USER}:{ENCODED}@127.0.0.1:1/wb?sentinel_username={USER}&sentinel_password={OTHER}",
    f"redis+sentinel://{USER}:{ENCODED}@127.0.0.1:1", f"redis+sentinel://{USER}:{PASSWORD}@127.0.0.1:1/wb",
    f"redis://{USER}:{ENCODED}@127.0.0.1:1/0?ssl_keyfile={OTHER}",
)  # fmt: skip


@pytest.mark.parametrize("url", REDIS_URLS, ids=range(len(REDIS_URLS)))
async def test_redis_urls(url: str, watch: Watch) -> None:
    with pytest.raises(AsyncwbError) as caught:
        buffer = Buffer[int](
            url,
            backend=MemoryBackend(),
            connect_timeout_seconds=0.05,
            redis_timeout_seconds=0.5,
            redis_retry_seconds=0.05,
        )
        watch.seen.append(repr(buffer))
        await buffer.open()
    watch.error(caught.value)


async def test_bytes_and_clients(watch: Watch) -> None:
    for wrong in (f"redis://{USER}:{ENCODED}@h".encode(), [f"redis://{USER}:{ENCODED}@h"]):
        with pytest.raises(AsyncwbError) as caught:
            Buffer[int](wrong, backend=MemoryBackend())  # type: ignore[call-overload]
        watch.error(caught.value)
    client = redis.asyncio.Redis(host="127.0.0.1", port=1, username=USER, password=PASSWORD)
    buffer = Buffer[int](client, backend=MemoryBackend(), connect_timeout_seconds=0.05)
    with pytest.raises(AsyncwbError) as caught:
        await buffer.open()
    watch.error(caught.value)
    watch.seen += [repr(buffer), repr(target_of_client(client)), repr(target_of_url(REDIS_URLS[0])), repr(RedisLink(
        target_of_url(REDIS_URLS[0]), timeout_seconds=1))]  # fmt: skip
    assert isinstance(target_of_client(client), Target)
    await client.aclose()


BACKEND_URLS = (
    f"mongodb://{USER}:{ENCODED}@127.0.0.1:1/app?serverSelectionTimeoutMS=100&collection=c",
    f"mongodb://{USER}:{PASSWORD}@127.0.0.1:1/app?serverSelectionTimeoutMS=100",
    f"mongodb://{USER}:{ENCODED}@h:port/app",
    f"mongodb://{USER}:{CANARY}?pass@127.0.0.1:1/app",
    f"mongodb://{USER}:{ENCODED}@127.0.0.1:1/app?nosuch={OTHER}password",
    f"mongodb+srv://{USER}:{ENCODED}@no.such.host.invalid/app", f"mongodb://{USER}:{ENCODED}@127.0.0.1:1/app?tls=maybe",
    f"postgresql://{USER}:{ENCODED}@127.0.0.1:1/app", f"postgresql://{USER}:{PASSWORD}@127.0.0.1:1/app",
    f"postgresql://{USER}:{ENCODED}@127.0.0.1:port/app",
    f"postgresql://127.0.0.1:1/app?user={USER[:0]}x&password={OTHER}",
    f"sqlite://{USER}:{ENCODED}@h/app.db", f"file://{USER}:{ENCODED}@h/x", f"nosuch://{USER}:{ENCODED}@h/x",
    f"{USER}:{ENCODED}@h",
    f"sqlite:///no/such/folder/a.db?password={OTHER}", f"file:x?token={OTHER}",
)  # fmt: skip


@pytest.mark.parametrize("url", BACKEND_URLS, ids=range(len(BACKEND_URLS)))
async def test_backend_urls(url: str, watch: Watch, valkey_url: str, namespace: str, tmp_path: Path) -> None:
    assert postgresql_from_url is not None
    with pytest.raises(AsyncwbError) as caught:
        backend_from_url(url, codec=Codec())
        buffer = Buffer[int](valkey_url, backend=url, namespace=namespace, connect_timeout_seconds=0.4)
        watch.seen.append(repr(buffer))
        await buffer.open()
    watch.error(caught.value)


@pytest.fixture
async def guarded(private_server: StartServer) -> Server:
    """A server with a user of its own, and nobody else."""
    server = await asyncio.to_thread(private_server, "valkey")
    link = RedisLink.from_url(server.url, timeout_seconds=5)
    await link.command("ACL", "SETUSER", USER, "on", f">{PASSWORD}", "~*", "&*", "+@all")
    await link.command("ACL", "SETUSER", "default", "off")
    await link.close()
    return server


COMMANDS = (
    ("status",), ("keys",), ("show", "a"), ("dead", "list"), ("dead", "show", "a"), ("dead", "retry", "--all"),
    ("audit",),
    ("doctor",), ("backends",), ("flush", "--all"), ("doctor", "--acl"),
)  # fmt: skip
WITH_BACKEND = {"flush", "doctor"}
WITH_JSON = {"status", "keys", "show", "dead", "audit", "doctor", "flush"}


async def test_commands_and_everything_in_redis(guarded: Server, watch: Watch, namespace: str, tmp_path: Path) -> None:
    good = f"redis://{USER}:{ENCODED}@127.0.0.1:{guarded.port}/0"
    bad = f"redis://{USER}:{OTHER}@127.0.0.1:{guarded.port}/0"
    nobody = f"redis://127.0.0.1:{guarded.port}/0"
    backends = (f"sqlite:///{tmp_path}/a.db", BACKEND_URLS[0], BACKEND_URLS[3])
    async with Buffer[int](good, backend=f"sqlite:///{tmp_path}/a.db", namespace=namespace, flushers=1) as buffer:
        await buffer.set("a", 1)
        await buffer.flush("a", timeout=5)
        watch.seen.append(repr(buffer))
        watch.objects()
        for command in COMMANDS:
            for url in (good, bad, nobody) if command[0] in ("status", "doctor", "flush") else (good,):
                for backend in _backends_for(command, backends, first=url == good):
                    for as_json in (False, True):
                        await _output(watch, command, url, backend, namespace, as_json=as_json)
        await _worker(watch, bad, BACKEND_URLS[0])
        link = RedisLink.from_url(good, timeout_seconds=5)
        await _contents(watch, link)
        await link.close()


def _backends_for(command: tuple[str, ...], backends: tuple[str, ...], *, first: bool) -> tuple[str, ...]:
    """The one that isn't there takes its time, so it is asked for once."""
    if command[0] not in WITH_BACKEND:
        return ("",)
    return backends if command == ("doctor",) and first else (backends[0], backends[-1])


async def _output(
    watch: Watch, command: tuple[str, ...], url: str, backend: str, namespace: str, *, as_json: bool
) -> None:
    if (as_json and command[0] not in WITH_JSON) or (command[0] == "backends" and url):
        return
    arguments = [*command, "--redis", url, "--namespace", namespace]
    arguments += ["--backend", backend] * bool(backend) + ["--json"] * as_json
    result = await asyncio.to_thread(CliRunner().invoke, main, arguments)
    watch.seen.append(result.output)
    assert result.output or result.exit_code == 0
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        watch.error(result.exception)
        raise result.exception
    if as_json and result.exit_code == 0:
        json.loads(result.stdout)


async def _worker(watch: Watch, url: str, backend: str) -> None:
    """In a process of its own: it takes signals."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "asyncwb", "worker", "--redis", url, "--backend", backend,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(worker.communicate(), 60)
    assert worker.returncode == 2
    watch.seen.append(output.decode())


async def _contents(watch: Watch, link: RedisLink) -> None:
    names: list[bytes] = await link.command("KEYS", "*")
    assert any(name.endswith(b":workers") for name in names)
    for name in names:
        kind = (await link.command("TYPE", name)).decode()
        command: dict[str, tuple[str | bytes | int, ...]] = {
            "string": ("GET", name), "hash": ("HGETALL", name), "zset": ("ZRANGE", name, 0, -1),
            "list": ("LRANGE", name, 0, -1),
        }  # fmt: skip
        watch.seen += [repr(name), repr(await link.command(*command[kind]))]


async def test_permissions_and_tls(guarded: Server, watch: Watch, namespace: str) -> None:
    admin = RedisLink.from_url(f"redis://{USER}:{ENCODED}@127.0.0.1:{guarded.port}/0", timeout_seconds=5)
    await admin.command("ACL", "SETUSER", f"{USER}2", "on", f">{PASSWORD}", "+info")
    await admin.close()
    for url in (
        f"redis://{USER}2:{ENCODED}@127.0.0.1:{guarded.port}/0",
        f"rediss://{USER}:{ENCODED}@127.0.0.1:{guarded.port}/0",
    ):  # fmt: skip
        buffer: Buffer[Any] = Buffer(
            url, backend=MemoryBackend(), namespace=namespace, connect_timeout_seconds=0.05, redis_timeout_seconds=0.3
        )
        with pytest.raises(AsyncwbError) as caught:
            await buffer.open()
        watch.error(caught.value)
