"""Writers: numbered requests, applied at most once; asyncwb/writing/producer.py, and admission.py for write-through."""

from typing import Final

from asyncwb.writing.attempts import Next, after_reply
from tests.proofs.model import scripts
from tests.proofs.model.conditions import conditional_steps
from tests.proofs.model.contents import written, written_through
from tests.proofs.model.left import LOSSES
from tests.proofs.model.rules import CONDITIONAL, UPDATING, Out, Rules
from tests.proofs.model.saving import saved
from tests.proofs.model.states import (
    CERTAIN,
    DONE,
    PUT,
    REGISTER,
    Put,
    Request,
    Server,
    State,
    Writer,
    epoch_of,
    put_at,
    with_late,
)

PUT_DONE: Final = "W{0} puts {1!k}={2!v}"
PUT_NUMBERED: Final = "W{0} puts {1!k}={2!v} in its request {3}"
PUT_LOST: Final = "W{0} puts {1!k}={2!v} in its request {3}, and the reply is lost"
PUT_LATE: Final = "W{0} puts {1!k} in its request {2}, and the request is delayed"
PUT_ANSWERED: Final = "W{0} is told {2} in its request {1}"
PUT_REFUSED: Final = "W{0} is refused in its request {1}, and the reply is lost"
REFUSED: Final = "W{0} gives its request {1} up, which was refused: nothing of it was applied"
AGAIN_DONE: Final = "W{0} repeats its request {1} and is told {2!v}"
AGAIN_LOST: Final = "W{0} repeats its request {1}, and the reply is lost"
AGAIN_LATE: Final = "W{0} repeats its request {1}, and the request is delayed"
UNKNOWN: Final = "W{0} repeats its request {1} and is refused: OutcomeUnknown"
GIVEN_UP: Final = "W{0} gives its request {1} up: OutcomeUnknown"
REGISTERED: Final = "W{0} registers"
REGISTER_LATE: Final = "W{0} registers, and the request is delayed"
ALLOTTED: Final = "W{0} is allotted {2!v} to write {1!k} through"
SUPERSEDE_UNKNOWN: Final = "W{0} can't supersede what is older than {1!k}={2!v}, in another epoch: OutcomeUnknown"
THROUGH_UNKNOWN: Final = "W{0} can't save {1!k}={2!v} in the backend itself, which holds {3!v}: OutcomeUnknown"
THROUGH: Final = "W{0} saves {1!k}={2!v} in the backend itself"
SUPERSEDED: Final = "W{0} supersedes what is older than {1!k}={2!v}, and is done"


def applied(
    state: State, server: Server, sent: Put, version: int, letter: str, drops: scripts.Drops, *, elsewhere: bool = False
) -> State:
    """After put has applied a request: judges it, and remembers what is needed to judge the rest.

    Elsewhere, at a former primary, what came later may be missing: the order of what the others have says nothing.
    """
    writer, request, key = sent[:3]
    if not scripts.is_version(version):
        return state.to(server=server)
    bit = 1 << request
    broken = state.broken
    if state.applied[writer] & bit:
        broken = "I5"
    elif state.applied[writer] > bit and not elsewhere:
        broken = broken or "order"
    epoch, versions = epoch_of(version), scripts.numbers(version, letter, drops)
    top = state.tops[epoch]
    for given in versions:
        seq = given >> 1 & 127
        if seq <= top or version < state.floor[key]:
            broken = broken or "versions"
        top = max(seq, top)
    if letter in CONDITIONAL and not elsewhere:
        # What a lost history shows late, or a failover brings back, may be replaced as well.
        newest, shown = state.floor[key], (state.backend.held[key], state.server.keys[key].record)
        absent = not sent.expected and newest & 1
        if not absent and (sent.expected < newest or sent.expected not in (newest, *shown)):
            broken = broken or "conditional"
    if not elsewhere and any(at == key and version < stamped for at, stamped, _ in state.restamped):
        broken = broken or "versions"  # an earlier write was given a newer one
    if letter in UPDATING and not elsewhere and state.server.keys[key].unfit:
        broken = broken or "dead"
    failed = state.failed
    if failed and not elsewhere and (letter not in UPDATING or state.server.keys[key].dead):
        failed = put_at(failed, key, 0)
    return state.to(
        server=server,
        failed=failed,
        floor=put_at(state.floor, key, max(state.floor[key], version)),
        tops=put_at(state.tops, epoch, top),
        applied=put_at(state.applied, writer, state.applied[writer] | bit),
        broken=broken,
        owed=state.owed if elsewhere or not state.owed else written(state.owed, key, versions, letter),
    )


