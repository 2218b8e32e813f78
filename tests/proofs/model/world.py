"""What nobody decides: leases expire, requests arrive late, primaries fail and come back."""

from collections.abc import Callable
from typing import Any, Final

from tests.proofs.model import scripts
from tests.proofs.model.contents import switched, without
from tests.proofs.model.flushers import counted
from tests.proofs.model.left import FAILOVERS, FORGETS, PLANTS, RESTARTS, RETURNS
from tests.proofs.model.records import Pending, is_inside, is_unfit
from tests.proofs.model.rules import Out, Rules
from tests.proofs.model.saving import Save, saved, saved_on
from tests.proofs.model.stale import restamped
from tests.proofs.model.states import (
    ACK,
    CLAIM,
    DISOWN,
    EXEC,
    FOREIGN_SEQ,
    INSTALL_EPOCH,
    PUT,
    REGISTER,
    RELEASE,
    RESTAMP,
    SAVE,
    SAVE_ON,
    Backend,
    Key,
    Put,
    Server,
    State,
    epoch_of,
    put_at,
    version_of,
)
from tests.proofs.model.writers import applied, letter_of

EXPIRED: Final = "the lease of {0!k} expires, and it is recovered"
RETRIED: Final = "{0!k} is retried"
LEFT_OUT: Final = "{0!k} is retried without {1!c}, which can't be applied"
DROPPED: Final = "the dead letter {0!k}={1!v} is dropped"
LAGGING: Final = "from here on the replica gets nothing more"
FAILOVER: Final = "failover: the replica is promoted as server {0}"
RESTART: Final = "Redis starts without data, as server {0}"
RETURN: Final = "the former primary, server {0}, takes the place of the new one"
FORGOTTEN: Final = "Redis has forgotten W{0}"
LATE_PUT: Final = "W{0}'s request {1} arrives late, a put of {2!k}: it is told {3!v}"
LATE_PUT_AT_OLD: Final = "W{0}'s request {1} arrives late at the former primary, a put of {2!k}: it is told {3!v}"
LATE_CLAIM: Final = "F{0}'s claim arrives late, and takes {1!m}"
LATE_RELEASE: Final = "F{0}'s release arrives late"
LATE_ACK: Final = "F{0}'s ack arrives late"
LATE_ACK_AT_OLD: Final = "F{0}'s ack arrives late at the former primary"
LATE_EXEC: Final = "the EXEC for {0!k}={1!v} arrives late"
LATE_SAVE: Final = "the save of {0!m} is applied late (the backend held {1!m})"
LATE_SAVE_ON: Final = "the save of {0!s} is applied late (the backend held {1!m})"
LATE_REGISTER: Final = "the registration of W{0} arrives late"
PLANTED: Final = "somebody copies {0!k}={1!v} into the backend"
LATE_DISOWN: Final = "the note arrives late that epochs {0} to {1} are nobody's"
LATE_DISOWN_AT_OLD: Final = "the note arrives late at the former primary that epochs {0} to {1} are nobody's"
LATE_RESTAMP: Final = "a restamp arrives late, and gives {0!m}"
LATE_RESTAMP_AT_OLD: Final = "a restamp arrives late at the former primary, and gives {0!m}"
LATE_INSTALL: Final = "the installation of epoch {0} arrives late"


def lease_steps(state: State, rules: Rules, out: Out) -> None:
    """Leases that expire, and dead letters that are retried."""
    if "leases have a deadline" not in rules.drops:
        for at, key in enumerate(state.server.keys):
            if key.lease:
                out.append(((EXPIRED, at), state.to(server=scripts.recover(state.server, at, rules.drops))))
    if rules.configuration.dead:
        for at, key in enumerate(state.server.keys):
            if key.dead:
                out.append(((RETRIED, at), _revived(state, at, scripts.retry_dead(state.server, at, rules.drops))))
                if rules.configuration.drops:
                    out.append(((DROPPED, at, key.dead), _dropped(state, rules, at)))
                    for entry in key.pending.entries if key.unfit and key.pending else ():
                        if is_unfit((0, *entry)) or is_inside(entry, state.backend.held[at]):
                            out.append(((LEFT_OUT, at, entry), _left_out(state, at, entry)))


def _revived(state: State, at: int, server: Server) -> State:
    failed = put_at(state.failed, at, 0) if state.failed else ()
    return state.to(server=server, failed=failed)


def _left_out(state: State, at: int, entry: tuple[int, ...]) -> State:
    """An operator gives up one entry: of what is folded into it all."""
    server = scripts.retry_without(state.server, at, entry)
    floor = min(state.floor[at], max(server.keys[at].record, state.backend.held[at]))
    return without(_revived(state, at, server), at, set(entry)).to(floor=put_at(state.floor, at, floor))


