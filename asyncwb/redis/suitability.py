"""Whether a server is safe as a write buffer: checked when a buffer opens, and again and again while it is open."""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

from asyncwb.errors import UnsuitableServer
from asyncwb.events import Observer, SuitabilityChanged
from asyncwb.redis.link import Argument, Link

_log: Final = logging.getLogger("asyncwb")

# The sections of INFO with what is checked. Redis 6.2 takes only one section per command.
_SECTIONS: Final[Sequence[Sequence[Argument]]] = [
    ("INFO", "memory"),
    ("INFO", "replication"),
    ("INFO", "cluster"),
]

Flaw = Literal["replica", "evicts", "cluster"]
"""What makes a server unsuitable: it is a replica, may evict keys, or is a cluster node."""


def flaws(info: Mapping[str, str]) -> Iterator[Flaw]:
    """Yields what makes a server unsuitable as a write buffer, judged by the fields of its INFO."""
    if info.get("role", "master") != "master":
        yield "replica"
    if info.get("maxmemory_policy", "noeviction") != "noeviction":
        yield "evicts"
    if info.get("cluster_enabled", "0") == "1":
        yield "cluster"


async def check_server(link: Link) -> None:
    """Checks that a server is safe as a write buffer.

    Raises:
        UnsuitableServer: it evicts keys, is a replica, or is a cluster node.
        RedisError: it can't be asked.
    """
    info = await _asked(link)
    if reason := _reason(link, info, flaws(info)):
        raise UnsuitableServer(reason)


async def server_info(link: Link) -> dict[str, str]:
    """The fields that INFO reports, with their values. Raises RedisError."""
    return dict(_fields(await link.command("INFO")))


class Suitability:
    """Whether the server may be written to, as far as is known now.

    Attributes:
        reason: why it may not be written to, "" if it may.
    """

    def __init__(self) -> None:
        self.reason = ""

    def require(self) -> None:
        """Raises `UnsuitableServer` while the server is unsafe."""
        if self.reason:
            raise UnsuitableServer(f"nothing was written: {self.reason}")


class SuitabilityWatch:
    """Checks an open buffer's server, since somebody may reconfigure it and so make it unsafe at any time.

    A server that has become a replica may be in the middle of a failover. So for `patience_seconds`, writes wait for
    its successor as they do when the server is lost; only after that is the server unsuitable.

    Args:
        link: to the server.
        suitability: updated with the result of each check.
        patience_seconds: how long the server may be a replica before it counts as unsuitable.
        emit: gets a `SuitabilityChanged` when the server becomes unsuitable, and when it is suitable again.
    """

    def __init__(
        self,
        link: Link,
        suitability: Suitability,
        *,
        patience_seconds: float,
        emit: Observer,
    ) -> None:
        self._link = link
        self._suitability = suitability
        self._patience_seconds = patience_seconds
        self._emit = emit
        self._replica_since: float | None = None

    async def check(self) -> None:
        """Checks once. Raises RedisError if the server can't be asked; what was known before stays as it is then."""
        info = await _asked(self._link)
        self._note(self._link.unsafe() or await self._lasting_reason(info))

    async def _lasting_reason(self, info: Mapping[str, str]) -> str:
        """Why the server is unsuitable; "" if nothing is wrong, or only that it became a replica a moment ago."""
        found = [*flaws(info)]
        if "replica" not in found:
            self._replica_since = None
        elif not await self._replica_for_long():
            found.remove("replica")
        return _reason(self._link, info, found)

    async def _replica_for_long(self) -> bool:
        await self._link.reset()  # the next connection may find the primary
        now = asyncio.get_running_loop().time()
        if self._replica_since is None:
            self._replica_since = now
        return now - self._replica_since >= self._patience_seconds

    def _note(self, reason: str) -> None:
        if bool(reason) != bool(self._suitability.reason):
            if reason:
                _log.error("no writes are taken until this is put right: %s", reason)
            else:
                _log.warning(
                    "%s is safe again and takes writes; `asyncwb audit` finds records that lost their place meanwhile",
                    self._link.where,
                )
            self._emit(SuitabilityChanged(not reason, reason))
        self._suitability.reason = reason


def _reason(link: Link, info: Mapping[str, str], found: Iterable[Flaw]) -> str:
    """The first of these flaws, as messages tell it; "" if there is none."""
    for flaw in found:
        match flaw:
            case "replica":
                return f"{link.where} is a replica: connect to its primary"
            case "evicts":
                return (
                    f"{link.where} has maxmemory-policy {info['maxmemory_policy']}: it could evict writes that were "
                    "acknowledged; set maxmemory-policy noeviction"
                )
            case "cluster":
                return f"{link.where} is a cluster node: clusters aren't supported yet"
    return ""


async def _asked(link: Link) -> dict[str, str]:
    """The fields of the INFO sections that are checked, read in one round trip."""
    async with link.session() as session:
        sections = await session.commands(*_SECTIONS)
    return {name: value for section in sections for name, value in _fields(section)}


def _fields(info: bytes) -> Iterator[tuple[str, str]]:
    for line in info.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            yield name, value.strip()