def barred(applied: tuple[int, ...], sent: Put) -> tuple[int, ...]:
    """After its caller has been told that nothing was applied: from now on nothing may be."""
    return put_at(applied, sent.writer, applied[sent.writer] | 1 << sent.request)


def letter_of(writer: int, request: int, rules: Rules) -> str:
    """What a request is, see `rules.LETTERS`."""
    return rules.configuration.writes[writer][request - 1]


def writer_steps(state: State, rules: Rules, out: Out) -> None:
    for at, writer in enumerate(state.writers):
        if writer.stage in (1, 2):
            _write_through(state, rules, out, at, writer)
            continue
        for place in range(min(_width(rules), len(rules.configuration.writes[at]) - writer.request)):
            request = writer.at(place)
            if request.key:
                _repeat(state, rules, out, at, place)
            elif not request.done:
                if place < len(writer.asked):
                    _refuse(state, out, at, place)
                if letter_of(at, writer.request + place + 1, rules) in CONDITIONAL:
                    conditional_steps(state, rules, out, at, _begin)
                    continue
                for key in range(rules.configuration.keys):
                    _begin(state, rules, out, at, place, key)


def _width(rules: Rules) -> int:
    """How many requests may be under way, the first without an outcome among them."""
    if not rules.configuration.pipelined:
        return 1
    return 3 if "a request begins when the one before the last has its outcome" in rules.drops else 2


def _numbered(
    state: State, rules: Rules, at: int, place: int, key: int, epoch: int, name: int, looked: tuple[int, ...] = ()
) -> Put:
    """A request as it is sent now: while the one before has no outcome, it may only come after it."""
    writer = state.writers[at]
    ahead = place and not writer.at(place - 1).done and "a request ahead says what it comes after" not in rules.drops
    return Put(at, writer.request + place + 1, key, epoch, writer.request + place if ahead else 0, name, *looked)


def _put(state: State, rules: Rules, sent: Put) -> tuple[int, State]:
    """The reply, and the state after the script."""
    letter, most = letter_of(sent.writer, sent.request, rules), rules.configuration.most
    reply, server = scripts.put(state.server, sent, letter, most, rules.drops)
    if server is not state.server:
        state = applied(state, server, sent, reply, letter, rules.drops)
    return reply, state


