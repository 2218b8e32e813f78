"""What a namespace was made with: the key that says it is read before any key of a partition is made."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from asyncwb.errors import NamespaceMismatch
from asyncwb.protocol import scripts
from asyncwb.protocol.body import is_codec
from asyncwb.protocol.keys import LAYOUT, meta_of_layout_2, namespace_key, patterns_of, possible_metas
from asyncwb.records import CodecName
from asyncwb.redis.link import Link
from asyncwb.settings import MOST_PARTITIONS

_log: Final = logging.getLogger("asyncwb")

_FIELDS: Final = ("layout", "partitions", "codec")
_DEFAULT_PARTITIONS: Final = 1
_SHOWN: Final = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What a namespace was made with, as it stands in Redis, where another program may have overwritten it.

    Attributes:
        namespace: its name.
        key: the key that says it.
        layout, partitions, codec: as text; empty where the key has no such field.
    """

    namespace: str
    key: str
    layout: str
    partitions: str
    codec: str

    def count(self) -> int:
        """The number of partitions.

        Raises:
            NamespaceMismatch: another version of asyncwb has made the namespace, or another program has overwritten
                the number.
        """
        self._check_layout()
        if not re.fullmatch(r"[1-9]\d{0,3}", self.partitions) or int(self.partitions) > MOST_PARTITIONS:
            raise NamespaceMismatch(
                f"{self.key} says that there are {_shown(self.partitions)} partitions: another program has "
                "overwritten it; set its field partitions to the number that services use"
            )
        return int(self.partitions)

    def known_codec(self) -> CodecName:
        """The codec; raises NamespaceMismatch if this version of asyncwb doesn't know it."""
        if not is_codec(self.codec):
            raise NamespaceMismatch(
                f"namespace {self.namespace!r} has codec {_shown(self.codec)}, which this version of asyncwb "
                f"doesn't know: another version made it, or another program has overwritten {self.key}; in that case, "
                "set its field codec to the one that services use"
            )
        return self.codec

    def check(self, *, partitions: int | None, codec: str) -> int:
        """Returns the number of partitions, if a client with these settings may use the namespace.

        Args:
            partitions: the number that the client was given; None for whatever the namespace has.
            codec: the client's codec.

        Raises:
            NamespaceMismatch: it may not.
        """
        count, theirs = self.count(), self.known_codec()
        if partitions not in (None, count):
            self._refuse(f"partitions {count}, not {partitions}", f"partitions={count}, or without the setting")
        if theirs != codec:
            self._refuse(f"codec {theirs}, not {codec}", f"codec={theirs!r}")
        return count

    def _check_layout(self) -> None:
        if self.layout != str(LAYOUT):
            theirs = self.layout if self.layout.isdecimal() else _shown(self.layout)
            raise NamespaceMismatch(
                f"namespace {self.namespace!r} was made by another version of asyncwb, with layout {theirs}, not "
                f"{LAYOUT} ({self.key} says so): use that version, or drain it with that version and use another "
                f"namespace. If another program has overwritten the key, set its field layout to {LAYOUT}"
            )

    def _refuse(self, mismatch: str, remedy: str) -> None:
        raise NamespaceMismatch(
            f"namespace {self.namespace!r} was made with {mismatch} ({self.key} says so): open it with {remedy}; or "
            "drain it and use another namespace"
        )


class Namespace:
    """A namespace on a server.

    What it was made with stands in a key of its own, which every client reads first: with another number of partitions,
    a client would find an empty namespace beside the full one. Each partition's meta repeats it, so that a client sees
    in one step that the epoch it learns is one of the same namespace, and that the key can be made anew if it alone is
    lost: deleted by another program, or by the failover of its node in a cluster.

    Args:
        link: to the server.
        name: the namespace's name.
    """

    def __init__(self, link: Link, name: str) -> None:
        self._link = link
        self._name = name
        self._key = namespace_key(name)

    async def read(self) -> Made | None:
        """What the namespace was made with, or None if it has never been used; it changes nothing.

        Raises:
            NamespaceMismatch: layout 2 or an earlier one has keys there.
            RedisError, OutcomeUnknown: the server can't be asked.
        """
        found = await self._fields(self._key)
        if found is not None:
            return found
        others = (meta_of_layout_2(self._name), *possible_metas(self._name))
        async with self._link.session() as session:  # one connection: a process may be near its limit of open files
            replies = await session.commands(*(("HMGET", key, *_FIELDS) for key in others))
        before, *metas = (self._made_of(key, found) for key, found in zip(others, replies, strict=True))
        if before is not None and before.layout in ("1", "2"):
            _refuse_older(before)
        return next((meta for meta in metas if meta is not None), None)

    async def enter(self, *, partitions: int | None, codec: str) -> int:
        """Returns the number of partitions. At the namespace's first use, makes its key.

        Args:
            partitions: the number that the client was given. None for whatever the namespace has, and one partition at
                its first use.
            codec: the client's codec.

        Raises:
            NamespaceMismatch: the namespace was made with another layout, number of partitions or codec.
            RedisError, OutcomeUnknown: the server can't be asked.
        """
        found = await self.read()
        if found is not None:
            count = found.check(partitions=partitions, codec=codec)
            if found.key == self._key.decode():
                return count
            _log.warning(
                "%s is missing, and is made anew from %s: did another program delete it?", self._key.decode(), found.key
            )
            partitions = count
        ours = (LAYOUT, partitions or _DEFAULT_PARTITIONS, codec)
        reply = await self._link.script(scripts.ENTER, (self._key,), ours)
        # Another client may have made it in between.
        return self._made(self._key, reply).check(partitions=partitions, codec=codec)

    async def _fields(self, key: bytes) -> Made | None:
        return self._made_of(key, await self._link.command("HMGET", key, *_FIELDS))

    def _made_of(self, key: bytes, found: Sequence[bytes | None]) -> Made | None:
        return (
            None if not any(each is not None for each in found) else self._made(key, [field or b"" for field in found])
        )

    def _made(self, key: bytes, fields: Sequence[bytes]) -> Made:
        layout, partitions, codec = (field.decode("utf-8", "replace") for field in fields)
        return Made(namespace=self._name, key=key.decode(), layout=layout, partitions=partitions, codec=codec)


def _shown(text: str) -> str:
    return repr(text[:_SHOWN])


def _refuse_older(made: Made) -> None:
    namespace = made.namespace
    raise NamespaceMismatch(
        f"namespace {namespace!r} has layout {made.layout}, not {LAYOUT} ({made.key} says so). Versions of asyncwb up "
        "to commit d57071d wrote layout 2. With such a version, stop all services, save everything by `asyncwb flush "
        f"--all --namespace {namespace}`, and see by `asyncwb status --namespace {namespace}` that nothing is dirty, "
        f"leased or dead. Then delete the keys that match {patterns_of(namespace)[1]}, and open the namespace with "
        "this version"
    )