def _dropped(state: State, rules: Rules, at: int) -> State:
    """What an operator gives up is lost, but for what the backend holds of it after all."""
    if state.owed:
        given_up = {version for version in state.owed[at] if version not in state.backend.contents[at]}
        state = without(state, at, given_up)
        state = state.to(owed=put_at(state.owed, at, state.backend.contents[at]))
    held, record = (state.stands(at, each) for each in (state.backend.held[at], state.server.keys[at].record))
    lost = put_at(state.lost, at, max(state.lost[at], record if held < record else 0))
    readers = tuple(each._replace(floor=min(each.floor, held)) if each.key == at else each for each in state.readers)
    floor = put_at(state.floor, at, min(state.floor[at], held))
    return state.to(server=scripts.drop(state.server, at, rules.drops), floor=floor, lost=lost, readers=readers)


def failure_steps(state: State, rules: Rules, out: Out) -> None:
    """What happens to servers."""
    left, server = state.left, state.server
    identity = 1 + sum(rules.configuration.left[FAILOVERS : RESTARTS + 1]) - left.failovers - left.restarts + 1
    if left.failovers:
        if not state.replica:
            out.append(((LAGGING,), state.to(replica=server)))
        else:
            promoted = state.replica._replace(identity=identity, returned=0)
            old = server if rules.configuration.left.returns else ()
            out.append(((FAILOVER, identity), _switched(state, promoted, old=old, left=left.without(FAILOVERS))))
    if left.restarts:
        nothing = (0,) * len(server.claims), ((),) * len(server.memory)
        empty = Server(identity, 0, 0, 0, 0, (Key(),) * len(server.keys), *nothing, foreign=())
        out.append(((RESTART, identity), _switched(state, empty, old=(), left=left.without(RESTARTS))))
    if left.returns and state.old:
        behind = int(state.old.epoch < state.backend.epoch)
        back = state.old._replace(returned=behind)
        out.append(((RETURN, back.identity), _switched(state, back, old=(), left=left.without(RETURNS))))
    if left.forgets:
        for at, names in enumerate(server.memory):
            # After hours of silence: a writer may be frozen for so long, but nothing is on its way for so long. Or
            # because its process has closed, whatever puts are still on their way. (A late registration is of a name
            # that nothing was sent under; but where one name stands for all, see `writers.fresh`, it would bring back
            # that.)
            closed_in_order = state.writers[at].request == len(rules.configuration.writes[at])
            on_their_way = {(REGISTER, at)} if closed_in_order else {(PUT, at), (REGISTER, at)}
            if any(message[:2] in on_their_way for message in state.late):
                continue
            for name, memory in enumerate(names, 1):
                if memory:
                    forgetful = scripts.forget(server, at, name)
                    out.append(((FORGOTTEN, at + 1), state.to(server=forgetful, left=left.without(FORGETS))))


def plant_steps(state: State, rules: Rules, out: Out) -> None:
    """Somebody restores or copies a row, whose version nobody here has made, over a key with an unsaved record.

    Only where the backend holds nothing. Over a write that is saved it would destroy that, from outside, and no
    protocol helps: that isn't explored, not even where Redis has a newer one, which a failover might lose.
    """
    if not state.left.plants:
        return
    left, (epoch, held, highest, contents) = state.left.without(PLANTS), state.backend
    version = version_of(max(epoch, epoch_of(max(held))) + rules.gap, FOREIGN_SEQ, 0)
    for at, key in enumerate(state.server.keys):
        if key.record and not held[at]:
            backend = Backend(epoch, put_at(held, at, version), highest, contents)
            out.append(((PLANTED, at, version), state.to(backend=backend, left=left)))


def _switched(state: State, server: Server, *, old: Server | tuple[()], left: Any) -> State:
    """Clients reach another server from here on. What it hasn't got is lost, but for what the backend holds."""
    kept = tuple(
        min(floor, max(state.stands(at, key.record), state.stands(at, held)))
        for at, (floor, key, held) in enumerate(zip(state.floor, server.keys, state.backend.held, strict=True))
    )
    lost = tuple(
        max(before, floor) if now < floor else before
        for before, floor, now in zip(state.lost, state.floor, kept, strict=True)
    )
    readers = tuple(reader._replace(floor=min(reader.floor, kept[reader.key])) for reader in state.readers)
    after = state.to(server=server, old=old, replica=(), left=left, floor=kept, lost=lost, readers=readers)
    if state.failed:
        after = after.to(failed=tuple(key.tried for key in server.keys))
    return switched(after) if state.owed else after


def late_steps(state: State, rules: Rules, out: Out) -> None:
    """Any request that its sender has given up arrives now."""
    for at, message in enumerate(state.late):
        if not at or message != state.late[at - 1]:
            late = (*state.late[:at], *state.late[at + 1 :])
            _ARRIVALS[message[0]](state.to(late=late), rules, out, *message[1:])