def _begin(state: State, rules: Rules, out: Out, at: int, place: int, key: int, looked: tuple[int, ...] = ()) -> None:
    """An attempt of a request that certainly isn't applied. A reply that nothing was applied leaves it so.

    `looked`: of a conditional write, what is expected, the token that it names, and the newest version behind it.
    """
    epoch = state.clients[at].known
    if state.server.closed(epoch) and "clients compare epochs with the backend" not in rules.drops:
        return
    writer = state.writers[at]
    # Only a mutant holds on to a name that isn't the present one, until it is told that nobody knows it.
    held = writer.at(place).name
    name = held if held and scripts.remembered(state.server, at, held) else writer.name
    sent = _numbered(state, rules, at, place, key, epoch, name, looked)
    number, request = at + 1, sent.request
    reply, after = _put(state, rules, sent)
    follows = after_reply(scripts.REFUSALS.get(reply), uncertain=False)
    if follows is Next.RENEW and reply == scripts.WRITER:
        _register(state, rules, out, at, place)
    asked = Request(key + 1, epoch, name, 0, *looked)
    uncertain = put_at(state.writers, at, writer.having(place, asked))
    done = put_at(state.writers, at, writer.having(place, DONE))
    if follows is Next.DONE and not scripts.is_version(reply):
        told_no = after.to(writers=done, applied=barred(after.applied, sent))
        out.append(((PUT_ANSWERED, number, request, scripts.ANSWERS[reply]), told_no))
    elif follows is Next.DONE:
        told = (
            (PUT_NUMBERED, number, key, reply, request)
            if rules.configuration.pipelined
            else (PUT_DONE, number, key, reply)
        )
        out.append((told, after.to(writers=done)))
    if state.left.losses:
        left = state.left.without(LOSSES)
        if scripts.is_version(reply):
            out.append(((PUT_LOST, number, key, reply, request), after.to(writers=uncertain, left=left)))
        else:
            out.append(((PUT_REFUSED, number, request), after.to(writers=uncertain, left=left)))
        late = with_late(state.late, PUT, *sent)
        out.append(((PUT_LATE, number, key, request), state.to(writers=uncertain, left=left, late=late)))
        if "an uncertain request is asked for again" in rules.drops:
            lost = state.to(writers=done, left=left, broken="I5")  # it was told OK, and nothing was applied
            out.append(((PUT_LATE, number, key, request), lost))
    letter = letter_of(at, request, rules)
    if rules.configuration.write_through and epoch and letter in "pd":
        deleted = int(letter == "d")
        version, server = scripts.allot(state.server, sent, deleted, rules.configuration.most, rules.drops)
        if version:
            seq = version >> 1 & 127
            allotted = state.to(
                server=server,
                writers=put_at(state.writers, at, Writer(writer.request, (asked,), name, version, 1)),
                tops=put_at(state.tops, epoch_of(version), seq),
                broken="versions" if seq <= state.tops[epoch_of(version)] else "",
            )
            out.append(((ALLOTTED, number, key, version), allotted))


def _register(state: State, rules: Rules, out: Out, at: int, place: int) -> None:
    """After a reply that the writer isn't known: what is certain goes on under a fresh name."""
    writer = state.writers[at]
    name, memory = fresh(writer, rules)
    renamed = writer._replace(name=name)
    if "what is certain goes under the present name" in rules.drops:
        for other in range(_width(rules)):
            if other != place and writer.at(other) == CERTAIN:
                renamed = renamed.having(other, Request(name=writer.name))
    server = scripts.register(state.server, at, name, memory, rules.drops)
    out.append(((REGISTERED, at + 1), state.to(server=server, writers=put_at(state.writers, at, renamed))))
    # One that is lost or late leaves a name that nobody goes by.
    if state.left.losses and not rules.configuration.pipelined:
        late = with_late(state.late, REGISTER, at, name, memory)
        out.append(((REGISTER_LATE, at + 1), state.to(late=late, left=state.left.without(LOSSES))))


def fresh(writer: Writer, rules: Rules) -> tuple[int, tuple[int, ...]]:
    """A writer's next name, and what the server will remember of it: nothing.

    With one request under way at a time, one name stands for all: those sent under the names before are over then, and
    a memory that has forgotten them has the effect that they stay unknown for good.
    """
    if rules.configuration.pipelined:
        return writer.name + 1, (0, 0, 0, 0)
    return writer.name, (writer.request, 0)


def _refuse(state: State, out: Out, at: int, place: int) -> None:
    """It isn't sent again: its caller hears that nothing was written."""
    writer = state.writers[at]
    done = put_at(state.writers, at, writer.having(place, DONE))
    out.append(((REFUSED, at + 1, writer.request + place + 1), state.to(writers=done)))


