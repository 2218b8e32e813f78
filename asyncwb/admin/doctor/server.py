"""Checks whether the Redis server is fit to be a write buffer."""

import re
import time
from collections.abc import Iterator
from typing import Final

from asyncwb.admin.doctor.finding import Finding
from asyncwb.redis.clock import server_seconds
from asyncwb.redis.connection import RedisLink
from asyncwb.redis.suitability import flaws

_OLDEST_SERVER: Final = (6, 2)
_MOST_CLOCK_SECONDS: Final = 5.0


def look_at_server(link: RedisLink, info: dict[str, str]) -> Iterator[Finding]:
    """Yields findings about the server, from `info`, the fields of INFO."""
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "?")
    numbers = tuple(map(int, re.findall(r"\d+", info.get("redis_version", "0"))[:2]))
    if numbers < _OLDEST_SERVER:
        yield Finding(
            "server", "error", f"{name} {version} at {link.where}", "it has to be Redis 6.2 or later, or Valkey"
        )
    else:
        yield Finding("server", "ok", f"{name} {version} at {link.where}")
    yield from _suitability(info)
    yield _memory(info)
    yield _persistence(info)
    yield _replicas(info)


def _suitability(info: dict[str, str]) -> Iterator[Finding]:
    found = {*flaws(info)}
    if "replica" in found:
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        yield Finding(
            "role",
            "error",
            f"it is a read-only replica of {primary}",
            f"use the primary, redis://{primary}, or Sentinel",
        )
    if "cluster" in found:
        yield Finding("role", "error", "it is a cluster node", "clusters aren't supported yet: use a single primary")
    if "evicts" in found:
        yield Finding(
            "eviction",
            "error",
            f"maxmemory-policy is {info['maxmemory_policy']}: acknowledged writes could be evicted",
            "run CONFIG SET maxmemory-policy noeviction, and put it into the server's configuration",
        )
    else:
        yield Finding("eviction", "ok", "noeviction")


def _memory(info: dict[str, str]) -> Finding:
    used, limit = int(info.get("used_memory", "0")), int(info.get("maxmemory", "0"))
    top = limit or int(info.get("total_system_memory", "0"))
    of = "maxmemory" if limit else "the machine's memory"
    share = used / top if top else 0.0
    text = f"{share:.0%} of {of} used ({used / 2**20:,.0f} of {top / 2**20:,.0f} MiB)"
    if share > 0.95:
        return Finding(
            "memory", "error", text, "writes will be refused soon: check the backend and the workers, or add memory"
        )
    if share > 0.8:
        return Finding("memory", "warning", text, "set max_bytes below what there is, or add memory")
    return Finding("memory", "ok", text)


def _persistence(info: dict[str, str]) -> Finding:
    if info.get("aof_enabled") == "1":
        if info.get("aof_last_write_status", "ok") != "ok":
            return Finding(
                "persistence", "error", "the append-only file can't be written", "check the server's disk, and its log"
            )
        return Finding("persistence", "ok", "append-only file")
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        return Finding("persistence", "error", "the last snapshot failed", "check the server's disk, and its log")
    return Finding(
        "persistence",
        "warning",
        "no append-only file: a restart of the server loses writes that aren't saved yet",
        "run CONFIG SET appendonly yes, and put it into the server's configuration",
    )


def _replicas(info: dict[str, str]) -> Finding:
    count = int(info.get("connected_slaves", "0"))
    if not count:
        return Finding("replicas", "ok", "none: unsaved writes are as safe as this server's disk")
    states = [value for name, value in info.items() if re.fullmatch(r"slave\d+", name)]
    lagging = [state for state in states if "state=online" not in state]
    if lagging:
        return Finding("replicas", "warning", f"{len(lagging)} of {count} aren't online", "check them: " + lagging[0])
    if info.get("min_slaves_good_slaves") is None:
        return Finding(
            "replicas",
            "warning",
            f"{count} online; an old primary that comes back after a failover could take writes for a second",
            "run CONFIG SET min-replicas-to-write 1, and put it into the server's configuration",
        )
    return Finding("replicas", "ok", f"{count} online")


async def look_at_clock(link: RedisLink) -> Finding:
    """Compares the server's clock with this machine's. Raises RedisError."""
    ahead = await server_seconds(link) - time.time()
    if abs(ahead) > _MOST_CLOCK_SECONDS:
        return Finding(
            "clock",
            "warning",
            f"the server's clock is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's",
            "let both follow NTP; asyncwb goes by the server's alone",
        )
    return Finding("clock", "ok", "server and this machine agree")
