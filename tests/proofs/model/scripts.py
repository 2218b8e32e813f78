"""asyncwb/protocol/lua: each script as a pure function from a server to its reply and the server afterwards.

To be read beside the Lua. `drops` names the sentences that a mutant drops; it is empty for the protocol itself.
"""

import itertools
from collections.abc import Collection
from typing import Final

from asyncwb.protocol.messages import Refusal
from tests.proofs.model.states import DEAD, Flush, Key, Put, Server, put_at, version_of

Drops = Collection[str]

EPOCH: Final = 0
WRITER: Final = 1
EARLY: Final = 2
REFUSALS: Final[dict[int, Refusal]] = {EPOCH: "EPOCH", WRITER: "WRITER", EARLY: "EARLY"}
"""Any other reply is the version of what is applied."""
"""Replies of put that aren't versions: those are greater."""

_FORGOTTEN: Final = (0, 0)


def put(server: Server, sent: Put, deleted: int, most: int, drops: Drops) -> tuple[int, Server]:
    """put.lua, for one write. The reply is its version, EPOCH, WRITER or EARLY."""
    writer, request, key, epoch, after, name = sent
    memory = remembered(server, writer, name)
    if not memory:
        present = server.meta == server.identity and server.epoch == epoch
        if not present and "an unknown writer is told of the epoch first" not in drops:
            return EPOCH, server
        if "writers are made by registration only" not in drops:
            return WRITER, server
        memory = _FORGOTTEN
    known = request == memory[0] or (request < memory[0] and "lower requests are duplicates, too" not in drops)
    if known and "put compares the request with the writer's last" not in drops:
        replies = dict(zip(memory[::2], memory[1::2], strict=True))
        return replies.get(request) or WRITER, server
    if after > memory[0] and "put waits for the request before" not in drops:
        return EARLY, server
    if server.meta != server.identity and "put compares identity" not in drops:
        return EPOCH, server
    if server.epoch != epoch and "put compares epoch" not in drops:
        return EPOCH, server
    seq = server.seq + 1
    if seq > most:
        if "put stops at the highest seq" not in drops:
            return EPOCH, server
        seq = 0
    version = version_of(server.epoch, seq, deleted)
    changed = _written(server.keys[key], version, drops)
    keys = put_at(server.keys, key, changed)
    # As many replies as it has room for.
    memories = _memory(server, writer, name, (request, version, *memory)[: len(memory)])
    return version, server._replace(seq=seq, keys=keys, memory=memories)


def _written(old: Key, version: int, drops: Drops) -> Key:
    _, dirty, lease, dead, marked = old
    if lease and "put marks what is leased" not in drops:
        marked = 1
    if not lease or "put leaves what is leased" in drops:
        # ZADD NX: coalesced, each key once.
        dirty = dirty if dead and "put makes a dead record dirty" in drops else 1
    if "put clears dead" not in drops:
        dead = 0
    if version & 1 and "a delete keeps a tombstone in Redis" in drops:
        return Key()
    return Key(version, dirty, lease, dead, marked)


def claim(server: Server, claim_id: int, wanted: int, drops: Drops) -> tuple[tuple[int, ...], Server]:
    """claim.lua: of the due keys, those whose bit is set in `wanted`. Replies, per key, whether it was taken."""
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
        record, dirty, lease, dead, marked = key
        if "claim takes out of dirty" not in drops:
            dirty = 0
        if "claim leases" not in drops:
            lease = deadline
        keys.append(Key(record, dirty, lease, dead, marked))
        taken.append(1)
    if not any(taken):
        return tuple(taken), server
    claims = put_at(server.claims, claim_id - 1, deadline)
    return tuple(taken), _with(server, tuple(keys), claims)


def read(server: Server, taken: tuple[int, ...]) -> tuple[int, ...]:
    """MGET of the keys of a claim: their versions."""
    return tuple(key.record if each else 0 for key, each in zip(server.keys, taken, strict=True))


