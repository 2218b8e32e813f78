"""Which Redis server took over in which epoch, so that asyncwb can tell if a server comes back after another took over.

Two mistakes look alike: a former primary that nobody has demoted, and two servers that are used with one place. In
both, a server's meta has the server's own identity, although another server has begun an epoch since. The server that
was noted last is the present one; what is buffered at any other belongs to a history that is over. Processes that
already use such a server go on, in ever new epochs, because starting a second server by mistake must not stop the users
of the first. But these epochs aren't noted, and neither are further epochs of the present server. A server that was
never noted is a new one.

A server that was restarted or promoted counts as another one, because its replication id is new.
"""

from collections.abc import Iterable
from typing import Final

Began = tuple[int, str]
"""An epoch, and the identity of the server that began it."""

SERVERS_KEPT: Final = 16
"""How many servers a place remembers for each partition: the latest ones."""


def with_server(began: Iterable[Began], epoch: int, server: str) -> list[Began]:
    """The noted servers with one more, in the order of their epochs, the latest `SERVERS_KEPT` of them.

    Epoch 0 adds nothing, nor does an epoch that is noted already.
    """
    return sorted({**({epoch: server} if epoch else {}), **dict(began)}.items())[-SERVERS_KEPT:]


def successor_of(server: str, began: Iterable[Began]) -> Began | None:
    """The latest epoch, and its server, that another server has begun since this one was last noted.

    None if there is no such epoch, or if this server was never noted.
    """
    began = list(began)
    noted = [epoch for epoch, name in began if name == server]
    if not noted:
        return None
    return max((each for each in began if each[0] > max(noted) and each[1] != server), default=None)
