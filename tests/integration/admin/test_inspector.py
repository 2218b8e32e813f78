"""Inspector: a namespace over all its partitions, as an operator sees it; it needs Redis alone and changes nothing."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from asyncwb import Buffer, Settings
from asyncwb.admin.inspector import open_inspector
from asyncwb.errors import ConfigurationError, RedisUnavailable
from asyncwb.protocol.keys import namespace_key, partition_of
from asyncwb.protocol.messages import Failure
from asyncwb.protocol.namespace import Namespace as NamespaceOnServer
from asyncwb.protocol.presence import Presence
from asyncwb.protocol.queue import Queue
from asyncwb.redis.connection import RedisLink
from asyncwb.testing import MemoryBackend
from tests.harness.rig import Rig

PARTITIONS = 3


class Namespace:
    """Three partitions, and keys in each of them."""

    def __init__(self, url: str, name: str, link: RedisLink) -> None:
        self.url, self.name, self.link = url, name, link
        self.rigs = [Rig(Queue(link, name, number, PARTITIONS)) for number in range(PARTITIONS)]

    async def prepare(self) -> None:
        await NamespaceOnServer(self.link, self.name).enter(partitions=PARTITIONS, codec="json")
        for rig in self.rigs:
            meta = await rig.queue.read_meta()
            assert await rig.queue.install_epoch(meta, 1, codec="json")
            await rig.queue.register("w")

    async def put(self, key: str) -> int:
        """Writes a key and returns its partition."""
        number = partition_of(key.encode(), PARTITIONS)
        await self.rigs[number].put(key)
        return number


@pytest.fixture
async def made(redis_url: str, namespace: str) -> AsyncIterator[Namespace]:
    link = RedisLink.from_url(redis_url, timeout_seconds=5)
    made = Namespace(redis_url, namespace, link)
    await made.prepare()
    yield made
    await link.close()


async def contents(link: RedisLink) -> dict[bytes, Any]:
    return {name: await link.command("DUMP", name) for name in await link.command("KEYS", "*")}


async def test_status_is_that_of_all_partitions_together(made: Namespace) -> None:
    await Presence(made.rigs[0].queue).beat("a process", {"flushers": 2})
    keys = [f"k{number}" for number in range(12)]
    assert {await made.put(key) for key in keys} == {0, 1, 2}
    await made.rigs[1].claim(records=1)
    claim = await made.rigs[2].claim(records=1)
    await made.rigs[2].queue.ack(claim, failed={claim.records[0].key: Failure("odd", "dead")})
    async with open_inspector(made.url, made.name) as inspector:
        status = await inspector.status()
        assert (status.dirty, status.leased, status.dead) == (10, 1, 1)
        assert status.bytes == sum([(await rig.queue.stats()).bytes for rig in made.rigs])
        assert status.oldest_age_seconds is not None
        assert status.epochs == [1, 1, 1]
        assert [(each.id, each.facts) for each in status.processes] == [("a process", {"flushers": 2})]
        assert status.server["maxmemory_policy"] == "noeviction"


async def test_age_is_that_of_the_oldest_write_of_any_partition_if_there_is_one(made: Namespace) -> None:
    async with open_inspector(made.url, made.name) as inspector:
        assert (await inspector.status()).oldest_age_seconds is None
        for key in ("k0", "k1", "k2", "k3", "k4", "k5"):
            await made.put(key)
        before = [(await rig.queue.stats()).oldest_age_seconds or 0.0 for rig in made.rigs]
        age = (await inspector.status()).oldest_age_seconds
        assert age is not None
        assert age >= max(before)


async def test_operators_and_services_are_told_the_same(made: Namespace) -> None:
    settings = Settings(namespace=made.name, partitions=3, flushers=0)
    async with Buffer[Any](made.url, backend=MemoryBackend(), settings=settings) as buffer:
        await buffer.set_many({f"k{number}": number for number in range(12)})
        await made.rigs[1].claim(records=1)
        claim = await made.rigs[2].claim(records=1)
        await made.rigs[2].queue.ack(claim, failed={claim.records[0].key: Failure("odd", "dead")})
        stats = await buffer.stats()
        async with open_inspector(made.url, made.name) as inspector:
            status = await inspector.status()
    assert (stats.dirty, stats.leased, stats.dead) == (status.dirty, status.leased, status.dead) == (10, 1, 1)
    assert stats.buffered_bytes == status.bytes
    assert stats.epoch == max(status.epochs)
    assert stats.oldest_age_seconds is not None
    assert status.oldest_age_seconds is not None
    assert 0 <= stats.oldest_age_seconds <= status.oldest_age_seconds < stats.oldest_age_seconds + 5


async def test_records_and_dead_letters_of_all_partitions_are_listed(made: Namespace) -> None:
    keys = {f"k{number}" for number in range(12)}
    for key in sorted(keys):
        await made.put(key)
    buried, leased = set[str](), set[str]()
    for rig in made.rigs:
        claim = await rig.claim(records=1)
        buried |= {each.key for each in claim.records}
        await rig.queue.ack(claim, failed={each.key: Failure("odd", "dead") for each in claim.records})
        leased |= {each.key for each in (await rig.claim(records=1)).records}
    assert len(buried) == len(leased) == PARTITIONS
    async with open_inspector(made.url, made.name) as inspector:
        assert {each.key: each.reason async for each in inspector.dead()} == dict.fromkeys(buried, "odd")
        assert {each.key async for each in inspector.listed("leased")} == leased
        assert {each.key async for each in inspector.listed("dirty")} == keys - buried - leased


async def test_key_is_found_in_its_partition(made: Namespace) -> None:
    async with open_inspector(made.url, made.name) as inspector:
        for key in ("k0", "k1", "k2", "k3"):
            number = await made.put(key)
            assert inspector.part_of(key) is inspector.parts[number]
            described = await inspector.part_of(key).describe(key)
            assert described is not None
            assert described.where == "dirty"
        strange = "caf\udce9"  # bytes that another program has written
        assert await inspector.part_of(strange).describe(strange) is None


async def test_looking_changes_nothing_and_needs_no_epoch(made: Namespace) -> None:
    """This holds even at a server with another history, where a service would first begin an epoch."""
    await made.put("k0")
    for rig in made.rigs:
        await made.link.command("HSET", rig.keys.meta, "identity", "of another server")
    before = await contents(made.link)
    async with open_inspector(made.url, made.name) as inspector:
        assert (await inspector.status()).dirty == 1
        assert [each.key async for each in inspector.listed("dirty")] == ["k0"]
        assert await inspector.part_of("k0").describe("k0") is not None
    assert await contents(made.link) == before


async def test_namespace_that_was_never_written_is_named(redis_url: str, namespace: str) -> None:
    with pytest.raises(ConfigurationError, match=f"nothing was ever written to namespace '{namespace}'"):
        async with open_inspector(redis_url, namespace):
            pass


async def test_namespace_of_another_version_is_not_looked_at(made: Namespace) -> None:
    await made.link.command("HSET", namespace_key(made.name), "layout", "99")
    with pytest.raises(ConfigurationError, match="another version of asyncwb"):
        async with open_inspector(made.url, made.name):
            pass


@pytest.mark.parametrize("number", ["0", "1025", "-1", "3.0", "", "three", "9" * 100])
async def test_number_of_partitions_that_another_program_wrote_is_told(made: Namespace, number: str) -> None:
    key = namespace_key(made.name)
    await made.link.command("HSET", key, "partitions", number)
    with pytest.raises(ConfigurationError, match="another program has overwritten it") as caught:
        async with open_inspector(made.url, made.name):
            pass
    assert key.decode() in str(caught.value)
    assert len(str(caught.value)) < 500


async def test_server_that_is_away_is_told_soon(unused_tcp_port: int, namespace: str) -> None:
    with pytest.raises(RedisUnavailable):
        async with open_inspector(f"redis://127.0.0.1:{unused_tcp_port}", namespace):
            pass
