"""Flushers: claim, save, and one of the two commits; asyncwb/flushing/ and asyncwb/protocol/transaction.py.

A flusher that is frozen is one that makes no step while all others do, for as long as you like. It is called by the
number of its claim; idle ones are all alike. Extending a lease isn't modelled: it gives what a claim still holds
another deadline that nothing has had, in the leases and in what is remembered of the claim; nothing else goes by it.
"""

from typing import Any, Final

from tests.proofs.model import scripts
from tests.proofs.model.left import CLAIMS, FAILURES, KILLS, LOSSES
from tests.proofs.model.records import has_version, is_unfit
from tests.proofs.model.rules import Out, Rules
from tests.proofs.model.saving import connected, failures, next_one, saved, saves_of, splits
from tests.proofs.model.stale import STALE_STEPS, looks
from tests.proofs.model.states import (
    ACK,
    ACKING,
    CLAIM,
    COMMITTING,
    COUNTED,
    EXEC,
    FETCHING,
    IDLE,
    NOTING,
    RELEASE,
    RELEASING,
    RETRY,
    SAVE,
    SAVE_ON,
    SAVING,
    SAVING_ON,
    SAVING_ONE,
    SAVING_ONE_ON,
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
from tests.proofs.model.updating import ENTRY_STEPS, read, watch_entries

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
ACKED: Final = "F{0} acks {1!m}"
ACK_LOST: Final = "F{0} acks {1!m}, and the reply is lost"
ACK_LATE: Final = "F{0} acks {1!m}, and the request is delayed"
ACK_AT_OLD: Final = "F{0} acks {1!m} at the former primary"
READ: Final = "F{0} reads {1!m}"
READ_FAILS: Final = "F{0} has lost the connection of its claim"
WATCHED: Final = "F{0} watches {1!k} and reads {2!v}"
WATCH_FAILS: Final = "F{0} can't read {1!k}"
EXECUTED: Final = "F{0} commits {1!k}={2!v} by EXEC"
EXEC_REFUSED: Final = "F{0} gets a WatchError for {1!k}={2!v}"
EXEC_CUT: Final = "F{0} can't commit {1!k}={2!v}: the server with its WATCH is gone"
EXEC_LOST: Final = "F{0} commits {1!k}={2!v} by EXEC, and the reply is lost"
EXEC_LATE: Final = "F{0} sends EXEC for {1!k}={2!v}, and the request is delayed"
KILLED: Final = "F{0} is killed"
KILLED_SAVING_ON: Final = "F{0} is killed, and its save of {1!s} goes on"
KILLED_SAVING: Final = "F{0} is killed, and its save of {1!m} goes on"

_NOBODY: Final = Flusher()


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
            idle = with_flusher(state, at, _NOBODY)
            out.append(((KILLED, flusher.claim), state.to(flushers=idle, left=left)))
            if flusher.doing == SAVING and rules.configuration.late_saves:
                late = with_late(state.late, SAVE, flusher.versions)
                label: Label = (KILLED_SAVING, flusher.claim, flusher.versions)
                out.append((label, state.to(flushers=idle, left=left, late=late)))
            elif flusher.doing in (SAVING_ON, SAVING_ONE_ON) and rules.configuration.late_saves:
                saves = saves_of(flusher)
                late = with_late(state.late, SAVE_ON, saves)
                label = (KILLED_SAVING_ON, flusher.claim, saves)
                out.append((label, state.to(flushers=idle, left=left, late=late)))


def _claim(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    left = state.left
    if not left.claims:
        return
    claim_id = rules.configuration.left.claims - left.claims + 1
    due = sum(1 << bit for bit, key in enumerate(state.server.keys) if key.dirty)
    fewer = left.without(CLAIMS)
    for wanted in range(1, due + 1):
        if wanted & ~due:
            continue
        taken, server = scripts.claim(state.server, claim_id, wanted, rules.drops)
        told = (claim_id, scripts.read(server, taken))
        busy = with_flusher(state, at, _begun(rules, server, claim_id, taken))
        out.append(((CLAIMED, *told), state.to(server=server, flushers=busy, left=fewer)))
        if left.losses:
            lost = fewer.without(LOSSES)
            if "every attempt of a claim has a fresh id" in rules.drops:
                lost = left.without(LOSSES)
                out.append(((CLAIM_LOST, *told), state.to(server=server, left=lost)))
                continue
            releasing = with_flusher(state, at, Flusher(RELEASING, claim_id))
            out.append(((CLAIM_LOST, *told), state.to(server=server, flushers=releasing, left=lost)))
    if state.old:
        taken, old = scripts.claim(state.old, claim_id, -1, rules.drops)
        if any(taken):
            busy = with_flusher(state, at, _begun(rules, old, claim_id, taken))
            told = (claim_id, scripts.read(old, taken))
            out.append(((CLAIMED_AT_OLD, *told), state.to(old=old, flushers=busy, left=fewer)))
    if left.losses:
        fresh = "every attempt of a claim has a fresh id" not in rules.drops
        lost = (fewer if fresh else left).without(LOSSES)
        out.append(((CLAIM_LATE, claim_id), state.to(late=with_late(state.late, CLAIM, claim_id), left=lost)))


def _begun(rules: Rules, server: Server, claim_id: int, taken: tuple[int, ...]) -> Flusher:
    """A flusher that has claimed some keys. It reads them next, on the same connection."""
    deadline = server.claims[claim_id - 1] if "an ack names its claim" in rules.drops else 0
    if rules.configuration.watch:
        return Flusher(WATCHING, claim_id, taken, rules.zeros, rules.zeros, deadline=deadline)
    return Flusher(FETCHING, claim_id, taken, rules.zeros, rules.zeros, connection=server.identity, deadline=deadline)


def _fetch(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    """Reads the records of its claim, or gives the claim back if the connection that made it is gone."""
    servers: list[Server | tuple[()]] = [connected(state, flusher.connection)[0]]
    if "records are read on the connection of their claim" in rules.drops:
        servers = [state.server, state.old]
    for server in servers:
        if server and rules.configuration.updates:
            out.append(read(state, rules, server, at, flusher))
        elif server:
            versions = scripts.read(server, flusher.keys)
            busy = flusher._replace(doing=SAVING, versions=versions, connection=0)
            out.append(((READ, flusher.claim, versions), state.to(flushers=with_flusher(state, at, busy))))
    if state.left.losses or not any(servers):
        releasing = with_flusher(state, at, Flusher(RELEASING, flusher.claim))
        left = state.left.without(LOSSES) if state.left.losses else state.left
        out.append(((READ_FAILS, flusher.claim), state.to(flushers=releasing, left=left)))


def _release(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    zeros, idle = rules.zeros, with_flusher(state, at, _NOBODY)
    server = scripts.ack(state.server, flusher.claim, zeros, zeros, True, rules.drops)
    out.append(((RELEASED, flusher.claim), state.to(server=server, flushers=idle)))
    if state.left.losses:
        late = with_late(state.late, RELEASE, flusher.claim)
        left = state.left.without(LOSSES)
        out.append(((RELEASE_LATE, flusher.claim), state.to(flushers=idle, late=late, left=left)))


def _save(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    versions, claim_id, drops = flusher.versions, flusher.claim, rules.drops
    acking = flusher._replace(doing=ACKING)
    busy = with_flusher(state, at, acking)
    if "a save returns when it is durable" in drops:
        late = with_late(state.late, SAVE, versions)
        out.append(((SAVED, claim_id, rules.zeros, state.backend.held), state.to(flushers=busy, late=late)))
        return
    backend = saved(state.backend, versions, drops)
    after = looks(state, rules, acking)
    out.append(
        (
            (SAVED, claim_id, versions, state.backend.held),
            state.to(backend=backend, flushers=busy if after is acking else with_flusher(state, at, after)),
        )
    )
    if not state.left.failures:
        return
    left = state.left.without(FAILURES)
    for failed, rest in splits(versions):
        for fate in failures(rules):
            fates = tuple(fate if each else 0 for each in failed)
            busy = with_flusher(state, at, looks(state, rules, acking._replace(fates=fates)))
            some = saved(state.backend, rest, drops)
            out.append(((SAVE_FAILS, claim_id, rest, failed), state.to(backend=some, flushers=busy, left=left)))
            out.append(((SAVE_UNKNOWN, claim_id, rest, failed), state.to(backend=backend, flushers=busy, left=left)))
            if rules.configuration.late_saves:
                late = with_late(state.late, SAVE, failed)
                label = (SAVE_LATE, claim_id, rest, failed)
                out.append((label, state.to(backend=some, flushers=busy, left=left, late=late)))


def _ack(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    claim_id, left, idle = flusher.claim, state.left, with_flusher(state, at, _NOBODY)
    versions, fates, deadline = flusher.versions, flusher.fates, flusher.deadline
    done = tuple(0 if fate else version for version, fate in zip(versions, fates, strict=True))
    attempts = rules.configuration.attempts
    server = scripts.ack(state.server, claim_id, versions, fates, False, rules.drops, deadline, attempts)
    after = counted(state, server, claim_id, versions, fates, rules)
    out.append(((ACKED, claim_id, done), after.to(flushers=idle)))
    if state.old:
        old = scripts.ack(state.old, claim_id, versions, fates, False, rules.drops, deadline, attempts)
        out.append(((ACK_AT_OLD, claim_id, done), state.to(old=old, flushers=idle)))
    if left.losses:
        fewer = left.without(LOSSES)
        if server != state.server:
            out.append(((ACK_LOST, claim_id, done), after.to(left=fewer)))
        late = with_late(state.late, ACK, claim_id, versions, fates, deadline)
        out.append(((ACK_LATE, claim_id, done), state.to(late=late, left=fewer)))


def counted(
    state: State, server: Server, claim_id: int, versions: tuple[int, ...], fates: tuple[int, ...], rules: Rules
) -> State:
    """After an ack: where attempts are counted, whether what has failed too often is dead, whatever came meanwhile."""
    broken = state.broken
    if rules.configuration.updates and state.left.returns == rules.configuration.left.returns:
        for before, key, held in zip(state.server.keys, server.keys, state.backend.held, strict=True):
            if is_planted(held):
                continue
            if key.unfit and not before.unfit and key.pending and not is_unfit((0, *sum(key.pending.entries, ()))):
                # Only a former primary that comes back may have an entry that the backend has half of.
                broken = broken or "I7"
    if not rules.configuration.attempts:
        return state.to(server=server, broken=broken)
    failed = list(state.failed)
    for at, (version, fate, key) in enumerate(zip(versions, fates, state.server.keys, strict=True)):
        if not scripts.holds(state.server, claim_id, at) or not version:
            continue
        if not fate:
            failed[at] = 0
        elif fate == COUNTED and (key.record == version or (key.pending and has_version(key.pending, version))):
            failed[at] += 1
            if failed[at] >= rules.configuration.attempts and not server.keys[at].dead:
                broken = broken or "dead"
    return state.to(server=server, failed=tuple(failed), broken=broken)


# The transaction: one record after the other, WATCH, read, save, EXEC. The ack gives back whatever EXEC hasn't removed.


def _watch(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    key = flusher.at
    if not flusher.keys[key]:
        # Isn't in the claim: no step of its own.
        out.append(
            ((WATCHED, flusher.claim, key, 0), state.to(flushers=with_flusher(state, at, next_one(flusher, rules))))
        )
        return
    if flusher.connection:
        watch_entries(state, rules, out, at, flusher)  # it has noted what there is
        return
    for server in (state.server, state.old):
        if server and server.keys[key].pending:
            noting = flusher._replace(doing=NOTING, keys=put_at(flusher.keys, key, WITH_ENTRIES))
            label: Label = (WATCHED, flusher.claim, key, server.keys[key].record)
            out.append((label, state.to(flushers=with_flusher(state, at, noting))))
        elif server:
            record = server.keys[key].record
            busy = (
                flusher._replace(doing=SAVING_ONE, watched=record, connection=server.identity)
                if record
                else next_one(flusher, rules)
            )
            out.append(((WATCHED, flusher.claim, key, record), state.to(flushers=with_flusher(state, at, busy))))
    if state.left.losses:
        busy_ = with_flusher(state, at, next_one(flusher, rules))
        out.append(((WATCH_FAILS, flusher.claim, key), state.to(flushers=busy_, left=state.left.without(LOSSES))))


def _save_one(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    version, key, claim_id = flusher.watched, flusher.at, flusher.claim
    one = put_at(rules.zeros, key, version)
    backend = saved(state.backend, one, rules.drops)
    busy = with_flusher(state, at, flusher._replace(doing=COMMITTING))
    out.append(((SAVED, claim_id, one, state.backend.held), state.to(backend=backend, flushers=busy)))
    if not state.left.failures:
        return
    left = state.left.without(FAILURES)
    for fate in failures(rules):
        busy = with_flusher(state, at, next_one(flusher, rules, fate=fate))
        out.append(((SAVE_FAILS, claim_id, rules.zeros, one), state.to(flushers=busy, left=left)))
        out.append(((SAVE_UNKNOWN, claim_id, one, one), state.to(backend=backend, flushers=busy, left=left)))
        if rules.configuration.late_saves:
            late = with_late(state.late, SAVE, one)
            out.append(((SAVE_LATE, claim_id, rules.zeros, one), state.to(flushers=busy, left=left, late=late)))


def _commit(state: State, rules: Rules, out: Out, at: int, flusher: Flusher) -> None:
    version, key, claim_id, drops = flusher.watched, flusher.at, flusher.claim, rules.drops
    # A record with entries is read where its claim holds it, so that the ack may look after it: it trims.
    fate = 0 if flusher.keys[key] == WITH_ENTRIES else RETRY
    done = with_flusher(state, at, next_one(flusher, rules, fate=fate))
    told = (claim_id, key, version)
    server, where = connected(state, flusher.connection)
    if not server:
        out.append(((EXEC_CUT, *told), state.to(flushers=done)))
        return
    pending = flusher.read[key] if flusher.read else ()
    seen = pending.entries[-1][-1] if pending else version
    applied, after = scripts.commit(server, key, seen, pending, drops)
    changed: dict[str, Any] = {where: after}
    if applied and state.failed and where == "server":
        changed["failed"] = put_at(state.failed, key, 0)
    if not applied:
        again = flusher._replace(doing=WATCHING, watched=0) if "the article's loop" in drops else None
        refused = with_flusher(state, at, again) if again else done
        out.append(((EXEC_REFUSED, *told), state.to(flushers=refused)))
    else:
        out.append(((EXECUTED, *told), state.to(flushers=done, **changed)))
    if state.left.losses:
        left = state.left.without(LOSSES)
        if applied:
            out.append(((EXEC_LOST, *told), state.to(flushers=done, left=left, **changed)))
        late = with_late(state.late, EXEC, key, seen, pending, flusher.connection)
        out.append(((EXEC_LATE, *told), state.to(flushers=done, left=left, late=late)))


_STEPS: Final = {
    IDLE: _claim,
    RELEASING: _release,
    SAVING: _save,
    ACKING: _ack,
    FETCHING: _fetch,
    WATCHING: _watch,
    SAVING_ONE: _save_one,
    COMMITTING: _commit,
    **ENTRY_STEPS,
    **STALE_STEPS,
}
