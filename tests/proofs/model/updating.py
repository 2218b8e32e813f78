"""Flushers, where records have entries: read with a note, loaded, worked out, saved on what they were worked out from.

The steps between claim and ack (see `flushers`), for a whole claim and for a record of a transaction.
"""

from typing import Final

from tests.proofs.model import scripts
from tests.proofs.model.left import FAILOVERS, FAILURES
from tests.proofs.model.records import Content, Entries, Pending, asks_less, is_unfit, knows_all, work_out
from tests.proofs.model.rules import Out, Rules
from tests.proofs.model.saving import IF_NEWER, connected, failures, next_one, saved_on, saves_of, some, splits
from tests.proofs.model.states import (
    ACKING,
    COMMITTING,
    LOADING,
    LOADING_ONE,
    NOTING,
    RETRY,
    SAVE_ON,
    SAVING_ON,
    SAVING_ONE_ON,
    UNFIT,
    WATCHING,
    WITH_ENTRIES,
    Flusher,
    Label,
    Server,
    State,
    is_planted,
    put_at,
    with_flusher,
    with_late,
)

READ_PENDING: Final = "F{0} reads {1!m}, and notes how many entries there are"
READ_AGAIN: Final = "F{0} finds entries, and has to read {1!m} again, with a note"
LOADED: Final = "F{0} loads {1!m}, and works out what to save"
LOADED_SAVED: Final = "F{0} loads {1!m}: all is saved"
LOADED_ODD: Final = "F{0} loads {1!m}: something can't be worked out"
SAVED_ON: Final = "F{0} saves {1!s}"
SAVED_NOT: Final = "F{0} saves {1!s}, but the backend holds something else ({2!m})"
SAVE_ON_FAILS: Final = "F{0} saves {1!s}, and fails to save {2!s}"
SAVE_ON_UNKNOWN: Final = "F{0} saves {1!s}, but is told that {2!s} failed"
SAVE_ON_LATE: Final = "F{0} saves {1!s}, is told that {2!s} failed, and the save of that goes on"
NOTED: Final = "F{0} notes how many entries {1!k} has"
NOTE_REFUSED: Final = "F{0} doesn't hold {1!k} any more, and gives it back"
WATCHED_ENTRIES: Final = "F{0} watches {1!k} and reads the entries up to {2!v}"


def read(state: State, rules: Rules, server: Server, at: int, flusher: Flusher) -> tuple[Label, State]:
    """Reads the records of a claim: those that had entries when they were claimed by the script that notes how many.

    One that turns out to have entries has got them since, and is read again.
    """
    drops = rules.drops
    entries = tuple(int(each == WITH_ENTRIES) for each in flusher.keys)
    noting = "a note is made by the step that reads" not in drops
    after = scripts.note(server, entries) if noting and any(entries) else server
    state = state.to(**{"server" if server is state.server else "old": after})
    flags = tuple(
        WITH_ENTRIES if each and key.pending else each for each, key in zip(flusher.keys, after.keys, strict=True)
    )
    versions = scripts.read(after, flags)
    if flags != flusher.keys and "what has got entries is read again" not in drops:
        again = flusher._replace(keys=flags)
        return (READ_AGAIN, flusher.claim, versions), state.to(flushers=with_flusher(state, at, again))
    records = tuple(key.pending if each else () for each, key in zip(flusher.keys, after.keys, strict=True))
    nothing = ((),) * len(records)
    doing = LOADING if any(records) else SAVING_ON
    busy = flusher._replace(doing=doing, versions=versions, connection=0, read=records, found=nothing)
    if asks_less(drops):
        busy = busy._replace(allotted=after.epoch)  # the epoch that it reads in
    return (READ_PENDING, flusher.claim, versions), state.to(flushers=with_flusher(state, at, busy))


def _worked_out(
    state: State, rules: Rules, at: int, epoch: int, record: Pending
) -> list[tuple[int, tuple[int, Content] | tuple[()]]]:
    """Of a record with entries: what may become of it, and over which version what is saved.

    `epoch`: with a mutant, the one that it was read in.
    """
    held, content = state.backend.held[at], state.backend.contents[at]
    if is_planted(held) and "what is foreign to entries is looked at" not in rules.drops:
        # Found by a look, as in `stale`. The entries would have to get new versions, in their order; nobody does that.
        return [(UNFIT, ())]
    if record.entries[-1][-1] <= held:
        return [(0, ())]  # it is saved
    if knows_all(record, epoch, rules.drops):
        content = record.base, *(update for entry in record.entries for update in entry)
        return [(0, (IF_NEWER, content))]
    result = work_out(record, held, content, rules.drops)
    if result is None:
        return [(RETRY, ()), (UNFIT, ())]
    if is_unfit(result):
        if "what can't be applied is not left out" in rules.drops:
            return [(0, (held, (result[0], *(update for update in result[1:] if not update & 1))))]
        return [(UNFIT, ())]
    return [(0, (held, result))]


