"""The printed ACL rules are enough for everything, on every server, and nothing in them can be left out."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import asyncwb
from asyncwb import Buffer, DeadLettered, RecordRejected, RedisError, RedisRefused, Settings
from asyncwb.admin.acl import BESIDES, OPERATORS, SERVICES
from asyncwb.errors import BufferFull
from asyncwb.protocol.keys import PartitionKeys
from asyncwb.protocol.messages import Bounds
from asyncwb.protocol.queue import Queue
from asyncwb.protocol.transaction import Watch
from asyncwb.redis.connection import RedisLink
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness.commands import run, run_json
from tests.harness.replication import ask
from tests.harness.rig import open_rig, request_of
from tests.harness.servers import KINDS, Server, knows_waitaof

StartServer = Callable[..., Server]
_PATIENCE = 3.0
PACKAGE = Path(asyncwb.__file__).parent
SCRIPTS = sorted((PACKAGE / "protocol" / "lua").rglob("*.lua"))


def called() -> set[str]:
    """Returns every command that appears in the sources, in scripts or sent directly."""
    lua = "\n".join(path.read_text() for path in SCRIPTS)
    python = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    found = re.findall(r"(?:redis\.call|try|read_all|write_all)\('([A-Z]+)'", lua)
    found += re.findall(r"command\(\s*\"([A-Z]+)\"", python)
    # What a session or a pipeline sends, and what is sent as a tuple.
    found += re.findall(r"\(\"([A-Z]{3,})\",", python) + re.findall(r"return \"(WAIT\w*)\"", python)
    return {name.lower() for name in found} - {"loading"}  # an error of the server, in a tuple


def test_list_of_commands_is_that_of_the_sources() -> None:
    besides = {command.partition("|")[0] for command in BESIDES.values()}
    assert called() == (set(OPERATORS) | besides) - {"select"}  # redis-py sends SELECT


def test_scripts_call_nothing_by_a_name_that_is_computed() -> None:
    assert SCRIPTS
    for path in SCRIPTS:
        computed = set(re.findall(r"redis\.p?call[(,] *(?!')([^,)]+)", path.read_text()))
        # In write_all and read_all, and in try: those are looked for by name.
        assert computed <= {"command", "..."}


async def printed(namespace: str, role: str) -> list[str]:
    """Returns the rule as the command prints it."""
    text = (await run("doctor", "--acl", "--namespace", namespace)).stdout
    (line,) = re.findall(rf"^ACL SETUSER {namespace}-{role} reset on >PASSWORD (.+)$", text, re.MULTILINE)
    assert (await run_json("doctor", "--acl", "--namespace", namespace))[f"{role}s"] == line.split(" ")
    return list(line.split(" "))


async def user(server: Server, namespace: str, role: str, *besides: str, without: str = "") -> str:
    """Makes a user with the printed rule, and returns the URL for it."""
    rule = [word for word in await printed(namespace, role) if word != f"+{without}"]
    name = f"{namespace}-{role}"
    await asyncio.to_thread(ask, server, "ACL", "SETUSER", name, "reset", "on", ">PASSWORD", *rule, *besides)
    return f"redis://{name}:PASSWORD@127.0.0.1:{server.port}"


async def everything_of_a_service(url: str, namespace: str, watching: Server) -> None:
    """All that a service and its flushers do: writes, reads, conflicts, failures, limits, retries."""
    memory = MemoryBackend()
    backend = FaultyBackend(memory)
    for commit in ("script", "watch"):
        async with Buffer[int](
            url, backend=backend, namespace=namespace, commit=commit, flushers=2, max_attempts=2,
            retry_initial_seconds=0.01, max_age_seconds=60, redis_retry_seconds=0.2,
        ) as buffer:  # fmt: skip
            await buffer.set("a", 1)
            await buffer.set_many({f"k{number}": number for number in range(20)})
            assert await buffer.get("a") == 1
            assert await buffer.get("absent") is None
            await buffer.delete("k1")
            await buffer.flush("a", timeout=_PATIENCE)
            backend.poison["bad"] = ValueError("odd")
            await buffer.set("bad", 1)
            async with asyncio.timeout(_PATIENCE):
                while not (await buffer.stats()).dead:
                    await asyncio.sleep(0.01)
            backend.poison.clear()
            assert await buffer.retry_dead(["bad"]) == 1
            await buffer.drain(timeout=_PATIENCE)
            await during_a_save(buffer, backend)
            assert buffer.totals.crashes == 0
            assert memory.values["bad"] == 1
            keys = await asyncio.to_thread(ask, watching, "HLEN", PartitionKeys(namespace, 0, 1).workers)
            assert keys == 1, "the heartbeat"
    await of_updates(url, namespace)
    # A partition with updates takes no write-through.
    assert await asyncio.to_thread(ask, watching, "HDEL", PartitionKeys(namespace, 0, 1).meta, "mode") == 1
    await of_a_full_buffer(url, namespace, memory)
    await of_a_lost_reply(url, namespace)


async def during_a_save(buffer: Buffer[int], backend: FaultyBackend) -> None:
    """A write that the save under way doesn't cover."""
    backend.save_started.clear()
    backend.before_save.clear()
    await buffer.set("a", 2)
    await asyncio.wait_for(backend.save_started.wait(), _PATIENCE)
    await buffer.set("a", 3)
    backend.before_save.set()
    await buffer.drain(timeout=_PATIENCE)


