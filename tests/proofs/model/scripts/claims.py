"""Scripts of flushers: claim.lua, read.lua, ack.lua, recover.lua; EXEC; supersede.lua."""

import itertools

from tests.proofs.model.records import Drops, Pending, has_version, trimmed
from tests.proofs.model.scripts.server import with_keys
from tests.proofs.model.states import COUNTED, DEAD, UNFIT, WITH_ENTRIES, Key, Server, put_at


def claim(server: Server, claim_id: int, wanted: int, drops: Drops) -> tuple[tuple[int, ...], Server]:
    """claim.lua: of the due keys, those whose bit is set in `wanted`.

    Replies, per key, whether it was taken: 1, or `WITH_ENTRIES`.
    """
    given = {key.lease for key in server.keys}
    if "no deadline is that of another claim" not in drops:
        given |= set(server.claims)
    deadline = next(number for number in itertools.count(1) if number not in given)
    keys: list[Key] = []
    taken: list[int] = []
    for at, key in enumerate(server.keys):
        if not wanted >> at & 1 or not key.dirty:
            keys.append(key)
            taken.append(0)
            continue
        record, dirty, lease, dead, marked, pending, unfit, tried, token = key
        if "claim takes out of dirty" not in drops:
            dirty = 0
        if "claim leases" not in drops:
            lease = deadline
        keys.append(Key(record, dirty, lease, dead, marked, pending, unfit, tried, token))
        taken.append(WITH_ENTRIES if key.pending else 1)
    if not any(taken):
        return tuple(taken), server
    claims = put_at(server.claims, claim_id - 1, deadline)
    return tuple(taken), with_keys(server, tuple(keys), claims)


def note(server: Server, wanted: tuple[int, ...]) -> Server:
    """read.lua, of the keys wanted: notes of each record with entries how many it has, in the step that reads it."""
    keys = tuple(
        key._replace(pending=key.pending._replace(noted=len(key.pending.entries))) if each and key.pending else key
        for key, each in zip(server.keys, wanted, strict=True)
    )
    return with_keys(server, keys, server.claims)


def read(server: Server, taken: tuple[int, ...]) -> tuple[int, ...]:
    """MGET of the keys of a claim: their versions."""
    return tuple(key.record if each else 0 for key, each in zip(server.keys, taken, strict=True))


def holds(server: Server, claim_id: int, at: int) -> bool:
    """Whether a claim still holds a key."""
    deadline = server.claims[claim_id - 1]
    return bool(deadline) and server.keys[at].lease == deadline


def ack(
    server: Server,
    claim_id: int,
    versions: tuple[int, ...],
    fates: tuple[int, ...],
    release: bool,
    drops: Drops,
    deadline: int = 0,
    attempts: int = 0,
) -> Server:
    """ack.lua. Per key, versions: as they were read; fates: what becomes of it if it isn't saved, 0 if it is.

    It concerns what the claim still holds. `deadline`: a mutant's, which names that instead of its claim. `attempts`:
    how many may fail before a record is dead-lettered.
    """
    deadline = deadline or server.claims[claim_id - 1]
    if not deadline:
        return server
    anybody = "ack of those alone that the claim holds" in drops
    keys = tuple(
        _settled(key, version, fate, release, attempts, drops)
        if key.lease == deadline or (anybody and key.lease)
        else key
        for key, version, fate in zip(server.keys, versions, fates, strict=True)
    )
    if "an ack leaves the marks of others" in drops:
        keys = tuple(key._replace(marked=0) for key in keys)
    return with_keys(server, keys, put_at(server.claims, claim_id - 1, 0))


def _settled(key: Key, version: int, fate: int, release: bool, attempts: int, drops: Drops) -> Key:
    record, dirty, _, dead, marked, pending, unfit, _, token = key
    left = marked if "a mark ends with its lease" in drops else 0
    if fate and "ack keeps what failed" in drops:
        fate = 0
    if release and "a release deletes nothing" in drops:
        release = False
    if not record:
        return Key(0, dirty, 0, dead, left, token=token)
    if fate or release:
        return _failed(key, version, fate, left, attempts, drops)
    if not marked or "ack looks at marks" in drops:
        return Key(token=token)
    if "ack makes dirty what changed" not in drops:
        dirty = 1
    if pending:
        pending = trimmed(pending, version, drops)
        if not pending:
            return Key(token=token)
    return Key(record, dirty, 0, dead, left, pending, unfit, 0, token)


def _failed(key: Key, version: int, fate: int, left: int, attempts: int, drops: Drops) -> Key:
    """A record that isn't saved: dirty again, or dead.

    Only what was read can have failed. Updates that came since don't change that: a hot counter is always marked, and
    would never die. It dies as it is now.
    """
    record, _, _, dead, _, pending, unfit, tried, token = key
    same = record == version
    if pending and has_version(pending, version, drops) and "updates don't hide a failure" not in drops:
        same, version = True, record
    if "only the version that failed is dead-lettered" in drops:
        same = True
    if same and fate == COUNTED:
        tried += 1
        fate = DEAD if tried >= attempts else 0
    if same and fate in (DEAD, UNFIT):
        return Key(record, 0, 0, version, left, pending, int(fate == UNFIT), 0, token)
    return Key(record, 1, 0, dead, left, pending, unfit, tried, token)


def recover(server: Server, at: int, drops: Drops) -> Server:
    """recover.lua, for one key: they may all expire at different times. Whoever held it may still save what it read,
    so that a note of entries outlives the lease."""
    record, dirty, lease, dead, marked, pending, unfit, tried, token = server.keys[at]
    if record and "recover makes dirty what has a record" not in drops:
        dirty = 1
    if "recover takes out of lease" not in drops:
        lease = 0
    if "a mark ends with its lease" not in drops:
        marked = 0
    if pending and "a note outlives the lease" in drops:
        pending = pending._replace(noted=0)
    return with_keys(
        server,
        put_at(server.keys, at, Key(record, dirty, lease, dead, marked, pending, unfit, tried, token)),
        server.claims,
    )


def commit(server: Server, at: int, watched: int, pending: Pending | tuple[()], drops: Drops) -> tuple[bool, Server]:
    """EXEC of asyncwb/protocol/transaction.py.

    A record that has the version that was read, and the entries and their note, is one that nobody has touched since.
    """
    key = server.keys[at]
    if (key.record, key.pending) != (watched, pending) and "EXEC is behind a WATCH" not in drops:
        return False, server
    return True, with_keys(server, put_at(server.keys, at, key.without_record()), server.claims)


def supersede(server: Server, at: int, version: int, drops: Drops) -> Server:
    """supersede.lua, for one key: the backend holds that version."""
    key = server.keys[at]
    if not key.record or (key.record > version and "only what is older is superseded" not in drops):
        return server
    return with_keys(server, put_at(server.keys, at, key.without_record()), server.claims)
