"""Flushers: claim, save, and one of the two commits; asyncwb/flusher.py, strategies.py and redis/watching.py.

A flusher that is frozen is one that makes no step while all others do, for as long as you like. It is called by the
number of its claim; idle ones are all alike.
"""

from collections.abc import Iterator
from typing import Final

from model import scripts
from model.rules import Out, Rules
from model.states import (
    ACK,
    ACKING,
    AGAIN,
    BEGINNING,
    CLAIM,
    CLAIMS,
    COMMITTING,
    COUNTING,
    DEAD,
    DISOWN,
    DISOWNING,
    EXEC,
    FAILURES,
    GREETING,
    IDLE,
    KILLS,
    LOOKING,
    LOOKING_AGAIN,
    LOSSES,
    READING,
    RELEASE,
    RELEASING,
    RESTAMP,
    RESTAMPING,
    RETRY,
    SAVE,
    SAVING,
    SAVING_ONE,
    Backend,
    Client,
    Flusher,
    Server,
    State,
    epoch_of,
    put_at,
    version_of,
    with_late,
)

CLAIMED: Final = "F{0} claims {1!m}"
CLAIMED_AT_OLD: Final = "F{0} claims {1!m} at the former primary"
CLAIM_LOST: Final = "F{0} claims {1!m}, and the reply is lost"
CLAIM_LATE: Final = "F{0} claims, and the request is delayed"
RELEASED: Final = "F{0} releases its claim"
RELEASE_LATE: Final = "F{0} releases its claim, and the request is delayed"
SAVED: Final = "F{0} saves {1!m} (the backend held {2!m})"
SAVE_FAILS: Final = "F{0} saves {1!m}, and fails to save {2!m}"
SAVE_UNKNOWN: Final = "F{0} saves {1!m}, but is told that {2!m} failed"
SAVE_LATE: Final = "F{0} saves {1!m}, is told that {2!m} failed, and the save of that goes on"
LOADED: Final = "F{0} loads what it has met: {1!m}"
NOTHING_NEWER: Final = "F{0} loads what it has met: nothing newer"
COUNTED: Final = "F{0} is told that epoch {1} is the highest allotted"
GREETED: Final = "F{0} says hello in epoch {1}: foreign is {2!m}"
GREETED_OLD: Final = "F{0} says hello to the former primary in epoch {1}: foreign is {2!m}"
LOOK_FAILS: Final = "F{0} can't be told what it has met"
DISOWNED: Final = "F{0} notes that epochs {1} to {2} are nobody's"
DISOWNED_AT_OLD: Final = "F{0} notes at the former primary that epochs {1} to {2} are nobody's"
DISOWN_LOST: Final = "F{0} notes that epochs {1} to {2} are nobody's, and the reply is lost"
DISOWN_LATE: Final = "F{0} notes that epochs {1} to {2} are nobody's, and the request is delayed"
SPARED: Final = "F{0} is allotted epoch {1} to restamp, and C{2} begins a later one"
NOT_BEGUN: Final = "F{0} gives up: no epoch above {1} has begun"
RESTAMPED: Final = "F{0} restamps to {1!m}"
RESTAMPED_AT_OLD: Final = "F{0} restamps to {1!m} at the former primary"
RESTAMP_LATE: Final = "F{0} restamps {1!m}, and the request is delayed"
ACKED: Final = "F{0} acks {1!m}"
ACK_LOST: Final = "F{0} acks {1!m}, and the reply is lost"
ACK_LATE: Final = "F{0} acks {1!m}, and the request is delayed"
ACK_AT_OLD: Final = "F{0} acks {1!m} at the former primary"
EXTENDED: Final = "F{0} extends its leases"
WATCHED: Final = "F{0} watches {1!k} and reads {2!v}"
WATCH_FAILS: Final = "F{0} can't read {1!k}"
EXECUTED: Final = "F{0} commits {1!k}={2!v} by EXEC"
EXEC_REFUSED: Final = "F{0} gets a WatchError for {1!k}={2!v}"
EXEC_CUT: Final = "F{0} can't commit {1!k}={2!v}: the server with its WATCH is gone"
EXEC_LOST: Final = "F{0} commits {1!k}={2!v} by EXEC, and the reply is lost"
EXEC_LATE: Final = "F{0} sends EXEC for {1!k}={2!v}, and the request is delayed"
KILLED: Final = "F{0} is killed"
KILLED_SAVING: Final = "F{0} is killed, and its save of {1!m} goes on"