async def of_updates(url: str, namespace: str) -> None:
    """Updates of a record that a flusher holds, until they are folded, and writes on a condition."""
    backend = FaultyBackend(MemoryBackend())
    async with Buffer[int](url, backend=backend, namespace=namespace, redis_retry_seconds=0.2) as buffer:
        await buffer.set("counter", 1)
        await buffer.drain(timeout=_PATIENCE)
        backend.before_save.clear()
        await buffer.add("counter")
        await asyncio.wait_for(backend.save_started.wait(), _PATIENCE)
        for _ in range(200):
            await buffer.add("counter")
        backend.before_save.set()
        await buffer.drain(timeout=_PATIENCE)
        value, version = await buffer.get_versioned("counter")
        assert value == 202
        await buffer.set("counter", 0, expected=version)


async def of_a_full_buffer(url: str, namespace: str, memory: MemoryBackend) -> None:
    async with Buffer[int](
        url, backend=memory, namespace=namespace, flushers=0, max_dirty=1, redis_retry_seconds=0.2
    ) as buffer:
        await buffer.set("a", 1)
        with pytest.raises(BufferFull):
            await buffer.set("b", 1)
    async with Buffer[int](
        url, backend=memory, namespace=namespace, flushers=0, max_bytes=40, on_full="write-through",
        redis_retry_seconds=0.2,
    ) as buffer:  # fmt: skip
        await buffer.set("b", 1)
        await buffer.set("a", 10**9)
        assert memory.values["a"] == 10**9
    refusing = FaultyBackend(memory)
    refusing.poison["dead"] = RecordRejected("never")
    async with Buffer[int](url, backend=refusing, namespace=namespace, redis_retry_seconds=0.2) as buffer:
        await buffer.set("dead", 1)
        with pytest.raises(DeadLettered):
            await buffer.flush("dead", timeout=_PATIENCE)
        await buffer.drain(timeout=_PATIENCE)
    async with Buffer[int](
        url, backend=memory, namespace=namespace, flushers=0, max_bytes=40, redis_retry_seconds=0.2
    ) as buffer:
        await buffer.set("a", 1)
        with pytest.raises(BufferFull, match="dead letter"):
            await buffer.set("b", 10**9)
    async with Buffer[int](url, backend=memory, namespace=namespace, redis_retry_seconds=0.2) as buffer:
        await buffer.retry_dead(["dead"])
        await buffer.drain(timeout=_PATIENCE)