def _load(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    """Asks the backend for all records that have entries, and works out each."""
    ways = [(flusher.fates, flusher.found)]
    for key, record in enumerate(flusher.read):
        if record and not flusher.fates[key]:
            ways = [
                (put_at(fates, key, fate), put_at(found, key, what))
                for fates, found in ways
                for fate, what in _worked_out(state, rules, key, flusher.allotted, record)
            ]
    for fates, found in ways:
        busy = flusher._replace(fates=fates, found=found)
        saves = saves_of(busy)
        busy = busy._replace(doing=SAVING_ON) if any(saves) else _to_ack(busy)
        label = LOADED_ODD if any(fates) else LOADED if any(saves) else LOADED_SAVED
        told = (label, flusher.claim, state.backend.held)
        out.append((told, _judged(state, rules, fates).to(flushers=with_flusher(state, at, busy))))


def _met(held: int, version: int) -> bool:
    """Whether a save wasn't applied, and what is held has to be looked at. (Where it is newer, a load would say so.)"""
    return held < version or is_planted(held)


def _judged(state: State, rules: Rules, fates: tuple[int, ...]) -> State:
    """Without a failover nothing is ever odd but an operation that can't be applied."""
    odd = RETRY in fates and state.left[FAILOVERS] == rules.configuration.left.failovers
    return state.to(broken=state.broken or "I7") if odd else state


def _to_ack(flusher: Flusher) -> Flusher:
    return flusher._replace(doing=ACKING, read=(), found=(), allotted=0)


def _save(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    saves, claim_id, drops = saves_of(flusher), flusher.claim, rules.drops
    backend = saved_on(state.backend, saves, drops)
    missed = any(
        save and record and _met(held, save[0])
        for save, record, held in zip(saves, flusher.read, backend.held, strict=True)
    )
    if missed and "what was not applied is worked out again" not in drops:
        again = with_flusher(state, at, flusher._replace(doing=LOADING))
        out.append(((SAVED_NOT, claim_id, saves, state.backend.held), state.to(backend=backend, flushers=again)))
    else:
        busy = with_flusher(state, at, _to_ack(flusher))
        out.append(((SAVED_ON, claim_id, saves), state.to(backend=backend, flushers=busy)))
    if not state.left.failures:
        return
    left = state.left.without(FAILURES)
    for failing, _ in splits(tuple(save[0] if save else 0 for save in saves)):
        failed, rest = some(saves, failing)
        for fate in failures(rules):
            fates = tuple(fate if each else old for each, old in zip(failing, flusher.fates, strict=True))
            # What the rest has met is looked at by the next claim: it is given back.
            given_back = 0 if "what else was not applied is given back" in drops else RETRY
            fates = tuple(
                given_back if save and record and _met(held, save[0]) else old
                for save, record, held, old in zip(
                    rest, flusher.read, saved_on(state.backend, rest, drops).held, fates, strict=True
                )
            )
            busy = with_flusher(state, at, _to_ack(flusher._replace(fates=fates)))
            some_ = saved_on(state.backend, rest, drops)
            out.append(((SAVE_ON_FAILS, claim_id, rest, failed), state.to(backend=some_, flushers=busy, left=left)))
            out.append(((SAVE_ON_UNKNOWN, claim_id, rest, failed), state.to(backend=backend, flushers=busy, left=left)))
            if rules.configuration.late_saves:
                late = with_late(state.late, SAVE_ON, failed)
                label = (SAVE_ON_LATE, claim_id, rest, failed)
                out.append((label, state.to(backend=some_, flushers=busy, left=left, late=late)))


# The transaction: a note first, then WATCH and GET on the same connection, and of the record only what the note covers.


def _note(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    key, claim_id = flusher.at, flusher.claim
    wanted = put_at(rules.zeros, key, 1)
    for name, server in (("server", state.server), ("old", state.old)):
        if not server:
            continue
        if scripts.holds(server, claim_id, key) or "a note names its claim" in rules.drops:
            after = scripts.note(server, wanted)
            busy = flusher._replace(doing=WATCHING, connection=server.identity)
            noted = state.to(flushers=with_flusher(state, at, busy), **{name: after})
            out.append(((NOTED, claim_id, key), noted))
        else:
            back = with_flusher(state, at, next_one(flusher, rules))
            out.append(((NOTE_REFUSED, claim_id, key), state.to(flushers=back)))


def watch_entries(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    """After the note: WATCH and GET. What has no entries any more was put anew, or is gone: it is given back."""
    key, claim_id = flusher.at, flusher.claim
    server, _ = connected(state, flusher.connection)
    pending = server.keys[key].pending if server else ()
    covered = _covered(pending, rules) if pending else ()
    version = covered[-1][-1] if covered else 0
    if covered:
        records = put_at(((),) * len(rules.zeros), key, pending)
        epoch = server.epoch if server and asks_less(rules.drops) else 0
        busy = flusher._replace(doing=LOADING_ONE, watched=version, read=records, allotted=epoch)
    else:
        busy = next_one(flusher, rules)
    out.append(((WATCHED_ENTRIES, claim_id, key, version), state.to(flushers=with_flusher(state, at, busy))))


def _covered(pending: Pending, rules: Rules) -> Entries:
    if "only what the note covers is used" in rules.drops:
        return pending.entries
    return pending.entries[: pending.noted]


def _load_one(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    key, claim_id, held = flusher.at, flusher.claim, state.backend.held
    record = flusher.read[key]
    assert record
    entries = _covered(record, rules)
    nothing = ((),) * len(rules.zeros)
    for fate, found in _worked_out(state, rules, key, flusher.allotted, record._replace(entries=entries)):
        if fate:
            busy = next_one(flusher, rules, fate=fate)
            label = LOADED_ODD
        elif found:
            busy = flusher._replace(doing=SAVING_ONE_ON, found=put_at(nothing, key, found))
            label = LOADED
        else:
            busy = _to_commit(flusher, rules)
            label = LOADED_SAVED
        busy_ = _judged(state, rules, (fate,)).to(flushers=with_flusher(state, at, busy))
        out.append(((label, claim_id, held), busy_))


def _to_commit(flusher: Flusher, rules: Rules) -> Flusher:
    """EXEC would remove also what the note doesn't cover: then the ack has to do, which trims."""
    record = flusher.read[flusher.at]
    assert record
    whole = len(_covered(record, rules)) == len(record.entries)
    if not whole and "EXEC is for what was read whole" not in rules.drops:
        return next_one(flusher, rules, fate=0)
    return flusher._replace(doing=COMMITTING, found=())


def _save_one(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    saves, claim_id, key = saves_of(flusher), flusher.claim, flusher.at
    backend = saved_on(state.backend, saves, rules.drops)
    if _met(backend.held[key], flusher.watched) and "what was not applied is worked out again" not in rules.drops:
        again = with_flusher(state, at, flusher._replace(doing=LOADING_ONE, found=()))
        out.append(((SAVED_NOT, claim_id, saves, state.backend.held), state.to(backend=backend, flushers=again)))
    else:
        busy = with_flusher(state, at, _to_commit(flusher, rules))
        out.append(((SAVED_ON, claim_id, saves), state.to(backend=backend, flushers=busy)))
    if not state.left.failures:
        return
    left, none = state.left.without(FAILURES), ((),) * len(saves)
    for fate in failures(rules):
        busy = with_flusher(state, at, next_one(flusher, rules, fate=fate))
        out.append(((SAVE_ON_FAILS, claim_id, none, saves), state.to(flushers=busy, left=left)))
        out.append(((SAVE_ON_UNKNOWN, claim_id, none, saves), state.to(backend=backend, flushers=busy, left=left)))
        if rules.configuration.late_saves:
            late = with_late(state.late, SAVE_ON, saves)
            out.append(((SAVE_ON_LATE, claim_id, none, saves), state.to(flushers=busy, left=left, late=late)))


ENTRY_STEPS: Final = {
    LOADING: _load,
    SAVING_ON: _save,
    NOTING: _note,
    LOADING_ONE: _load_one,
    SAVING_ONE_ON: _save_one,
}
