"""The doctor's look at a server, by what its INFO says: most of that can't be brought about within a test."""

from collections.abc import AsyncIterator
from typing import get_args

import pytest

from asyncwb.admin.doctor.finding import Finding, Level
from asyncwb.admin.doctor.server import look_at_server
from asyncwb.redis.connection import RedisLink
from asyncwb.redis.suitability import Flaw, flaws

SOUND = {
    "redis_version": "7.2.4",
    "role": "master",
    "cluster_enabled": "0",
    "maxmemory_policy": "noeviction",
    "maxmemory": "0",
    "used_memory": str(2**20),
    "total_system_memory": str(2**30),
    "aof_enabled": "1",
    "aof_last_write_status": "ok",
    "rdb_last_bgsave_status": "ok",
    "connected_slaves": "0",
}
MIB = 2**20


@pytest.fixture
async def link() -> AsyncIterator[RedisLink]:
    link = RedisLink.from_url("redis://buffer.example:6379", timeout_seconds=1.0)
    yield link
    await link.close()


def found(link: RedisLink, **info: str) -> dict[str, Finding]:
    """Returns the findings for a server that is sound except for the given fields."""
    findings = [*look_at_server(link, SOUND | info)]
    checks = [each.check for each in findings]
    assert len({*checks}) == len(checks)
    assert {"server", "eviction", "memory", "persistence", "replicas"} <= {*checks}
    assert all(each.advice for each in findings if each.level != "ok"), "whatever is wrong comes with what to do"
    return {each.check: each for each in findings}


async def test_nothing_is_wrong_with_a_sound_server(link: RedisLink) -> None:
    findings = found(link)
    assert {each.level for each in findings.values()} == {"ok"}
    assert findings["server"].text == "Redis 7.2.4 at redis://buffer.example:6379"


@pytest.mark.parametrize(
    ("redis", "valkey", "level", "name"),
    [
        ("6.0.16", None, "error", "Redis 6.0.16"),
        ("5.9.9", None, "error", "Redis 5.9.9"),
        ("6.2.0", None, "ok", "Redis 6.2.0"),
        ("10.0.0", None, "ok", "Redis 10.0.0"),
        ("7.2.4", "8.1.0", "ok", "Valkey 8.1.0"),
    ],
)
async def test_server_that_is_too_old_is_an_error(
    link: RedisLink, redis: str, valkey: str | None, level: Level, name: str
) -> None:
    server = found(link, redis_version=redis, **({"valkey_version": valkey} if valkey else {}))["server"]
    assert server.level == level
    assert name in server.text


@pytest.mark.parametrize(
    ("used", "limit", "level", "of"),
    [
        (70, 100, "ok", "70% of maxmemory"),
        (81, 100, "warning", "81% of maxmemory"),
        (96, 100, "error", "96% of maxmemory"),
        (1000, 0, "error", "98% of the machine's memory"),
        (1, 0, "ok", "0% of the machine's memory"),
    ],
)
async def test_memory_is_measured_by_the_limit_or_by_the_machine(
    link: RedisLink, used: int, limit: int, level: Level, of: str
) -> None:
    memory = found(link, used_memory=str(used * MIB), maxmemory=str(limit * MIB))["memory"]
    assert (memory.level, memory.text.startswith(of)) == (level, True), memory.text


@pytest.mark.parametrize(
    ("info", "level", "text"),
    [
        ({"aof_enabled": "1", "rdb_last_bgsave_status": "err"}, "ok", "append-only file"),
        ({"aof_enabled": "1", "aof_last_write_status": "err"}, "error", "append-only file can't be written"),
        ({"aof_enabled": "0", "rdb_last_bgsave_status": "err"}, "error", "the last snapshot failed"),
        ({"aof_enabled": "0"}, "warning", "no append-only file"),
    ],
)
async def test_disk_that_fails_is_worse_than_none(
    link: RedisLink, info: dict[str, str], level: Level, text: str
) -> None:
    persistence = found(link, **info)["persistence"]
    assert persistence.level == level
    assert text in persistence.text


@pytest.mark.parametrize(
    ("info", "level", "text"),
    [
        ({"min_slaves_good_slaves": "2"}, "ok", "2 online"),
        ({}, "warning", "2 online; an old primary that comes back"),
        ({"slave1": "ip=b,port=2,state=wait_bgsave", "min_slaves_good_slaves": "1"}, "warning", "1 of 2 aren't online"),
    ],
)
async def test_replicas_have_to_be_online_and_required(
    link: RedisLink, info: dict[str, str], level: Level, text: str
) -> None:
    states = {"connected_slaves": "2", "slave0": "ip=a,port=1,state=online", "slave1": "ip=b,port=2,state=online"}
    replicas = found(link, **states | info)["replicas"]
    assert replicas.level == level
    assert text in replicas.text


async def test_replica_names_its_primary(link: RedisLink) -> None:
    role = found(link, role="slave", master_host="10.0.0.1", master_port="6380")["role"]
    assert role.level == "error"
    assert "redis://10.0.0.1:6380" in role.advice


async def test_cluster_node_and_server_that_evicts_are_errors(link: RedisLink) -> None:
    findings = found(link, cluster_enabled="1", maxmemory_policy="volatile-lru")
    assert findings["role"].level == findings["eviction"].level == "error"
    assert "volatile-lru" in findings["eviction"].text


UNSUITABLE: dict[Flaw, dict[str, str]] = {
    "replica": {"role": "slave"},
    "evicts": {"maxmemory_policy": "allkeys-lru"},
    "cluster": {"cluster_enabled": "1"},
}


@pytest.mark.parametrize("flaw", get_args(Flaw))
async def test_doctor_reports_each_flaw_for_which_buffers_refuse_a_server(link: RedisLink, flaw: Flaw) -> None:
    info = UNSUITABLE[flaw]
    assert [*flaws(SOUND)] == []
    assert [*flaws(SOUND | info)] == [flaw]
    assert [each.level for each in found(link, **info).values()].count("error") == 1