async def of_a_lost_reply(url: str, namespace: str) -> None:
    """Sends a request twice, and extends a claim, releases one, and lets a lease expire."""
    link = RedisLink.from_url(url, timeout_seconds=5)
    queue = Queue(link, namespace, 0, 1)
    try:
        epoch = (await queue.read_meta()).epoch
        await queue.register("again")
        replies = [
            await queue.put(
                request_of([[(b"twice", b"pj1")]]), writer="again", request=1, repeated=repeated, epoch=epoch,
                delay_seconds=60.0, bounds=Bounds(),
            )
            for repeated in (False, True)
        ]  # fmt: skip
        assert replies[0] == replies[1]
        await queue.hasten()
        claim = await queue.claim(records=10, bytes=1000, lease_seconds=0.1)
        assert await queue.extend(claim.id, lease_seconds=0.1) == 1
        await asyncio.sleep(0.15)
        assert await queue.recover() == 1
        # From here on it is suspected of having killed its process, and goes alone.
        claim = await queue.claim(records=10, bytes=1000, lease_seconds=30, alone=True)
        await queue.release(claim.id)
        claim = await queue.claim(records=10, bytes=1000, lease_seconds=30, alone=True)
        acked = await queue.ack(claim)
        assert acked is not None
        assert acked.gone == 1
        # Idle pools are woken by it.
        await link.command("BLPOP", queue.keys.wake, "0.1", block_seconds=1)
        async with Watch(queue, "absent") as watch:
            assert await watch.read() is None
        async with Watch(queue, "absent") as watch:
            await watch.read()
            await watch.commit()
    finally:
        await link.close()


async def everything_of_an_operator(url: str, namespace: str, backend: str) -> None:
    async with Buffer[int](url, backend=backend, namespace=namespace, flushers=0) as buffer:
        await buffer.set("a", 1)
        await buffer.set("b", 1)
        where = ("--redis", url, "--namespace", namespace)
        async with asyncio.timeout(10):  # its first heartbeat is made beside the writes
            while len((await run_json("status", *where))["processes"]) != 1:
                await asyncio.sleep(0.05)
        assert len((await run_json("keys", *where))["keys"]) == 2
        await run("show", "a", *where)
        await run("dead", "list", *where)
        await run("audit", *where)
        found = (await run_json("doctor", *where, "--backend", backend))["findings"]
        assert not [each for each in found if each["level"] == "error"]
        await run("flush", "a", *where, "--backend", backend)
        await run("flush", "--all", *where, "--backend", backend)


@pytest.mark.parametrize("kind", KINDS)
async def test_printed_rules_are_enough(
    kind: str, request: pytest.FixtureRequest, private_server: StartServer, tmp_path: Path
) -> None:
    server = await asyncio.to_thread(private_server, kind)
    await everything_of_a_service(await user(server, "acl.1", "service"), "acl.1", server)
    backend = f"sqlite:///{tmp_path / 'app.db'}"
    await everything_of_an_operator(await user(server, "acl.2", "operator"), "acl.2", backend)


@pytest.mark.parametrize("kind", KINDS)
async def test_printed_rule_is_enough_for_fsync(kind: str, private_server: StartServer) -> None:
    """It uses WAITAOF where the server knows it, or else the setting that makes it unnecessary."""
    config = {"appendonly": "yes", "appendfsync": "everysec" if knows_waitaof(kind) else "always"}
    server = await asyncio.to_thread(private_server, kind, **config)
    bare = await user(server, "acl.3", "service")
    with pytest.raises((RedisRefused, RedisError, ValueError), match="doctor --acl"):
        await Buffer[int](bare, backend=MemoryBackend(), namespace="acl.3", durability="fsync").open()
    besides = BESIDES['durability="fsync"' if knows_waitaof(kind) else 'durability="fsync" before Redis 7.2']
    url = await user(server, "acl.3", "service", f"+{besides}")
    async with Buffer[int](url, backend=MemoryBackend(), namespace="acl.3", durability="fsync") as buffer:
        await buffer.set("a", 1)


async def test_former_rule_without_the_namespace_key_is_told(private_server: StartServer) -> None:
    server = await asyncio.to_thread(private_server, "valkey")
    rule = await printed("acl.8", "service")
    for pattern in ("~{wb:acl.8}:namespace", "~{wb:acl.8:*"):
        assert rule.count(pattern) == 1
        lacking = [word for word in rule if word != pattern]
        await asyncio.to_thread(ask, server, "ACL", "SETUSER", "former", "reset", "on", ">secret", *lacking)
        url = server.url.replace("redis://", "redis://former:secret@")
        with pytest.raises(RedisRefused, match="doctor --acl"):
            await Buffer[int](url, backend=MemoryBackend(), namespace="acl.8").open()


