"""Stale records: what a flusher does before it takes them for saved; asyncwb/flushing/stale.py."""

from typing import Final

from tests.proofs.model import scripts
from tests.proofs.model.left import LOSSES
from tests.proofs.model.rules import Out, Rules
from tests.proofs.model.states import (
    ACKING,
    AGAIN,
    BEGINNING,
    COUNTING,
    DISOWN,
    DISOWNING,
    GREETING,
    LOOKING,
    LOOKING_AGAIN,
    RESTAMP,
    RESTAMPING,
    RETRY,
    Client,
    Flusher,
    State,
    epoch_of,
    put_at,
    version_of,
    with_flusher,
    with_late,
)

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


def looks(state: State, rules: Rules, acking: Flusher) -> Flusher:
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
        busy = with_flusher(state, at, flusher._replace(doing=GREETING if early else COUNTING, met=met))
        out.append(((LOADED, flusher.claim, met), state.to(flushers=busy)))
    else:
        out.append(((NOTHING_NEWER, flusher.claim), state.to(flushers=with_flusher(state, at, _to_ack(flusher)))))
    _cannot_look(state, out, at, flusher)


def _cannot_look(state: State, out: Out, at: int, flusher: Flusher) -> None:
    if state.left.losses:
        busy = with_flusher(state, at, _all_retrying(flusher))
        out.append(((LOOK_FAILS, flusher.claim), state.to(flushers=busy, left=state.left.without(LOSSES))))


def _all_retrying(flusher: Flusher) -> Flusher:
    """What isn't known to be saved is tried again."""
    pairs = zip(flusher.versions, flusher.fates, strict=True)
    return _to_ack(flusher._replace(fates=tuple(fate or (RETRY if version else 0) for version, fate in pairs)))


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
    out.append(((COUNTED, flusher.claim, state.backend.epoch), state.to(flushers=with_flusher(state, at, allotted))))


def _greet(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    """Then meta: an epoch above foreign versions is allotted after they are noted there."""
    for server, label in ((state.server, GREETED), (state.old, GREETED_OLD)):
        if not server:
            continue
        if server.meta != server.identity:
            busy = _all_retrying(flusher)
            out.append(((LOOK_FAILS, flusher.claim), state.to(flushers=with_flusher(state, at, busy))))
            continue
        present = version_of(server.epoch, server.seq, 1)
        noted = scripts.foreign_of(server)
        if "meta is read after what was allotted" in rules.drops:
            # What it was told is kept in `spare`; a mutant for worlds in which nothing is noted yet.
            busy = flusher._replace(doing=COUNTING, spare=present)
            out.append(
                ((label, flusher.claim, server.epoch, flusher.met), state.to(flushers=with_flusher(state, at, busy)))
            )
            continue
        busy = _judged(flusher, present, flusher.allotted, noted, rules)
        out.append(((label, flusher.claim, server.epoch, busy.met), state.to(flushers=with_flusher(state, at, busy))))
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
    told, busy = (claim_id, known + 1, highest), with_flusher(state, at, on)
    server = scripts.disown(state.server, known + 1, highest)
    out.append(((DISOWNED, *told), state.to(server=server, flushers=busy)))
    if state.old:
        old = scripts.disown(state.old, known + 1, highest)
        out.append(((DISOWNED_AT_OLD, *told), state.to(old=old, flushers=busy)))
    if state.left.losses:
        left, failed = state.left.without(LOSSES), with_flusher(state, at, _retrying(flusher, rules))
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
    busy = with_flusher(state, at, flusher._replace(doing=LOOKING_AGAIN, spare=spare, allotted=0))
    clients = state.clients
    if "a later epoch begins before a restamp" not in rules.drops:
        clients = put_at(clients, who, Client(client.known, AGAIN, least=spare + 1))
    backend = state.backend._replace(epoch=spare)
    told = (SPARED, flusher.claim, spare, who + 1)
    out.append((told, state.to(backend=backend, flushers=busy, clients=clients)))


def _look_again(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    """When the later epoch has begun: a server that lagged may have taken over since the first look."""
    client = state.clients[_process(state, flusher)]
    if "a later epoch begins before a restamp" not in rules.drops:
        if client.doing:
            return
        if client.known <= flusher.spare:
            busy = with_flusher(state, at, _retrying(flusher, rules))
            out.append(((NOT_BEGUN, flusher.claim, flusher.spare), state.to(flushers=busy)))
            return
    standing = flusher.met
    if "what was met is looked at again" not in rules.drops:
        standing = tuple(met if met == held else 0 for met, held in zip(flusher.met, state.backend.held, strict=True))
    fates = _retrying(flusher, rules).fates
    busy = with_flusher(state, at, flusher._replace(doing=RESTAMPING, met=standing, fates=fates, allotted=client.known))
    out.append(((LOADED, flusher.claim, standing), state.to(flushers=busy)))
    if state.left.losses:
        busy = with_flusher(state, at, _retrying(flusher, rules))
        out.append(((LOOK_FAILS, flusher.claim), state.to(flushers=busy, left=state.left.without(LOSSES))))


def _restamp(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    """A version below those of all writes that come now, under which the record is saved again."""
    busy, present = with_flusher(state, at, _to_ack(flusher)), flusher.allotted
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


STALE_STEPS: Final = {
    LOOKING: _look,
    COUNTING: _count,
    GREETING: _greet,
    DISOWNING: _disown,
    BEGINNING: _begin,
    LOOKING_AGAIN: _look_again,
    RESTAMPING: _restamp,
}