_NOBODY: Final = Flusher()


def saved(backend: Backend, versions: tuple[int, ...], drops: scripts.Drops) -> Backend:
    """`Backend.save`: what is newer than what is held, tombstones like values."""
    held, highest = list(backend.held), list(backend.highest)
    for at, version in enumerate(versions):
        if version and (version > held[at] or "saves are conditional" in drops):
            held[at] = 0 if version & 1 and "the backend keeps tombstones" in drops else version
            highest[at] = max(highest[at], version)
    return Backend(backend.epoch, tuple(held), tuple(highest))


def flusher_steps(state: State, rules: Rules, out: Out) -> None:
    """The steps of all flushers."""
    before = None
    for at, flusher in enumerate(state.flushers):
        if flusher == before:
            continue  # what one does the other can do as well
        before = flusher
        _STEPS[flusher.doing](state, rules, out, at, flusher)
        if flusher.doing and state.left.kills:
            left = state.left.without(KILLS)
            idle = _with(state, at, _NOBODY)
            out.append(((KILLED, flusher.claim), state.to(flushers=idle, left=left)))
            if flusher.doing == SAVING and rules.configuration.late_saves:
                late = with_late(state.late, SAVE, flusher.versions)
                label = (KILLED_SAVING, flusher.claim, flusher.versions)
                out.append((label, state.to(flushers=idle, left=left, late=late)))


def _with(state: State, at: int, flusher: Flusher) -> tuple[Flusher, ...]:
    """Idle flushers are alike and busy ones differ by their claims: states that differ in order alone are one."""
    flushers = list(state.flushers)
    flushers[at] = flusher
    flushers.sort()
    return tuple(flushers)


