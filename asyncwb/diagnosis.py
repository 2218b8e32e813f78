"""What `asyncwb doctor` finds out: one finding for each thing that has to be right, with what to do if it isn't."""

import contextlib
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from typing import Final, Literal

from asyncwb.codecs import Codec
from asyncwb.connecting import connect
from asyncwb.errors import AsyncwbError, ConfigurationError, MissingDependency, RedisError, RedisRefused
from asyncwb.guard import GuardedBackend
from asyncwb.inspector import Inspector, Status, check_partitions
from asyncwb.redis.connection import RedisLink, server_info
from asyncwb.redis.inspection import Inspection
from asyncwb.redis.keys import LAYOUT
from asyncwb.redis.queue import Queue
from asyncwb.redis.steps import Hello
from asyncwb.registry import backend_from_url, plugins
from asyncwb.urls import redact

Level = Literal["ok", "warning", "error"]

OLDEST_REDIS_PY: Final = (8, 0, 1)
"""Before, options that asyncwb needs didn't exist, and a cancelled WATCH leaked a connection."""
_OLDEST_SERVER: Final = (6, 2)
_MOST_CLOCK_SECONDS: Final = 5.0
_STUCK_SECONDS: Final = 10.0
_OLD_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor.

    Attributes:
        check: what was looked at.
        level: "error": writes are refused, or can be lost; "warning": they can be lost by a further fault, or wait.
        text: what was found.
        advice: what to do; "" if all is well.
    """

    check: str
    level: Level
    text: str
    advice: str = ""


async def diagnose(redis: str | None, backend: str | None, namespace: str) -> AsyncIterator[Finding]:
    """Looks at everything that can be looked at; never raises for what it finds."""
    driver = _redis_py()
    yield driver
    if driver.level == "error":
        return  # nothing could be asked with it
    for finding in _plugins(backend):
        yield finding
    highest: int | None = None
    if backend is None:
        yield Finding("backend", "warning", "not looked at", "pass --backend URL, or set ASYNCWB_BACKEND")
    else:
        finding, highest = await _backend(backend)
        yield finding
    async with AsyncExitStack() as stack:
        try:
            link = await connect(redis, stack, timeout_seconds=5.0)
            info = await server_info(link)
        except AsyncwbError as error:
            yield Finding("server", "error", str(error), _advice_unreachable(error))
            return
        for finding in _server(link, info):
            yield finding
        yield await _clock(link)
        async for finding in _namespace(link, namespace, highest):
            yield finding


def _redis_py() -> Finding:
    version = installed_version("redis")
    numbers = tuple(map(int, re.findall(r"\d+", version)[:3]))
    if numbers >= OLDEST_REDIS_PY:
        return Finding("redis-py", "ok", version)
    oldest = ".".join(map(str, OLDEST_REDIS_PY))
    return Finding("redis-py", "error", f"{version} is too old for asyncwb", f"run pip install 'redis>={oldest}'")


def _plugins(backend: str | None) -> Iterator[Finding]:
    wanted = (backend or "").partition(":")[0].lower()
    usable = []
    for plugin in plugins():
        if plugin.problem is None:
            usable.append(plugin.scheme)
        elif plugin.scheme == wanted:
            yield Finding("plugins", "error", f"{plugin.scheme} of {plugin.distribution} can't be used", plugin.problem)
        elif "isn't installed" not in plugin.problem:  # an extra that nobody asked for is no fault
            yield Finding("plugins", "warning", f"{plugin.scheme} of {plugin.distribution} is broken", plugin.problem)
    yield Finding("plugins", "ok", f"usable: {', '.join(usable) or 'none'}")


async def _backend(url: str) -> tuple[Finding, int | None]:
    shown = redact(url)
    try:
        plugin = backend_from_url(url, codec=Codec())
    except MissingDependency as error:
        return Finding("backend", "error", f"{shown} can't be used", str(error)), None
    except ConfigurationError as error:
        return Finding("backend", "error", f"{shown} is wrong", str(error)), None
    guarded = GuardedBackend(plugin, name=shown, connect_timeout_seconds=5.0, save_timeout_seconds=5.0)
    try:
        await guarded.open()
        highest = await guarded.new_epoch(0)
        durable = str(getattr(plugin, "durability", ""))
    except AsyncwbError as error:
        advice = (
            "see that it runs, and that address, user and password in the URL are right; until then nothing is saved: "
            "unsaved writes wait in Redis, and are as safe there as its persistence makes them"
        )
        return Finding("backend", "error", str(error), advice), None
    finally:
        with contextlib.suppress(AsyncwbError):
            await guarded.close()
    if not durable:
        return Finding(
            "backend", "warning", f"{shown} is reachable", "it doesn't say how durable its saves are"
        ), highest
    return Finding("backend", "ok", f"{shown} is reachable; durable by {durable}"), highest


def _advice_unreachable(error: AsyncwbError) -> str:
    if isinstance(error, RedisRefused):
        return "check user and password in the URL, and the ACL of the user (`asyncwb doctor --acl`)"
    if isinstance(error, RedisError):
        return "see that the server runs, and that host and port are right"
    return ""


def _server(link: RedisLink, info: dict[str, str]) -> Iterator[Finding]:
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "?")
    numbers = tuple(map(int, re.findall(r"\d+", info.get("redis_version", "0"))[:2]))
    if numbers < _OLDEST_SERVER:
        yield Finding(
            "server", "error", f"{name} {version} at {link.where}", "it has to be Redis 6.2 or later, or Valkey"
        )
    else:
        yield Finding("server", "ok", f"{name} {version} at {link.where}")
    if info.get("role", "master") != "master":
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        yield Finding(
            "role",
            "error",
            f"it is a read-only replica of {primary}",
            f"use the primary, redis://{primary}, or Sentinel",
        )
    if info.get("cluster_enabled") == "1":
        yield Finding("role", "error", "it is a cluster node", "clusters aren't supported yet: use a single primary")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield Finding(
            "eviction",
            "error",
            f"maxmemory-policy is {policy}: acknowledged writes could be evicted",
            "run CONFIG SET maxmemory-policy noeviction, and put it into the server's configuration",
        )
    else:
        yield Finding("eviction", "ok", "noeviction")
    yield _memory(info)
    yield _persistence(info)
    yield _replicas(info)


def _memory(info: dict[str, str]) -> Finding:
    used, limit = int(info.get("used_memory", "0")), int(info.get("maxmemory", "0"))
    top = limit or int(info.get("total_system_memory", "0"))
    of = "maxmemory" if limit else "the machine's memory"
    share = used / top if top else 0.0
    text = f"{share:.0%} of {of} used ({used / 2**20:,.0f} of {top / 2**20:,.0f} MiB)"
    if share > 0.95:
        return Finding(
            "memory", "error", text, "writes are refused soon: see to the backend and workers, or add memory"
        )
    if share > 0.8:
        return Finding("memory", "warning", text, "set max_bytes below what there is, or add memory")
    return Finding("memory", "ok", text)


def _persistence(info: dict[str, str]) -> Finding:
    if info.get("aof_enabled") == "1":
        if info.get("aof_last_write_status", "ok") != "ok":
            return Finding("persistence", "error", "the append-only file can't be written", "see to the server's disk")
        return Finding("persistence", "ok", "append-only file")
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        return Finding("persistence", "error", "the last snapshot failed", "see to the server's disk, and its log")
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
        return Finding("replicas", "warning", f"{len(lagging)} of {count} aren't online", "see to them: " + lagging[0])
    if info.get("min_slaves_good_slaves") is None:
        return Finding(
            "replicas",
            "warning",
            f"{count} online; an old primary that comes back after a failover could take writes for a second",
            "run CONFIG SET min-replicas-to-write 1, and put it into the server's configuration",
        )
    return Finding("replicas", "ok", f"{count} online")


async def _clock(link: RedisLink) -> Finding:
    seconds, micros = await link.command("TIME")
    ahead = int(seconds) + int(micros) / 1e6 - time.time()
    if abs(ahead) > _MOST_CLOCK_SECONDS:
        return Finding(
            "clock",
            "warning",
            f"the server's clock is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's",
            "let both follow NTP; asyncwb goes by the server's alone",
        )
    return Finding("clock", "ok", "server and this machine agree")


async def _namespace(link: RedisLink, namespace: str, highest: int | None) -> AsyncIterator[Finding]:
    try:
        async for finding in _look(link, namespace, highest):
            yield finding
    except AsyncwbError as error:
        yield Finding("namespace", "error", str(error), _advice_unreachable(error))


async def _look(link: RedisLink, namespace: str, highest: int | None) -> AsyncIterator[Finding]:
    queue = Queue(link, namespace, 0)
    broken = [finding async for finding in _misplaced(Inspection(queue))]
    if broken:
        for finding in broken:
            yield finding
        return  # nothing could be asked
    hello = await queue.hello()
    if not hello.layout:
        yield Finding("namespace", "warning", f"nothing was ever written to {namespace!r}", "check --namespace")
        return
    if hello.layout != str(LAYOUT):
        yield Finding(
            "namespace",
            "error",
            f"{namespace!r} has layout {hello.layout}, not {LAYOUT}",
            "drain it with its own version",
        )
        return
    check_partitions(hello, namespace)
    inspector = Inspector(link, namespace, hello)
    broken = [finding for part in inspector.parts[1:] async for finding in _misplaced(part)]
    if broken:
        for finding in broken:
            yield finding
        return
    status = await inspector.status()
    yield Finding("namespace", "ok", f"{namespace!r}: {status.dirty:,} dirty, {status.leased:,} leased, {hello.codec}")
    yield _epoch(hello, status, highest)
    for finding in _work(namespace, status):
        yield finding
    stuck = 0
    async for record in inspector.listed("leased"):
        stuck += record.due_in_seconds < -_STUCK_SECONDS
    if stuck:
        text = f"{stuck} ended more than {_STUCK_SECONDS:g} s ago"
        yield Finding("leases", "warning", text, "start a worker: it takes them")
    else:
        yield Finding("leases", "ok", "none stuck")


async def _misplaced(part: Inspection) -> AsyncIterator[Finding]:
    for name, theirs, ours in await part.misplaced():
        if name.endswith(":meta"):
            then = "the next process that opens the namespace begins a new epoch"
        else:
            then = "run asyncwb audit: it makes every record dirty that is in no set"
        yield Finding(
            "keys", "error", f"{name} is a {theirs}, not a {ours}: another program wrote it", f"DEL it, then {then}"
        )


def _epoch(hello: Hello, status: Status, highest: int | None) -> Finding:
    if hello.identity and hello.identity != hello.meta_identity:
        return Finding("epoch", "ok", "the server has restarted, or is another one: the next writer begins an epoch")
    if highest is not None and min(status.epochs) < highest:
        return Finding(
            "epoch",
            "warning",
            f"the server is in epoch {min(status.epochs)}, the backend in {highest}",
            "a former primary? Point everybody to the present one. Or does another namespace save into the same place?",
        )
    return Finding("epoch", "ok", ", ".join(map(str, sorted(set(status.epochs)))))


def _work(namespace: str, status: Status) -> Iterator[Finding]:
    flushing = [each for each in status.workers if each.facts.get("flushers") and each.silent_seconds < _STUCK_SECONDS]
    if any(each.facts.get("outage") for each in flushing):
        yield Finding("workers", "error", "a worker can't save anything", "see its log, and to the backend")
    elif stalled := max((each.stalled_seconds for each in flushing), default=0.0):
        text = f"a worker has saved nothing for {stalled:,.0f} s though records are due"
        yield Finding("workers", "error", text, "the backend hangs, or is very slow: see to it, and to who locks it")
    elif flushing:
        yield Finding("workers", "ok", f"{len(flushing)} process(es) with flushers")
    elif status.dirty or status.leased:
        yield Finding("workers", "warning", "nobody flushes", f"run asyncwb worker --namespace {namespace}")
    age = status.oldest_age_seconds or 0.0
    if age > _OLD_SECONDS:
        text = f"the oldest write has waited for {age / 60:,.0f} minutes"
        yield Finding("age", "warning", text, "see asyncwb keys --older 5m")
    if status.dead:
        yield Finding("dead letters", "warning", f"{status.dead:,}", "see asyncwb dead list")
    else:
        yield Finding("dead letters", "ok", "none")
