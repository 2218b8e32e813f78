"""Scripts for dead letters: retry.lua, drop.lua."""

from tests.proofs.model.records import Drops, Pending
from tests.proofs.model.scripts.server import with_keys
from tests.proofs.model.states import Key, Server, put_at


def retry_dead(server: Server, at: int, drops: Drops) -> Server:
    """retry.lua, for one key."""
    record, dirty, lease, dead, marked, pending, unfit, _, token = server.keys[at]
    if record and "retry makes dirty" not in drops:
        dirty = 1
    if "retry clears dead" not in drops:
        dead = unfit = 0
    changed = Key(record, dirty, lease, dead, marked, pending, unfit, 0, token)
    return with_keys(server, put_at(server.keys, at, changed), server.claims)


def _noted(server: Server, version: int, drops: Drops = ()) -> Server:
    """Notes what was dropped, and takes a number: a token that is made now isn't the one that was taken away."""
    seq = server.seq if "a drop takes a number" in drops else server.seq + 1
    return server._replace(seq=seq, dropped=max(server.dropped, version))


def retry_without(server: Server, at: int, entry: tuple[int, ...]) -> Server:
    """retry.lua, which leaves an entry out. What was looked up about the key isn't true any more: no token stays."""
    key = server.keys[at]
    assert key.pending
    server = _noted(server, entry[-1])
    base, entries, noted = key.pending
    place = entries.index(entry)
    entries = entries[:place] + entries[place + 1 :]
    noted = max(0, noted - (place < noted))
    if not base and not entries:
        return with_keys(server, put_at(server.keys, at, Key()), server.claims)
    pending = Pending(base, entries, noted) if entries else ()
    record = entries[-1][-1] if entries else base
    changed = Key(record, 1, 0, 0, 0, pending)
    return with_keys(server, put_at(server.keys, at, changed), server.claims)


def drop(server: Server, at: int, drops: Drops) -> Server:
    """drop.lua, for one key: an operator gives a dead letter up. No token stays, as after a write."""
    key = server.keys[at]
    server = _noted(server, key.record, drops)
    changed = key.without_record() if "a drop takes the token away" in drops else Key()
    return with_keys(server, put_at(server.keys, at, changed), server.claims)
