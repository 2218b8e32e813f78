"""The checks of `asyncwb doctor`: each yields a finding, with advice if something is wrong."""

import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib.metadata import version as installed_version
from typing import Final

from asyncwb.admin.doctor.finding import Finding
from asyncwb.admin.doctor.server import look_at_clock, look_at_server
from asyncwb.admin.inspector import Inspector, Status
from asyncwb.codecs import Codec
from asyncwb.errors import AsyncwbError, ConfigurationError, MissingDependency, PlaceTaken, RedisError, RedisRefused
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.plugins.registry import backend_from_url, plugins
from asyncwb.plugins.succession import Began, successor_of
from asyncwb.protocol.messages import PartitionMeta
from asyncwb.protocol.namespace import Namespace
from asyncwb.protocol.overwritten import Overwritten, overwritten_keys, overwritten_namespace
from asyncwb.redis.connect import connect
from asyncwb.redis.connection import RedisLink
from asyncwb.redis.suitability import server_info
from asyncwb.settings import Settings
from asyncwb.support.redaction import redact

OLDEST_REDIS_PY: Final = (8, 0, 1)
"""Older versions lack options that asyncwb needs, and leak a connection when a WATCH is cancelled."""
_STUCK_SECONDS: Final = 10.0
_OLD_SECONDS: Final = 300.0


async def diagnose(redis: str | None, backend: str | None, settings: Settings) -> AsyncIterator[Finding]:
    """Checks everything that can be checked; problems are reported as findings and not raised.

    Args:
        redis, backend: URLs; None for an embedded server, and for no backend.
        settings: gives `namespace`, `redis_timeout_seconds`, `connect_timeout_seconds` and `save_timeout_seconds`.
    """
    driver = _redis_py()
    yield driver
    if driver.level == "error":
        return  # this version couldn't query the server
    for finding in _plugins(backend):
        yield finding
    place = _Place()
    if backend is None:
        yield Finding(
            "backend", "warning", "not checked, since no URL was given", "pass --backend URL, or set ASYNCWB_BACKEND"
        )
    else:
        async for finding in _backend(backend, settings, place):
            yield finding
    async with AsyncExitStack() as stack:
        try:
            link = await connect(redis, stack, timeout_seconds=settings.redis_timeout_seconds)
            info = await server_info(link)
        except AsyncwbError as error:
            yield Finding("server", "error", str(error), _advice_unreachable(error))
            return
        for finding in look_at_server(link, info):
            yield finding
        yield await look_at_clock(link)
        async for finding in _namespace(link, settings.namespace, place):
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
        elif "isn't installed" not in plugin.problem:  # an extra that nobody asked for is not a problem
            yield Finding("plugins", "warning", f"{plugin.scheme} of {plugin.distribution} is broken", plugin.problem)
    yield Finding("plugins", "ok", f"usable: {', '.join(usable) or 'none'}")


@dataclass(slots=True)
class _Place:
    """What the backend knows about the namespace.

    Attributes:
        highest: the highest epoch that was allotted; None if it is unknown.
        began: the servers that have taken over partition 0, and the epochs with which they did.
    """

    highest: int | None = None
    began: list[Began] = field(default_factory=list)


async def _backend(url: str, settings: Settings, place: _Place) -> AsyncIterator[Finding]:
    shown, namespace = redact(url), settings.namespace
    try:
        plugin = backend_from_url(url, codec=Codec())
    except MissingDependency as error:
        yield Finding("backend", "error", f"{shown} can't be used", str(error))
        return
    except ConfigurationError as error:
        yield Finding("backend", "error", f"{shown} can't be used", str(error))
        return
    guarded = BackendAdapter(
        plugin,
        name=shown,
        namespace=namespace,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        save_timeout_seconds=settings.save_timeout_seconds,
    )
    try:
        await guarded.open()
        place.highest = await guarded.new_epoch(0)
        place.began = await guarded.note_server(0, 0, "")
        durable = str(getattr(plugin, "durability", ""))
    except PlaceTaken as error:
        advice = f"nothing of {namespace!r} is saved there; give each namespace a place of its own"
        yield Finding("place", "error", str(error), advice)
        return
    except AsyncwbError as error:
        advice = (
            "see that it runs, and that address, user and password in the URL are right; until then nothing is saved: "
            "unsaved writes wait in Redis, and are as safe there as its persistence makes them"
        )
        yield Finding("backend", "error", str(error), advice)
        return
    finally:
        with contextlib.suppress(AsyncwbError):
            await guarded.close()
    if durable:
        yield Finding("backend", "ok", f"{shown} is reachable; durable by {durable}")
    else:
        yield Finding("backend", "warning", f"{shown} is reachable", "it doesn't say how durable its saves are")
    yield Finding("place", "ok", f"{shown} belongs to namespace {namespace!r}")


def _advice_unreachable(error: AsyncwbError) -> str:
    if isinstance(error, RedisRefused):
        return "check user and password in the URL, and the ACL of the user (`asyncwb doctor --acl`)"
    if isinstance(error, RedisError):
        return "see that the server runs, and that host and port are right"
    return ""


