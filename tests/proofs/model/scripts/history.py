"""Scripts for epochs: install.lua, disown.lua, restamp.lua; and what is foreign."""

from tests.proofs.model.records import Drops
from tests.proofs.model.scripts.server import with_keys
from tests.proofs.model.states import Server


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
    return tuple(given), with_keys(server, tuple(keys), server.claims)