async def test_other_namespaces_and_databases_are_out_of_reach(private_server: StartServer) -> None:
    server = await asyncio.to_thread(private_server, "valkey")
    url = await user(server, "acl.4", "service")
    for other in ("acl.4x", "acl.5", "acl"):
        with pytest.raises(RedisRefused, match="doctor --acl"):
            await Buffer[int](url, backend=MemoryBackend(), namespace=other).open()
    with pytest.raises(RedisRefused):
        await Buffer[int](url + "/3", backend=MemoryBackend(), namespace="acl.4").open()
    url = await user(server, "acl.4", "service", f"+{BESIDES['a database other than 0']}")
    async with Buffer[int](url + "/3", backend=MemoryBackend(), namespace="acl.4") as buffer:
        await buffer.set("a", 1)


async def test_permission_that_is_taken_away_is_told_and_crashes_nothing(
    private_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = await asyncio.to_thread(private_server, "valkey")
    url = await user(server, "acl.6", "service")
    memory = MemoryBackend()
    settings = Settings(redis_retry_seconds=0.2, backoff_max_seconds=0.05, drain_timeout_seconds=0.5)
    async with Buffer[int](url, backend=memory, namespace="acl.6", settings=settings) as buffer:
        await user(server, "acl.6", "service", without="zadd")
        with pytest.raises(RedisRefused, match=r"doesn't permit.*`asyncwb doctor --acl`"):
            await buffer.set("a", 1)
        await user(server, "acl.6", "service")
        await buffer.set("a", 2)
        await user(server, "acl.6", "service", without="mget")
        await asyncio.sleep(0.3)
        await user(server, "acl.6", "service")
        await buffer.set("b", 3)
        await buffer.drain(timeout=5)
        assert buffer.totals.crashes == 0
    assert memory.values == {"a": 2, "b": 3}
    assert "acl.6-service" not in caplog.text, "the name of a user is nobody's business"


async def works(everything: Awaitable[None]) -> bool:
    try:
        await everything
    except (AssertionError, BufferFull, RedisError, TimeoutError):
        return False
    return True


async def test_services_need_every_command_of_their_rule(private_server: StartServer) -> None:
    server = await asyncio.to_thread(private_server, "valkey")
    # EVAL loads what EVALSHA doesn't find, so it goes first.
    url = await user(server, "least.eval", "service", without="eval")
    assert not await works(everything_of_a_service(url, "least.eval", server))
    others = [command for command in SERVICES if command != "eval"]
    urls = [await user(server, f"least.{command}", "service", without=command) for command in others]
    outcomes = await asyncio.gather(
        *(
            works(everything_of_a_service(url, f"least.{command}", server))
            for url, command in zip(urls, others, strict=True)
        )
    )
    assert [command for command, worked in zip(others, outcomes, strict=True) if worked] == []
    # By itself, since it has to be through in time: the whole rule suffices for the same calls.
    url = await user(server, "least.nothing", "service")
    await everything_of_a_service(url, "least.nothing", server)


async def test_operators_need_every_command_of_their_rule(private_server: StartServer, tmp_path: Path) -> None:
    server = await asyncio.to_thread(private_server, "valkey")
    for command in (*sorted(set(OPERATORS) - set(SERVICES)), "nothing"):
        url = await user(server, f"least.{command}", "operator", without=command)
        everything = everything_of_an_operator(url, f"least.{command}", f"sqlite:///{tmp_path / command}.db")
        assert await works(everything) is (command == "nothing"), command


async def test_transaction_that_may_not_begin_removes_nothing(private_server: StartServer) -> None:
    """Or what was to be queued would be executed one by one, whoever has written the record since."""
    server = await asyncio.to_thread(private_server, "valkey")
    link = RedisLink.from_url(await user(server, "no.multi", "service", without="multi"), timeout_seconds=5)
    async with open_rig(server, "no.multi") as rig:
        await rig.put("a", b"1")
        with pytest.raises(RedisRefused, match="multi"):
            async with Watch(Queue(link, "no.multi", 0, 1), "a") as watch:
                await watch.read()
                version = await rig.put("a", b"2")
                await watch.commit()
        assert await rig.read("a") == (version, b"2")
    await link.close()
