"""token.lua, and fold.lua: what writers ask for beside their writes."""

from tests.proofs.model.records import Drops, folded
from tests.proofs.model.scripts.server import with_keys
from tests.proofs.model.states import Server, put_at, version_of


def take_token(server: Server, at: int, epoch: int, drops: Drops) -> tuple[int, int, Server]:
    """token.lua, for one key: the token, new or the one that is there, and the version that Redis has.

    0 for EPOCH. The token is the newest version of the history: no write of the key has come if it is still there, and
    if it is taken again after it has expired, nothing was written at all since.
    """
    if server.meta != server.identity or server.epoch != epoch:
        return 0, 0, server
    key = server.keys[at]
    token = key.token if key.token >> 8 == epoch else version_of(epoch, server.seq, 0)
    record = 0 if "a token tells the version in Redis" in drops else key.record
    if token == key.token:
        return token, record, server
    return token, record, with_keys(server, put_at(server.keys, at, key._replace(token=token)), server.claims)


def lose_token(server: Server, at: int) -> Server:
    """The token of a key has expired."""
    return with_keys(server, put_at(server.keys, at, server.keys[at]._replace(token=0)), server.claims)


def fold(server: Server, at: int, start: int, some: tuple[tuple[int, ...], ...], drops: Drops) -> Server:
    """fold.lua: exchanges exactly these entries, at their place, or nothing."""
    key = server.keys[at]
    if not key.pending:
        return server
    pending = folded(key.pending, start, some, drops)
    if pending is key.pending:
        return server
    return with_keys(server, put_at(server.keys, at, key._replace(pending=pending)), server.claims)