def _repeat(state: State, rules: Rules, out: Out, at: int, place: int) -> None:
    """Another attempt of a request whose outcome is uncertain, in the epoch and under the name of its first one."""
    writer, request = state.writers[at], state.writers[at].at(place)
    moves = "an uncertain request keeps its epoch" in rules.drops
    epoch = state.clients[at].known if moves else request.epoch
    sent = _numbered(state, rules, at, place, request.key - 1, epoch, request.name, request[4:])
    told = (at + 1, sent.request)
    over = writer.having(place, DONE)
    if "an unknown outcome leaves the writer its name" in rules.drops:
        over = over._replace(name=writer.name + 1)
    done = put_at(state.writers, at, over)
    out.append(((GIVEN_UP, *told), state.to(writers=done)))
    if state.server.closed(epoch) and "clients compare epochs with the backend" not in rules.drops:
        return
    reply, after = _put(state, rules, sent)
    follows = after_reply(scripts.REFUSALS.get(reply), uncertain=True)
    if follows is Next.DONE:
        if scripts.is_version(reply):
            broken = after.broken if after.applied[at] >> sent.request & 1 else "I5"
            out.append(((AGAIN_DONE, *told, reply), after.to(writers=done, broken=broken)))
        else:
            # Nothing of it was applied, and nothing may be.
            broken = "I5" if after.applied[at] >> sent.request & 1 else after.broken
            told_no = after.to(writers=done, broken=broken, applied=barred(after.applied, sent))
            out.append(((PUT_ANSWERED, *told, scripts.ANSWERS[reply]), told_no))
    elif reply == scripts.WRITER and "an uncertain request keeps its name" in rules.drops:
        anew = put_at(state.writers, at, writer.having(place, CERTAIN))
        _register(state.to(writers=anew), rules, out, at, place)
    elif follows is Next.UNKNOWN and not moves:
        out.append(((UNKNOWN, *told), after.to(writers=done)))
    if state.left.losses:
        left = state.left.without(LOSSES)
        if after is not state:
            out.append(((AGAIN_LOST, *told), after.to(left=left)))
        late = with_late(state.late, PUT, *sent)
        out.append(((AGAIN_LATE, *told), state.to(left=left, late=late)))


def _write_through(state: State, rules: Rules, out: Out, at: int, writer: Writer) -> None:
    """Stage 1: the version is allotted; stage 2: the backend holds it, or something newer."""
    key, version = writer.at(0).key - 1, writer.allotted
    told = (at + 1, key, version)
    if writer.stage == 1:
        held = state.backend.held[key]
        if (
            epoch_of(held) > epoch_of(version)
            and "a stale write-through is unknown in a later epoch" not in rules.drops
        ):
            # There it may have been lost before what is held was built: with updates, that isn't newer in all it has.
            done = put_at(state.writers, at, writer.having(0, DONE))
            out.append(((THROUGH_UNKNOWN, *told, held), state.to(writers=done)))
            return
        backend = saved(state.backend, put_at(rules.zeros, key, version), rules.drops)
        writers = put_at(state.writers, at, writer._replace(stage=2))
        floor = state.floor
        if "write-through supersedes before it answers" in rules.drops:
            floor = put_at(floor, key, max(floor[key], version))
        out.append(((THROUGH, *told), state.to(backend=backend, writers=writers, floor=floor)))
        return
    server = state.server
    present = server.meta == server.identity and server.epoch == epoch_of(version)
    if not present and "supersede compares identity and epoch" not in rules.drops:
        done = put_at(state.writers, at, writer.having(0, DONE))
        out.append(((SUPERSEDE_UNKNOWN, *told), state.to(writers=done)))
        return
    server = scripts.supersede(server, key, version, rules.drops)
    if state.owed:
        state = state.to(owed=written_through(state.owed, key, version))
    after = state.to(
        server=server,
        writers=put_at(state.writers, at, writer.having(0, DONE)),
        # It is acknowledged now, and the backend has it whatever becomes of Redis.
        floor=put_at(state.floor, key, max(state.floor[key], version)),
        applied=put_at(state.applied, at, state.applied[at] | 2 << writer.request),
    )
    out.append(((SUPERSEDED, *told), after))