def ack(
    server: Server,
    claim_id: int,
    versions: tuple[int, ...],
    fates: tuple[int, ...],
    release: bool,
    drops: Drops,
    deadline: int = 0,
) -> Server:
    """ack.lua. Per key, versions: as they were read; fates: RETRY or DEAD if it isn't saved.

    It concerns what the claim still holds. `deadline`: a mutant's, which names that instead of its claim.
    """
    deadline = deadline or server.claims[claim_id - 1]
    if not deadline:
        return server
    anybody = "ack of those alone that the claim holds" in drops
    keys = tuple(
        _settled(key, version, fate, release, drops) if key.lease == deadline or (anybody and key.lease) else key
        for key, version, fate in zip(server.keys, versions, fates, strict=True)
    )
    if "an ack leaves the marks of others" in drops:
        keys = tuple(key._replace(marked=0) for key in keys)
    return _with(server, keys, put_at(server.claims, claim_id - 1, 0))


def _settled(key: Key, version: int, fate: int, release: bool, drops: Drops) -> Key:
    record, dirty, _, dead, marked = key
    left = marked if "a mark ends with its lease" in drops else 0
    if fate and "ack keeps what failed" in drops:
        fate = 0
    if release and "a release deletes nothing" in drops:
        release = False
    if not record:
        return Key(0, dirty, 0, dead, left)
    if fate or release:
        if fate == DEAD and (record == version or "only the version that failed is dead-lettered" in drops):
            return Key(record, dirty, 0, version, left)
        return Key(record, 1, 0, dead, left)
    if not marked or "ack looks at marks" in drops:
        return Key()
    if "ack makes dirty what changed" not in drops:
        dirty = 1
    return Key(record, dirty, 0, dead, left)


def recover(server: Server, at: int, drops: Drops) -> Server:
    """recover.lua, for one key: they may all expire at different times."""
    record, dirty, lease, dead, marked = server.keys[at]
    if record and "recover makes dirty what has a record" not in drops:
        dirty = 1
    if "recover takes out of lease" not in drops:
        lease = 0
    if "a mark ends with its lease" not in drops:
        marked = 0
    return _with(server, put_at(server.keys, at, Key(record, dirty, lease, dead, marked)), server.claims)


def retry_dead(server: Server, at: int, drops: Drops) -> Server:
    """retry.lua, for one key."""
    record, dirty, lease, dead, marked = server.keys[at]
    if record and "retry makes dirty" not in drops:
        dirty = 1
    if "retry clears dead" not in drops:
        dead = 0
    return _with(server, put_at(server.keys, at, Key(record, dirty, lease, dead, marked)), server.claims)


def drop(server: Server, at: int) -> Server:
    """drop.lua, for one key: an operator gives a dead letter up."""
    return _with(server, put_at(server.keys, at, Key()), server.claims)


def commit(server: Server, at: int, watched: int, drops: Drops) -> tuple[bool, Server]:
    """EXEC of asyncwb/protocol/transaction.py.

    A record that has the version that was read is one that nobody has touched since.
    """
    key = server.keys[at]
    if key.record != watched and "EXEC is behind a WATCH" not in drops:
        return False, server
    return True, _with(server, put_at(server.keys, at, Key()), server.claims)


def supersede(server: Server, at: int, version: int, drops: Drops) -> Server:
    """supersede.lua, for one key: the backend holds that version."""
    key = server.keys[at]
    if not key.record or (key.record > version and "only what is older is superseded" not in drops):
        return server
    return _with(server, put_at(server.keys, at, Key()), server.claims)


def allot(server: Server, sent: Put, deleted: int, most: int, drops: Drops) -> tuple[int, Server]:
    """allot.lua, for one write, of a request that put refused."""
    writer, request, _, epoch, _, name = sent
    known = server.meta == server.identity and server.epoch == epoch and server.seq < most
    if not known and "allot compares identity and epoch" not in drops:
        return EPOCH, server
    seq, memory, memories = server.seq + 1, remembered(server, writer, name), server.memory
    if memory and memory[0] < request and "allot remembers the request" not in drops:
        memories = _memory(server, writer, name, (request, 0, *memory)[: len(memory)])
    return version_of(server.epoch, seq, deleted), server._replace(seq=seq, memory=memories)


def install(server: Server, identity: int, meta: int, seen: int, epoch: int, drops: Drops) -> tuple[bool, Server]:
    """install.lua."""
    if (server.identity, server.meta, server.epoch) != (identity, meta, seen) and "install compares" not in drops:
        return False, server
    seq = server.seq if "a new history begins a new epoch" in drops else 0
    return True, server._replace(meta=identity, epoch=epoch, seq=seq, returned=0)