async def _namespace(link: RedisLink, namespace: str, place: _Place) -> AsyncIterator[Finding]:
    try:
        async for finding in _look(link, namespace, place):
            yield finding
    except AsyncwbError as error:
        yield Finding("namespace", "error", str(error), _advice_unreachable(error))


async def _look(link: RedisLink, namespace: str, place: _Place) -> AsyncIterator[Finding]:
    broken = await overwritten_namespace(link, namespace)
    made = None if broken else await Namespace(link, namespace).read()
    if not broken and made is None:
        yield Finding("namespace", "warning", f"nothing was ever written to {namespace!r}", "check --namespace")
        return
    if made is not None:
        inspector = Inspector(link, made)
        broken = [each for part in inspector.parts for each in await overwritten_keys(part.queue)]
    if broken or made is None:
        for finding in map(_overwritten, broken):
            yield finding
        return  # keys of the wrong type can't be queried
    status = await inspector.status()
    yield Finding("namespace", "ok", f"{namespace!r}: {status.dirty:,} dirty, {status.leased:,} leased, {made.codec}")
    meta = await inspector.parts[0].queue.read_meta()
    yield _epoch(meta, status, place)
    if meta.foreign:
        ranges = ", ".join(f"{first} to {last}" for first, last in meta.foreign)
        yield Finding(
            "place",
            "warning",
            f"the backend holds, or held, versions of epochs {ranges}, which no history of this namespace has made",
            "were data restored or copied into it? Writes are saved above them; drain before you restore",
        )
    for finding in _work(namespace, status):
        yield finding
    stuck = 0
    async for record in inspector.listed("leased"):
        stuck += record.due_in_seconds < -_STUCK_SECONDS
    if stuck:
        text = f"{stuck} lease(s) ended more than {_STUCK_SECONDS:g} s ago"
        yield Finding("leases", "warning", text, "start a worker: it saves their records")
    else:
        yield Finding("leases", "ok", "none stuck")


def _overwritten(key: Overwritten) -> Finding:
    name, theirs, ours = key
    if name.endswith(":namespace"):
        then = "the next process that opens the namespace makes it anew"
    elif name.endswith(":meta"):
        then = "the next process that opens the namespace begins a new epoch"
    else:
        then = "run asyncwb audit: it makes every record dirty that is in no set"
    text = f"{name} is a {theirs}, not a {ours}: another program wrote it"
    return Finding("keys", "error", text, f"DEL it, then {then}")


def _epoch(meta: PartitionMeta, status: Status, place: _Place) -> Finding:
    if meta.identity and meta.identity != meta.meta_identity:
        return Finding("epoch", "ok", "the server has restarted, or is another one: the next writer begins an epoch")
    other = successor_of(meta.identity, place.began)
    if other is not None:
        return Finding(
            "epoch",
            "error",
            f"the server is in epoch {meta.epoch}, and another one (replication id {other[1][:8]}…) took over with "
            f"epoch {other[0]}",
            "this is a former primary that still runs, or two servers save into one place: point all processes to one "
            "of them; if it is to be this one, see asyncwb adopt-server",
        )
    if place.highest is not None and min(status.epochs) < place.highest:
        return Finding(
            "epoch",
            "warning",
            f"the server is in epoch {min(status.epochs)}, the backend in {place.highest}",
            "is it a former primary? Point all processes to the present one. Or does another Redis save there, too?",
        )
    return Finding("epoch", "ok", ", ".join(map(str, sorted(set(status.epochs)))))


def _work(namespace: str, status: Status) -> Iterator[Finding]:
    flushing = [
        each for each in status.processes if each.facts.get("flushers") and each.silent_seconds < _STUCK_SECONDS
    ]
    dead = [each for each in flushing if not each.facts.get("living", each.facts["flushers"])]
    if dead:
        text = f"{len(dead)} process(es) save nothing: none of their flushers runs"
        yield Finding(
            "workers",
            "error",
            text,
            "see their logs; flushers are restarted automatically: if that doesn't help, restart the process",
        )
    elif any(each.facts.get("outage") for each in flushing):
        yield Finding("workers", "error", "a worker can't save anything", "read its log, and check the backend")
    elif stalled := max((each.stalled_seconds for each in flushing), default=0.0):
        text = f"a worker has saved nothing for {stalled:,.0f} s though records are due"
        yield Finding("workers", "error", text, "the backend hangs, is locked by somebody, or is very slow: check it")
    elif flushing:
        yield Finding("workers", "ok", f"{len(flushing)} process(es) with flushers")
    elif status.dirty or status.leased:
        yield Finding(
            "workers",
            "warning",
            "records are unsaved, and no process flushes",
            f"run asyncwb worker --namespace {namespace}",
        )
    age = status.oldest_age_seconds or 0.0
    if age > _OLD_SECONDS:
        text = f"the oldest write has waited for {age / 60:,.0f} minutes"
        yield Finding("age", "warning", text, "see asyncwb keys --older 5m")
    if status.dead:
        yield Finding("dead letters", "warning", f"{status.dead:,}", "see asyncwb dead list")
    else:
        yield Finding("dead letters", "ok", "none")
