"""Writers: numbered requests, applied at most once; asyncwb/redis/writer.py, and admission.py for write-through."""

from typing import Final

from model import scripts
from model.flushers import saved
from model.rules import Out, Rules
from model.states import LOSSES, PUT, REGISTER, Server, State, Writer, epoch_of, put_at, with_late

PUT_DONE: Final = "W{0} puts {1!k}={2!v}"
PUT_LOST: Final = "W{0} puts {1!k}={2!v} in its request {3}, and the reply is lost"
PUT_LATE: Final = "W{0} puts {1!k} in its request {2}, and the request is delayed"
PUT_REFUSED: Final = "W{0} is refused in its request {1}, and the reply is lost"
AGAIN_DONE: Final = "W{0} repeats its request {1} and is told {2!v}"
AGAIN_LOST: Final = "W{0} repeats its request {1}, and the reply is lost"
AGAIN_LATE: Final = "W{0} repeats its request {1}, and the request is delayed"
UNKNOWN: Final = "W{0} repeats its request {1} and is refused: OutcomeUnknown"
GIVEN_UP: Final = "W{0} gives its request {1} up: OutcomeUnknown"
REGISTERED: Final = "W{0} registers"
REGISTER_LATE: Final = "W{0} registers, and the request is delayed"
ALLOTTED: Final = "W{0} is allotted {2!v} to write {1!k} through"
THROUGH: Final = "W{0} saves {1!k}={2!v} in the backend itself"
SUPERSEDED: Final = "W{0} supersedes what is older than {1!k}={2!v}, and is done"


def applied(state: State, server: Server, writer: int, request: int, key: int, version: int) -> State:
    """After put has applied a request: judges it, and remembers what is needed to judge the rest."""
    bit = 1 << request
    broken = state.broken
    if state.applied[writer] & bit:
        broken = "I5"
    epoch, seq = epoch_of(version), version >> 1 & 127
    if seq <= state.tops[epoch] or version < state.floor[key]:
        broken = broken or "versions"
    return state.to(
        server=server,
        floor=put_at(state.floor, key, max(state.floor[key], version)),
        tops=put_at(state.tops, epoch, max(seq, state.tops[epoch])),
        applied=put_at(state.applied, writer, state.applied[writer] | bit),
        broken=broken,
    )


def deleting(request: int, rules: Rules) -> int:
    """Whether a request is a delete."""
    return int(rules.configuration.deletes and request % 2 == 0)


def closed(server: Server, epoch: int) -> bool:
    """Whether nothing may be put or read now: a former primary in this epoch, before anybody has compared epochs."""
    return bool(server.returned) and server.epoch == epoch


def writer_steps(state: State, rules: Rules, out: Out) -> None:
    for at, writer in enumerate(state.writers):
        if writer.stage:
            _write_through(state, rules, out, at, writer)
        elif writer.key:
            _repeat(state, rules, out, at, writer)
        elif writer.request < rules.configuration.writes[at]:
            for key in range(rules.configuration.keys):
                _begin(state, rules, out, at, Writer(writer.request + 1, key + 1))


def _put(state: State, rules: Rules, at: int, writer: Writer, epoch: int) -> tuple[int, State]:
    """The reply, and the state after the script."""
    key, request = writer.key - 1, writer.request
    reply, server = scripts.put(
        state.server, at, request, key, deleting(request, rules), epoch, rules.configuration.most, rules.drops
    )
    if server is not state.server:
        state = applied(state, server, at, request, key, reply)
    return reply, state


