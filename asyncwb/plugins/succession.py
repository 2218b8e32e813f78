"""Which Redis server took over in which epoch: how asyncwb can tell that a server comes back after another took over.

A former primary that nobody has demoted, and two servers whose services save into one place by mistake, look alike: a
server whose meta is its own, though another one has begun an epoch since. The server that was noted last is the present
one; what is buffered at any other is of a history that is over. Processes that are at such a server when it happens go
on, in ever new epochs (whoever starts a second server by mistake mustn't stop those of the first), but these aren't
noted, nor are further ones of the present server. A server that was never noted is a new one.

A server that was started again, or promoted, is another one: its replication id is new.
"""

from collections.abc import Iterable
from typing import Final

Began = tuple[int, str]
"""An epoch, and the identity of the server that began it."""

SERVERS_KEPT: Final = 16
"""A place remembers so many for each partition, the latest ones."""


def with_server(began: Iterable[Began], epoch: int, server: str) -> list[Began]:
    """The latest ones, in the order of their epochs, with one more; epoch 0, or one that is noted, adds nothing."""
    return sorted({**({epoch: server} if epoch else {}), **dict(began)}.items())[-SERVERS_KEPT:]


def successor_of(server: str, began: Iterable[Began]) -> Began | None:
    """What another server began last since this one was noted last; None if nothing, or if this one never was."""
    began = list(began)
    noted = [epoch for epoch, name in began if name == server]
    if not noted:
        return None
    return max((each for each in began if each[0] > max(noted) and each[1] != server), default=None)
