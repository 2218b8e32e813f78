"""Router: each key goes to its partition, writes in the order of their calls, and each key has its own answer."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from asyncwb.core.engine import Engine
from asyncwb.core.router import Router
from asyncwb.errors import BufferFull, DecodeError, PartialFailure, UsageError
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.protocol.keys import PartitionKeys, partition_of
from asyncwb.protocol.wire import unpack_record
from asyncwb.redis.connection import RedisLink
from asyncwb.settings import Settings
from asyncwb.testing import MemoryBackend

PARTITIONS = 3
KEYS = [b"k%d" % number for number in range(12)]
BODY = b"pj1"


@pytest.fixture
async def engine(valkey_url: str, namespace: str) -> AsyncIterator[Engine]:
    settings = Settings(namespace=namespace, partitions=PARTITIONS, flushers=0, max_dirty=5)
    backend = BackendAdapter(
        MemoryBackend(), name="memory", namespace=namespace, connect_timeout_seconds=5.0, save_timeout_seconds=5.0
    )
    engine = Engine(valkey_url, backend, settings, codec="json", emit=lambda _: None)
    await engine.open()
    yield engine
    await engine.close()


@pytest.fixture
async def router(engine: Engine) -> Router:
    return engine.router


@pytest.fixture
async def link(valkey_url: str) -> AsyncIterator[RedisLink]:
    link = RedisLink.from_url(valkey_url, timeout_seconds=5)
    yield link
    await link.close()


async def test_each_key_is_written_to_and_read_from_its_partition(
    router: Router, link: RedisLink, namespace: str
) -> None:
    versions = await router.put_many(dict.fromkeys(KEYS, BODY), "memory")
    assert versions.keys() == {key.decode() for key in KEYS}
    for key in KEYS:
        place = PartitionKeys(namespace, partition_of(key, PARTITIONS), PARTITIONS).record(key)
        packed = await link.command("GET", place)
        assert unpack_record(key.decode(), packed).version == versions[key.decode()]
        assert [*await router.get(key)] == [packed]
    groups = router.grouped(KEYS)
    assert [len(groups), sum(map(len, groups.values()))] == [PARTITIONS, len(KEYS)]


async def test_writes_are_submitted_in_the_order_of_their_calls(router: Router) -> None:
    calls = [router.put(b"a", b"pj%d" % number, "memory") for number in range(50)]
    versions = await asyncio.gather(*calls)
    assert versions == sorted(versions)
    (found,) = await router.get(b"a")
    assert isinstance(found, bytes)
    assert unpack_record("a", found).payload == b"49"


async def test_partitions_that_are_full_do_not_hide_what_was_written_to_the_others(router: Router) -> None:
    of_first = [key for key in (b"x%d" % number for number in range(99)) if partition_of(key, PARTITIONS) == 0]
    await router.put_many(dict.fromkeys(of_first[:5], BODY), "memory")
    with pytest.raises(PartialFailure) as caught:
        await router.put_many(dict.fromkeys([of_first[5], *KEYS], BODY), "memory")
    full = {key.decode() for key in [of_first[5], *KEYS] if partition_of(key, PARTITIONS) == 0}
    assert caught.value.failed.keys() == full
    assert {type(error) for error in caught.value.failed.values()} == {BufferFull}
    assert caught.value.versions.keys() == {key.decode() for key in KEYS} - full


async def test_record_that_cannot_be_read_leaves_every_other_key_its_answer(
    router: Router, link: RedisLink, namespace: str
) -> None:
    await router.put_many(dict.fromkeys(KEYS, BODY), "memory")
    bad = KEYS[0]
    await link.command("SET", PartitionKeys(namespace, partition_of(bad, PARTITIONS), PARTITIONS).record(bad), "x")
    found = dict(await router.get_many([*KEYS, b"nowhere"]))
    assert isinstance(found.pop(bad), DecodeError)
    assert found.pop(b"nowhere") is None
    assert found.keys() == {*KEYS[1:]}
    assert all(isinstance(each, bytes) for each in found.values())


async def test_closed_router_fails_what_comes(engine: Engine) -> None:
    router = engine.router
    await engine.close()
    with pytest.raises(UsageError, match="closed"):
        await router.put(b"a", BODY, "memory")
    with pytest.raises(UsageError, match="closed"):
        await router.put(b"a", BODY, "fsync")
    with pytest.raises(UsageError, match="closed"):
        await router.get(b"a")