def _begin(state: State, rules: Rules, out: Out, at: int, writer: Writer) -> None:
    """The first attempt of a request. A reply that nothing was applied sends it back to the start."""
    epoch = state.clients[at].known
    if closed(state.server, epoch) and "clients compare epochs with the backend" not in rules.drops:
        return
    number, key, request = at + 1, writer.key - 1, writer.request
    if not state.server.memory[at] and "writers are made by registration only" not in rules.drops:
        _register(state, rules, out, at)
    reply, after = _put(state, rules, at, writer, epoch)
    uncertain = put_at(state.writers, at, Writer(request, writer.key, epoch))
    if reply > scripts.WRITER:
        done = put_at(state.writers, at, Writer(request))
        out.append(((PUT_DONE, number, key, reply), after.to(writers=done)))
    if state.left.losses:
        left = state.left.without(LOSSES)
        if reply > scripts.WRITER:
            out.append(((PUT_LOST, number, key, reply, request), after.to(writers=uncertain, left=left)))
        else:
            out.append(((PUT_REFUSED, number, request), after.to(writers=uncertain, left=left)))
        late = with_late(state.late, PUT, at, request, key, epoch)
        out.append(((PUT_LATE, number, key, request), state.to(writers=uncertain, left=left, late=late)))
        if "an uncertain request is asked for again" in rules.drops:
            done = put_at(state.writers, at, Writer(request))
            lost = state.to(writers=done, left=left, broken="I5")  # it was told OK, and nothing was applied
            out.append(((PUT_LATE, number, key, request), lost))
    if rules.configuration.write_through and epoch:
        version, server = scripts.allot(
            state.server, deleting(request, rules), epoch, rules.configuration.most, rules.drops
        )
        if version:
            seq = version >> 1 & 127
            allotted = state.to(
                server=server,
                writers=put_at(state.writers, at, Writer(request, writer.key, epoch, version, 1)),
                tops=put_at(state.tops, epoch_of(version), seq),
                broken="versions" if seq <= state.tops[epoch_of(version)] else "",
            )
            out.append(((ALLOTTED, number, key, version), allotted))


def _register(state: State, rules: Rules, out: Out, at: int) -> None:
    server = scripts.register(state.server, at, state.writers[at].request, rules.drops)
    out.append(((REGISTERED, at + 1), state.to(server=server)))
    if state.left.losses:
        late = with_late(state.late, REGISTER, at, state.writers[at].request)
        out.append(((REGISTER_LATE, at + 1), state.to(late=late, left=state.left.without(LOSSES))))


def _repeat(state: State, rules: Rules, out: Out, at: int, writer: Writer) -> None:
    """Another attempt of a request whose outcome is uncertain, in the epoch of its first one."""
    number, request = at + 1, writer.request
    moves = "an uncertain request keeps its epoch" in rules.drops
    epoch = state.clients[at].known if moves else writer.epoch
    done = put_at(state.writers, at, Writer(request))
    out.append(((GIVEN_UP, number, request), state.to(writers=done)))
    if closed(state.server, epoch) and "clients compare epochs with the backend" not in rules.drops:
        return
    reply, after = _put(state, rules, at, writer, epoch)
    if reply > scripts.WRITER:
        broken = after.broken if after.applied[at] >> request & 1 else "I5"
        out.append(((AGAIN_DONE, number, request, reply), after.to(writers=done, broken=broken)))
    elif not moves:
        out.append(((UNKNOWN, number, request), after.to(writers=done)))
    if state.left.losses:
        left = state.left.without(LOSSES)
        if after is not state:
            out.append(((AGAIN_LOST, number, request), after.to(left=left)))
        late = with_late(state.late, PUT, at, request, writer.key - 1, epoch)
        out.append(((AGAIN_LATE, number, request), state.to(left=left, late=late)))


def _write_through(state: State, rules: Rules, out: Out, at: int, writer: Writer) -> None:
    """Stage 1: the version is allotted; stage 2: the backend holds it, or something newer."""
    key, version = writer.key - 1, writer.allotted
    told = (at + 1, key, version)
    if writer.stage == 1:
        backend = saved(state.backend, put_at(rules.zeros, key, version), rules.drops)
        writers = put_at(state.writers, at, writer._replace(stage=2))
        floor = state.floor
        if "write-through supersedes before it answers" in rules.drops:
            floor = put_at(floor, key, max(floor[key], version))
        out.append(((THROUGH, *told), state.to(backend=backend, writers=writers, floor=floor)))
        return
    server = scripts.supersede(state.server, key, version, rules.drops)
    after = state.to(
        server=server,
        writers=put_at(state.writers, at, Writer(writer.request)),
        # It is acknowledged now, and the backend has it whatever becomes of Redis.
        floor=put_at(state.floor, key, max(state.floor[key], version)),
        applied=put_at(state.applied, at, state.applied[at] | 1 << writer.request),
    )
    out.append(((SUPERSEDED, *told), after))