def disown(server: Server, first: int, last: int) -> Server:
    """disown.lua."""
    if (first, last) in server.foreign:
        return server
    return server._replace(foreign=(*server.foreign, (first, last)))


def foreign_of(server: Server) -> tuple[tuple[int, int], ...]:
    """The foreign epochs that hello tells of: a range with the present epoch was written by another program."""
    return tuple(each for each in server.foreign if not each[0] <= server.epoch <= each[1])


def is_foreign(stored: int, present: int, allotted: int, foreign: tuple[tuple[int, int], ...]) -> bool:
    """`is_foreign` of asyncwb/records.py."""
    epoch = stored >> 8
    if any(first <= epoch <= last for first, last in foreign):
        return True
    return stored > present and not present >> 8 < epoch <= allotted


def restamp(
    server: Server, versions: tuple[int, ...], spare: int, present: int, drops: Drops
) -> tuple[tuple[int, ...], Server]:
    """restamp.lua. Replies with the versions that it has given, per key; nothing but zeros also for EPOCH."""
    nothing = (0,) * len(versions)
    if server.meta != server.identity:
        return nothing, server
    if server.epoch != present and "restamp needs the epoch of the look" not in drops:
        return nothing, server
    if server.epoch <= spare and "restamp needs a later epoch" not in drops:
        return nothing, server
    given, keys = list(nothing), list(server.keys)
    for at, (version, key) in enumerate(zip(versions, server.keys, strict=True)):
        newest = spare << 8 | version & 255
        very = key.record == version or "restamp touches the very version only" in drops
        if version and key.record and very and newest > version:
            given[at] = newest
            marks = key.lease and "restamp marks what is leased" not in drops
            keys[at] = key._replace(record=newest, marked=1 if marks else key.marked)
    return tuple(given), _with(server, tuple(keys), server.claims)


def register(server: Server, writer: int, name: int, memory: tuple[int, ...], drops: Drops) -> Server:
    """SET NX of a writer's memory. Every registration is made under an id of its own, see `writers.fresh`."""
    if remembered(server, writer, name) and "a late registration forgets nothing" not in drops:
        return server
    if "every registration has a fresh id" in drops:
        memory = _FORGOTTEN
    memories = _memory(server, writer, name, memory)
    return server._replace(memory=memories)


def forget(server: Server, writer: int, name: int) -> Server:
    """A writer's memory has expired."""
    return server._replace(memory=_memory(server, writer, name, ()))


def remembered(server: Server, writer: int, name: int) -> tuple[int, ...]:
    """What a server knows of a writer by a name, () if nothing."""
    names = server.memory[writer]
    return names[name - 1] if name <= len(names) else ()


def _memory(server: Server, writer: int, name: int, memory: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """All that a server remembers, with that of one name exchanged."""
    names = server.memory[writer]
    names = put_at((*names, *((),) * (name - len(names))), name - 1, memory)
    while names and not names[-1]:
        names = names[:-1]
    return put_at(server.memory, writer, names)


SAVED, PENDING, LOST, DEAD_LETTERED = "saved", "pending", "lost", "dead"


def verdict(flush: Flush, held: int, drops: Drops) -> str:
    """Waiter of asyncwb/reading/flush_waiter.py.

    What a flush is told, by what Redis had and by what the backend holds after that.
    """
    _, wanted, record, dead, epoch, _ = flush
    if not record and "absence from Redis proves nothing" in drops:
        return SAVED
    if held >= wanted and (held >> 8 <= epoch or "a later epoch confirms nothing" in drops):
        return SAVED
    if record >= wanted:
        return DEAD_LETTERED if dead else PENDING
    if (held >= wanted or wanted >> 8 > epoch) and "a server that is behind is asked again" not in drops:
        return PENDING
    return LOST


def _with(server: Server, keys: tuple[Key, ...], claims: tuple[int, ...]) -> Server:
    identity, meta, epoch, seq, returned, _, _, memory, foreign = server
    return Server(identity, meta, epoch, seq, returned, keys, claims, memory, foreign)