def _claim(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    left = state.left
    if not left.claims:
        return
    claim_id = rules.configuration.left.claims - left.claims + 1
    due = sum(1 << bit for bit, key in enumerate(state.server.keys) if key.dirty)
    fewer = left.without(CLAIMS)
    begun = Flusher(READING if rules.configuration.watch else SAVING, claim_id)
    for wanted in range(1, due + 1):
        if wanted & ~due:
            continue
        versions, server = scripts.claim(state.server, claim_id, wanted, rules.drops)
        busy = _with(state, at, begun._replace(versions=versions, saved=rules.zeros, fates=rules.zeros))
        if any(versions):
            out.append(((CLAIMED, claim_id, versions), state.to(server=server, flushers=busy, left=fewer)))
        elif server != state.server:
            out.append(((CLAIMED, claim_id, versions), state.to(server=server)))
        if left.losses:
            lost = fewer.without(LOSSES)
            if "every attempt of a claim has a fresh id" in rules.drops:
                lost = left.without(LOSSES)
                out.append(((CLAIM_LOST, claim_id, versions), state.to(server=server, left=lost)))
                continue
            releasing = _with(state, at, Flusher(RELEASING, claim_id))
            out.append(((CLAIM_LOST, claim_id, versions), state.to(server=server, flushers=releasing, left=lost)))
    if state.old:
        versions, old = scripts.claim(state.old, claim_id, -1, rules.drops)
        if any(versions):
            busy = _with(state, at, begun._replace(versions=versions, saved=rules.zeros, fates=rules.zeros))
            out.append(((CLAIMED_AT_OLD, claim_id, versions), state.to(old=old, flushers=busy, left=fewer)))
    if left.losses:
        fresh = "every attempt of a claim has a fresh id" not in rules.drops
        lost = (fewer if fresh else left).without(LOSSES)
        out.append(((CLAIM_LATE, claim_id), state.to(late=with_late(state.late, CLAIM, claim_id), left=lost)))


def _release(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    zeros, idle = rules.zeros, _with(state, at, _NOBODY)
    server = scripts.ack(state.server, flusher.claim, zeros, zeros, True, rules.drops)
    out.append(((RELEASED, flusher.claim), state.to(server=server, flushers=idle)))
    if state.left.losses:
        late = with_late(state.late, RELEASE, flusher.claim)
        left = state.left.without(LOSSES)
        out.append(((RELEASE_LATE, flusher.claim), state.to(flushers=idle, late=late, left=left)))


def _save(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    versions, claim_id, drops = flusher.versions, flusher.claim, rules.drops
    acking = Flusher(ACKING, claim_id, versions, rules.zeros, rules.zeros)
    busy = _with(state, at, acking)
    if "a save returns when it is durable" in drops:
        late = with_late(state.late, SAVE, versions)
        out.append(((SAVED, claim_id, rules.zeros, state.backend.held), state.to(flushers=busy, late=late)))
        return
    backend = saved(state.backend, versions, drops)
    after = _looks(state, rules, acking)
    out.append(
        (
            (SAVED, claim_id, versions, state.backend.held),
            state.to(backend=backend, flushers=busy if after is acking else _with(state, at, after)),
        )
    )
    _extend(state, rules, out, flusher)
    if not state.left.failures:
        return
    left = state.left.without(FAILURES)
    for failed, rest in _splits(versions):
        for fate in (RETRY, DEAD) if rules.configuration.dead else (RETRY,):
            fates = tuple(fate if each else 0 for each in failed)
            busy = _with(state, at, _looks(state, rules, acking._replace(fates=fates)))
            some = saved(state.backend, rest, drops)
            out.append(((SAVE_FAILS, claim_id, rest, failed), state.to(backend=some, flushers=busy, left=left)))
            out.append(((SAVE_UNKNOWN, claim_id, rest, failed), state.to(backend=backend, flushers=busy, left=left)))
            if rules.configuration.late_saves:
                late = with_late(state.late, SAVE, failed)
                label = (SAVE_LATE, claim_id, rest, failed)
                out.append((label, state.to(backend=some, flushers=busy, left=left, late=late)))


def _splits(versions: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Which of them fail, at least one, and which are saved."""
    members = sum(1 << bit for bit, version in enumerate(versions) if version)
    for failing in range(1, members + 1):
        if not failing & ~members:
            failed = tuple(version if failing >> bit & 1 else 0 for bit, version in enumerate(versions))
            rest = tuple(0 if failing >> bit & 1 else version for bit, version in enumerate(versions))
            yield failed, rest


def _ack(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    claim_id, left, idle = flusher.claim, state.left, _with(state, at, _NOBODY)
    actual = flusher.saved
    if "watch acks the versions it has saved" in rules.drops:
        actual = tuple(key.record for key in state.server.keys)
    done = tuple(
        0 if fate else each or version
        for each, version, fate in zip(actual, flusher.versions, flusher.fates, strict=True)
    )
    server = scripts.ack(state.server, claim_id, actual, flusher.fates, False, rules.drops)
    out.append(((ACKED, claim_id, done), state.to(server=server, flushers=idle)))
    _extend(state, rules, out, flusher)
    if state.old:
        old = scripts.ack(state.old, claim_id, actual, flusher.fates, False, rules.drops)
        out.append(((ACK_AT_OLD, claim_id, done), state.to(old=old, flushers=idle)))
    if left.losses:
        fewer = left.without(LOSSES)
        if server != state.server:
            out.append(((ACK_LOST, claim_id, done), state.to(server=server, left=fewer)))
        late = with_late(state.late, ACK, claim_id, actual, flusher.fates)
        out.append(((ACK_LATE, claim_id, done), state.to(late=late, left=fewer)))


def _extend(state: State, rules: Rules, out: Out, flusher: Flusher) -> None:
    server = scripts.extend(state.server, flusher.claim, rules.drops)
    if server is not state.server:
        out.append(((EXTENDED, flusher.claim), state.to(server=server)))


# Stale records: asyncwb/stale.py looks at what a save has met before ack takes them for saved.


def _looks(state: State, rules: Rules, acking: Flusher) -> Flusher:
    """A flusher after its save: before it acks it looks, if what it took was stale. (`Backend.save` counts that.)

    Where nobody plants anything, it finds what it has expected, and nothing comes of it.
    """
    if not rules.configuration.left.plants or "stale records are looked at" in rules.drops:
        return acking
    taken = zip(acking.versions, acking.fates, state.backend.held, strict=True)
    if any(version and not fate and held >= version for version, fate, held in taken):
        return acking._replace(doing=LOOKING)
    return acking


def _look(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    """First what is stored, of all that it took."""
    met = tuple(
        held if version and not fate and held > version else 0
        for version, fate, held in zip(flusher.versions, flusher.fates, state.backend.held, strict=True)
    )
    if any(met):
        early = "meta is read after what was allotted" in rules.drops
        busy = _with(state, at, flusher._replace(doing=GREETING if early else COUNTING, met=met))
        out.append(((LOADED, flusher.claim, met), state.to(flushers=busy)))
    else:
        out.append(((NOTHING_NEWER, flusher.claim), state.to(flushers=_with(state, at, _to_ack(flusher)))))
    _cannot_look(state, out, at, flusher)


def _cannot_look(state: State, out: Out, at: int, flusher: Flusher) -> None:
    """What isn't known to be saved is tried again."""
    if state.left.losses:
        fates = tuple(
            fate or (RETRY if version else 0) for version, fate in zip(flusher.versions, flusher.fates, strict=True)
        )
        busy = _with(state, at, _to_ack(flusher._replace(fates=fates)))
        out.append(((LOOK_FAILS, flusher.claim), state.to(flushers=busy, left=state.left.without(LOSSES))))


def _to_ack(flusher: Flusher) -> Flusher:
    """The ack is next, and nothing of the look is needed any more."""
    return flusher._replace(doing=ACKING, met=(), allotted=0, spare=0)


def _retrying(flusher: Flusher, rules: Rules) -> Flusher:
    """The records that met a foreign version: whatever has come of it, they aren't saved yet."""
    if "what met a foreign version is tried again" in rules.drops:
        return _to_ack(flusher)
    fates = tuple(RETRY if met else fate for met, fate in zip(flusher.met, flusher.fates, strict=True))
    return _to_ack(flusher._replace(fates=fates))


def _count(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    """Then what is allotted: who has saved a version had been given its epoch before."""
    allotted = flusher._replace(doing=GREETING, allotted=state.backend.epoch)
    if "meta is read after what was allotted" in rules.drops:
        allotted = _judged(flusher, flusher.spare, state.backend.epoch, (), rules)
    out.append(((COUNTED, flusher.claim, state.backend.epoch), state.to(flushers=_with(state, at, allotted))))


def _greet(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    """Then meta: an epoch above foreign versions is allotted after they are noted there."""
    for server, label in ((state.server, GREETED), (state.old, GREETED_OLD)):
        if not server:
            continue
        if server.meta != server.identity:
            fates = tuple(
                fate or (RETRY if version else 0) for version, fate in zip(flusher.versions, flusher.fates, strict=True)
            )
            busy = _to_ack(flusher._replace(fates=fates))
            out.append(((LOOK_FAILS, flusher.claim), state.to(flushers=_with(state, at, busy))))
            continue
        present = version_of(server.epoch, server.seq, 1)
        noted = scripts.foreign_of(server)
        if "meta is read after what was allotted" in rules.drops:
            # What it was told is kept in `spare`; a mutant for worlds in which nothing is noted yet.
            busy = flusher._replace(doing=COUNTING, spare=present)
            out.append(((label, flusher.claim, server.epoch, flusher.met), state.to(flushers=_with(state, at, busy))))
            continue
        busy = _judged(flusher, present, flusher.allotted, noted, rules)
        out.append(((label, flusher.claim, server.epoch, busy.met), state.to(flushers=_with(state, at, busy))))
    _cannot_look(state, out, at, flusher)


def _judged(flusher: Flusher, present: int, allotted: int, noted: tuple[tuple[int, int], ...], rules: Rules) -> Flusher:
    """With those alone that met a foreign version; the others are saved, since a newer write is."""
    foreign = tuple(met if met and scripts.is_foreign(met, present, allotted, noted) else 0 for met in flusher.met)
    if not any(foreign):
        return _to_ack(flusher)
    known = max(allotted, epoch_of(present))
    return flusher._replace(doing=DISOWNING, met=foreign, allotted=known, spare=0)


def _process(state: State, flusher: Flusher) -> int:
    """Whose handshake it waits for: claims go round among the processes."""
    return (flusher.claim - 1) % len(state.clients)


def _disown(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    """Notes what is foreign, before an epoch above it begins: from then on, it would look like an earlier history's."""
    who = _process(state, flusher)
    if state.clients[who].doing:
        return  # one handshake at a time
    claim_id, highest = flusher.claim, epoch_of(max(flusher.met))
    known = max(flusher.allotted, state.clients[who].known)
    on = flusher._replace(doing=BEGINNING, allotted=known)
    if highest <= known or "foreign epochs are noted before an epoch above them begins" in rules.drops:
        _begin(state, rules, out, at, on)
        return
    told, busy = (claim_id, known + 1, highest), _with(state, at, on)
    server = scripts.disown(state.server, known + 1, highest)
    out.append(((DISOWNED, *told), state.to(server=server, flushers=busy)))
    if state.old:
        old = scripts.disown(state.old, known + 1, highest)
        out.append(((DISOWNED_AT_OLD, *told), state.to(old=old, flushers=busy)))
    if state.left.losses:
        left, failed = state.left.without(LOSSES), _with(state, at, _retrying(flusher, rules))
        out.append(((DISOWN_LOST, *told), state.to(server=server, flushers=failed, left=left)))
        late = with_late(state.late, DISOWN, known + 1, highest)
        out.append(((DISOWN_LATE, *told), state.to(flushers=failed, left=left, late=late)))


def _begin(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    """An epoch for the new versions, and the handshake of its process begins a later one."""
    who = _process(state, flusher)
    client = state.clients[who]
    if client.doing:
        return
    lowest = 1 + max(map(epoch_of, (*flusher.met, *flusher.versions)))
    spare = max(state.backend.epoch + 1, lowest, flusher.allotted + 1)
    busy = _with(state, at, flusher._replace(doing=LOOKING_AGAIN, spare=spare, allotted=0))
    clients = state.clients
    if "a later epoch begins before a restamp" not in rules.drops:
        clients = put_at(clients, who, Client(client.known, AGAIN, least=spare + 1))
    backend = Backend(spare, state.backend.held, state.backend.highest)
    told = (SPARED, flusher.claim, spare, who + 1)
    out.append((told, state.to(backend=backend, flushers=busy, clients=clients)))


def _look_again(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    """When the later epoch has begun: a server that lagged may have taken over since the first look."""
    client = state.clients[_process(state, flusher)]
    if "a later epoch begins before a restamp" not in rules.drops:
        if client.doing:
            return
        if client.known <= flusher.spare:
            busy = _with(state, at, _retrying(flusher, rules))
            out.append(((NOT_BEGUN, flusher.claim, flusher.spare), state.to(flushers=busy)))
            return
    standing = flusher.met
    if "what was met is looked at again" not in rules.drops:
        standing = tuple(met if met == held else 0 for met, held in zip(flusher.met, state.backend.held, strict=True))
    fates = _retrying(flusher, rules).fates
    busy = _with(state, at, flusher._replace(doing=RESTAMPING, met=standing, fates=fates, allotted=client.known))
    out.append(((LOADED, flusher.claim, standing), state.to(flushers=busy)))
    if state.left.losses:
        busy = _with(state, at, _retrying(flusher, rules))
        out.append(((LOOK_FAILS, flusher.claim), state.to(flushers=busy, left=state.left.without(LOSSES))))


def _restamp(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    """A version below those of all writes that come now, under which the record is saved again."""
    busy, present = _with(state, at, _to_ack(flusher)), flusher.allotted
    versions = tuple(version if met else 0 for version, met in zip(flusher.versions, flusher.met, strict=True))
    given, after = restamped(state, rules, versions, flusher.spare, present)
    out.append(((RESTAMPED, flusher.claim, given), after.to(flushers=busy)))
    if state.old:
        given, after = restamped(state, rules, versions, flusher.spare, present, elsewhere=True)
        out.append(((RESTAMPED_AT_OLD, flusher.claim, given), after.to(flushers=busy)))
    if state.left.losses:
        # A lost reply is as good as one that came: the record is tried again in any case.
        late = with_late(state.late, RESTAMP, versions, flusher.spare, present)
        left = state.left.without(LOSSES)
        out.append(((RESTAMP_LATE, flusher.claim, versions), state.to(flushers=busy, left=left, late=late)))


def restamped(
    state: State, rules: Rules, versions: tuple[int, ...], spare: int, present: int, *, elsewhere: bool = False
) -> tuple[tuple[int, ...], State]:
    """What restamp.lua gave, and the state after it: judged, and with what is needed to judge the rest.

    Elsewhere: at the former primary that still runs.
    """
    server = state.old if elsewhere else state.server
    assert server, "nobody asks a server that isn't there"
    given, after = scripts.restamp(server, versions, spare, present, rules.drops)
    broken, notes = state.broken, set(state.restamped)
    for at, version in enumerate(given):
        if not version:
            continue
        replaced = server.keys[at].record
        write = state.stands(at, replaced)
        names = [stamped for key, stamped, stood in notes if key == at and stood == state.floor[at]]
        outdone = write < state.floor[at] and version > max(names, default=state.floor[at])
        # Its own was newer; or it is another's already; or it makes this newer than a write that came later.
        if version <= replaced or state.stands(at, version) not in (version, write) or outdone:
            broken = broken or "versions"
        notes.add((at, version, write))
    changed = {"old" if elsewhere else "server": after}
    return given, state.to(broken=broken, restamped=tuple(sorted(notes)), **changed)


# The transaction: one record after the other, WATCH, read, save, EXEC; ack settles the claim afterwards.


def _read(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    key = flusher.at
    if not flusher.versions[key]:
        # Isn't in the claim: no step of its own.
        out.append(((WATCHED, flusher.claim, key, 0), state.to(flushers=_with(state, at, _next(flusher, rules)))))
        return
    for server in (state.server, state.old):
        if server:
            record = server.keys[key].record
            busy = (
                flusher._replace(doing=SAVING_ONE, watched=record, connection=server.identity)
                if record
                # Perhaps somebody else has saved it, perhaps this server never had it: not for this ack to say.
                else _next(flusher, rules, fate=0 if "watch acks only what it has saved" in rules.drops else RETRY)
            )
            out.append(((WATCHED, flusher.claim, key, record), state.to(flushers=_with(state, at, busy))))
    if state.left.losses:
        failed = _next(flusher, rules, fate=RETRY)
        busy_ = _with(state, at, failed)
        out.append(((WATCH_FAILS, flusher.claim, key), state.to(flushers=busy_, left=state.left.without(LOSSES))))


def _next(flusher: Flusher, rules: Rules, *, fate: int = 0) -> Flusher:
    """On to the next record of the claim, or to its ack."""
    at = flusher.at + 1
    fates = put_at(flusher.fates, flusher.at, fate) if fate else flusher.fates
    over = at == len(rules.zeros)
    return Flusher(
        ACKING if over else READING, flusher.claim, flusher.versions, flusher.saved, fates, 0 if over else at
    )


def _save_one(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    version, key, claim_id = flusher.watched, flusher.at, flusher.claim
    one = put_at(rules.zeros, key, version)
    backend = saved(state.backend, one, rules.drops)
    busy = _with(state, at, flusher._replace(doing=COMMITTING, saved=put_at(flusher.saved, key, version)))
    out.append(((SAVED, claim_id, one, state.backend.held), state.to(backend=backend, flushers=busy)))
    if not state.left.failures:
        return
    left = state.left.without(FAILURES)
    for fate in (RETRY, DEAD) if rules.configuration.dead else (RETRY,):
        busy = _with(state, at, _next(flusher, rules, fate=fate))
        out.append(((SAVE_FAILS, claim_id, rules.zeros, one), state.to(flushers=busy, left=left)))
        out.append(((SAVE_UNKNOWN, claim_id, one, one), state.to(backend=backend, flushers=busy, left=left)))
        if rules.configuration.late_saves:
            late = with_late(state.late, SAVE, one)
            out.append(((SAVE_LATE, claim_id, rules.zeros, one), state.to(flushers=busy, left=left, late=late)))


def _commit(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    version, key, claim_id, drops = flusher.watched, flusher.at, flusher.claim, rules.drops
    done = _with(state, at, _next(flusher, rules))
    told = (claim_id, key, version)
    server, where = _connected(state, flusher.connection)
    if not server:
        out.append(((EXEC_CUT, *told), state.to(flushers=done)))
        return
    applied, after = scripts.commit(server, key, version, drops)
    changed = {where: after}
    if not applied:
        again = flusher._replace(doing=READING, watched=0) if "the article's loop" in drops else None
        refused = _with(state, at, again) if again else done
        out.append(((EXEC_REFUSED, *told), state.to(flushers=refused)))
    else:
        out.append(((EXECUTED, *told), state.to(flushers=done, **changed)))
    if state.left.losses:
        left = state.left.without(LOSSES)
        if applied:
            out.append(((EXEC_LOST, *told), state.to(flushers=done, left=left, **changed)))
        late = with_late(state.late, EXEC, key, version, flusher.connection)
        out.append(((EXEC_LATE, *told), state.to(flushers=done, left=left, late=late)))


def _connected(state: State, identity: int) -> tuple[Server | tuple[()], str]:
    """The server that a connection leads to, if it is still there."""
    if state.server.identity == identity:
        return state.server, "server"
    if state.old and state.old.identity == identity:
        return state.old, "old"
    return (), ""


_STEPS: Final = {
    IDLE: _claim,
    RELEASING: _release,
    SAVING: _save,
    ACKING: _ack,
    READING: _read,
    SAVING_ONE: _save_one,
    COMMITTING: _commit,
    LOOKING: _look,
    COUNTING: _count,
    GREETING: _greet,
    DISOWNING: _disown,
    BEGINNING: _begin,
    LOOKING_AGAIN: _look_again,
    RESTAMPING: _restamp,
}
