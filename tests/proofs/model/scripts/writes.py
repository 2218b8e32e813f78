"""Scripts of writers: put.lua, with updates and conditional writes; allot.lua; what is remembered of a writer."""

from typing import Final

from asyncwb.protocol.messages import Refusal
from tests.proofs.model.records import Decision, Drops, appended, decide
from tests.proofs.model.rules import CONDITIONAL, UPDATING
from tests.proofs.model.states import THROUGH, UPDATES, Key, Put, Server, put_at, version_of

EPOCH: Final = 0
WRITER: Final = 1
EARLY: Final = 2
REFUSALS: Final[dict[int, Refusal]] = {EPOCH: "EPOCH", WRITER: "WRITER", EARLY: "EARLY"}
MISMATCH: Final = 3
AGAIN: Final = 4
DEAD_ALREADY: Final = 5
OTHER_MODE: Final = 6
ANSWERS: Final = {
    MISMATCH: "VersionMismatch",
    AGAIN: "that its token is void",
    DEAD_ALREADY: "DeadLettered",
    OTHER_MODE: "that the namespace has write-through",
}
"""Any other reply is the version of what is applied. These are as final as that: the writer's memory keeps them."""

_FORGOTTEN: Final = (0, 0)


def is_version(reply: int) -> bool:
    """Whether something was applied."""
    return reply > OTHER_MODE


def put(server: Server, sent: Put, letter: str, most: int, drops: Drops) -> tuple[int, Server]:
    """put.lua, for one write. The reply is its version, one of `REFUSALS`, or one of `ANSWERS`."""
    writer, request, key, epoch, after, name = sent[:6]
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
    answer = _refusal(server, sent, letter, drops)
    if answer:
        # Remembered like a version: an earlier copy of the request that is still in flight may not be applied later.
        remembering = (request, answer, *memory)[: len(memory)]
        if "what is refused for good is remembered" in drops:
            return answer, server
        return answer, server._replace(memory=_memory(server, writer, name, remembering))
    seq = server.seq + (2 if letter in "bf" else 1)
    if seq > most:
        if "put stops at the highest seq" not in drops:
            return EPOCH, server
        seq = 0
    version = version_of(server.epoch, seq, int(letter in "dx"))
    entry = numbers(version, letter, drops) if letter in UPDATING else ()
    changed = _written(server.keys[key], version, entry, drops)
    keys = put_at(server.keys, key, changed)
    # As many replies as it has room for.
    memories = _memory(server, writer, name, (request, version, *memory)[: len(memory)])
    mode = server.mode or (UPDATES if letter in UPDATING or letter in CONDITIONAL else 0)
    return version, server._replace(seq=seq, keys=keys, memory=memories, mode=mode)


def numbers(version: int, letter: str, drops: Drops = ()) -> tuple[int, ...]:
    """The versions that the callers of a request are told. Each has one, also where only the later is stored."""
    if letter not in "bf":
        return (version,)
    return (version if "each of two writes has a number" in drops else version - 2, version)


def _refusal(server: Server, sent: Put, letter: str, drops: Drops) -> int:
    """What put answers instead of a version, 0 if it may write."""
    key = server.keys[sent.key]
    if letter not in UPDATING and letter not in CONDITIONAL:
        return 0
    if server.mode == THROUGH and "a namespace has write-through or updates" not in drops:
        return OTHER_MODE
    if letter in UPDATING and key.unfit and "updates of what can't be worked out are refused" not in drops:
        return DEAD_ALREADY
    if letter in CONDITIONAL:
        decision = decide(
            key.record,
            server.epoch,
            key.token,
            expected=sent.expected,
            named=sent.token,
            newest=sent.newest,
            drops=drops,
        )
        return {Decision.WRITE: 0, Decision.MISMATCH: MISMATCH, Decision.AGAIN: AGAIN}[decision]
    return 0


def _written(old: Key, version: int, entry: tuple[int, ...], drops: Drops) -> Key:
    """What a put or delete, or with an entry an update makes of a key."""
    record, dirty, lease, dead, marked, pending, unfit, tried, token = old
    marks = "update marks what is leased" not in drops if entry else "put marks what is leased" not in drops
    if lease and marks:
        marked = 1
    if not lease or "put leaves what is leased" in drops:
        # ZADD NX: coalesced, each key once.
        dirty = dirty if dead and "put makes a dead record dirty" in drops else 1
    # A new content has not failed. An update leaves the attempts as they are, unless it revives what was given up.
    if not entry or dead or "an update leaves the attempts" in drops:
        tried = 0
    if "update clears dead" not in drops if entry else "put clears dead" not in drops:
        dead = unfit = 0
    if "a write takes the token away" not in drops:
        token = 0
    if version & 1 and "a delete keeps a tombstone in Redis" in drops:
        return Key()
    pending = appended(record, pending, entry) if entry else ()
    return Key(version, dirty, lease, dead, marked, pending, unfit, tried, token)


def allot(server: Server, sent: Put, deleted: int, most: int, drops: Drops) -> tuple[int, Server]:
    """allot.lua, for one write, of a request that put refused."""
    writer, request, _, epoch, _, name = sent[:6]
    known = server.meta == server.identity and server.epoch == epoch and server.seq < most
    if server.mode == UPDATES and "a namespace has write-through or updates" not in drops:
        return EPOCH, server
    if not known and "allot compares identity and epoch" not in drops:
        return EPOCH, server
    seq, memory, memories = server.seq + 1, remembered(server, writer, name), server.memory
    if memory and memory[0] < request and "allot remembers the request" not in drops:
        memories = _memory(server, writer, name, (request, 0, *memory)[: len(memory)])
    mode = server.mode or THROUGH
    return version_of(server.epoch, seq, deleted), server._replace(seq=seq, memory=memories, mode=mode)


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