def _put(state: State, rules: Rules, out: Out, *message: int) -> None:
    sent = Put(*message)
    most, letter = rules.configuration.most, letter_of(sent.writer, sent.request, rules)
    told = (sent.writer + 1, *sent[1:3])
    if not state.server.closed(sent.epoch) or "clients compare epochs with the backend" in rules.drops:
        reply, server = scripts.put(state.server, sent, letter, most, rules.drops)
        after = state if server is state.server else applied(state, server, sent, reply, letter, rules.drops)
        out.append(((LATE_PUT, *told, reply if scripts.is_version(reply) else 0), after))
    if state.old:
        reply, old = scripts.put(state.old, sent, letter, most, rules.drops)
        if old is not state.old and scripts.is_version(reply):
            after = applied(state.to(floor=rules.zeros), state.server, sent, reply, letter, rules.drops, elsewhere=True)
            # The new primary's clients never hear of it.
            lost = put_at(state.lost, sent.key, max(state.lost[sent.key], reply))
            after = after.to(old=old, floor=state.floor, lost=lost)
            if state.gone:
                gone = {*state.gone[sent.key], *scripts.numbers(reply, letter)}
                after = after.to(gone=put_at(state.gone, sent.key, tuple(sorted(gone))))
            out.append(((LATE_PUT_AT_OLD, *told, reply), after))


def _claim(state: State, rules: Rules, out: Out, claim_id: int) -> None:
    taken, server = scripts.claim(state.server, claim_id, -1, rules.drops)
    out.append(((LATE_CLAIM, claim_id, scripts.read(state.server, taken)), state.to(server=server)))


def _release(state: State, rules: Rules, out: Out, claim_id: int) -> None:
    server = scripts.ack(state.server, claim_id, rules.zeros, rules.zeros, True, rules.drops)
    out.append(((LATE_RELEASE, claim_id), state.to(server=server)))


def _ack(
    state: State,
    rules: Rules,
    out: Out,
    claim_id: int,
    versions: tuple[int, ...],
    fates: tuple[int, ...],
    deadline: int,
) -> None:
    attempts = rules.configuration.attempts
    server = scripts.ack(state.server, claim_id, versions, fates, False, rules.drops, deadline, attempts)
    out.append(((LATE_ACK, claim_id), counted(state, server, claim_id, versions, fates, rules)))
    if state.old:
        old = scripts.ack(state.old, claim_id, versions, fates, False, rules.drops, deadline, attempts)
        out.append(((LATE_ACK_AT_OLD, claim_id), state.to(old=old)))


def _exec(
    state: State, rules: Rules, out: Out, key: int, version: int, pending: Pending | tuple[()], connection: int
) -> None:
    if state.server.identity == connection:
        applied, server = scripts.commit(state.server, key, version, pending, rules.drops)
        failed = put_at(state.failed, key, 0) if applied and state.failed else state.failed
        out.append(((LATE_EXEC, key, version), state.to(server=server, failed=failed)))
    elif state.old and state.old.identity == connection:
        _, old = scripts.commit(state.old, key, version, pending, rules.drops)
        out.append(((LATE_EXEC, key, version), state.to(old=old)))


def _save(state: State, rules: Rules, out: Out, versions: tuple[int, ...]) -> None:
    backend = saved(state.backend, versions, rules.drops)
    out.append(((LATE_SAVE, versions, state.backend.held), state.to(backend=backend)))


def _save_on(state: State, rules: Rules, out: Out, saves: tuple[Save, ...]) -> None:
    backend = saved_on(state.backend, saves, rules.drops)
    out.append(((LATE_SAVE_ON, saves, state.backend.held), state.to(backend=backend)))


def _register(state: State, rules: Rules, out: Out, writer: int, name: int, memory: tuple[int, ...]) -> None:
    server = scripts.register(state.server, writer, name, memory, rules.drops)
    out.append(((LATE_REGISTER, writer + 1), state.to(server=server)))


def _install(state: State, rules: Rules, out: Out, identity: int, meta: int, seen: int, epoch: int) -> None:
    _, server = scripts.install(state.server, identity, meta, seen, epoch, rules.drops)
    out.append(((LATE_INSTALL, epoch), state.to(server=server)))


def _disown(state: State, rules: Rules, out: Out, first: int, last: int) -> None:
    out.append(((LATE_DISOWN, first, last), state.to(server=scripts.disown(state.server, first, last))))
    if state.old:
        out.append(((LATE_DISOWN_AT_OLD, first, last), state.to(old=scripts.disown(state.old, first, last))))


def _restamp(state: State, rules: Rules, out: Out, versions: tuple[int, ...], spare: int, present: int) -> None:
    given, after = restamped(state, rules, versions, spare, present)
    out.append(((LATE_RESTAMP, given), after))
    if state.old:
        given, after = restamped(state, rules, versions, spare, present, elsewhere=True)
        out.append(((LATE_RESTAMP_AT_OLD, given), after))


_ARRIVALS: Final[dict[int, Callable[..., None]]] = {
    PUT: _put,
    CLAIM: _claim,
    RELEASE: _release,
    ACK: _ack,
    EXEC: _exec,
    SAVE: _save,
    REGISTER: _register,
    INSTALL_EPOCH: _install,
    DISOWN: _disown,
    RESTAMP: _restamp,
    SAVE_ON: _save_on,
}
