"""Those who look: gets at any moment, and flushes that ask whether a write is saved; asyncwb/reader.py, waiting.py."""

from typing import Final

from model import scripts
from model.rules import Out, Rules
from model.states import ASKING, BEGUN, FLUSHES, Flush, Reader, State, epoch_of, put_at
from model.writers import closed

GET: Final = "a get of {0!k} begins (nothing older than {1!v} is right)"
FOUND: Final = "the get of {0!k} finds {1!v} in Redis"
ABSENT: Final = "the get of {0!k} finds {1!v} in Redis, and has to ask the backend"
LOADED: Final = "the get of {0!k} loads {1!v} from the backend, and returns {2!v}"
FLUSH_ASKS: Final = "a flush of {0!k}={1!v} asks, and finds {2!v}"
FLUSHED: Final = "the flush of {0!k}={1!v} is told {2}"

_IDLE: Final = Reader()


def reader_steps(state: State, rules: Rules, out: Out) -> None:
    for at, reader in enumerate(state.readers):
        if not reader.doing:
            for key, floor in enumerate(state.floor):
                begun = put_at(state.readers, at, Reader(BEGUN, key, floor))
                out.append(((GET, key, floor), state.to(readers=begun)))
        elif reader.doing == BEGUN:
            _ask_redis(state, rules, out, at, reader)
        else:
            _ask_backend(state, rules, out, at, reader)


def _ask_redis(state: State, rules: Rules, out: Out, at: int, reader: Reader) -> None:
    """get.lua, called by the first process; asked again after a handshake if the answer is EPOCH."""
    server, known, drops = state.server, state.clients[0].known, rules.drops
    if "get asks Redis first" in drops and state.backend.held[reader.key]:
        _answer(state, out, at, reader, state.backend.held[reader.key], label=LOADED)
        return
    if server.returned and known <= server.epoch and "clients compare epochs with the backend" not in drops:
        return
    if server.meta != server.identity and "get compares identity" not in drops:
        return
    if server.epoch < known:
        return
    record = server.keys[reader.key].record
    clients = state.clients
    if server.epoch > known:
        clients = put_at(clients, 0, clients[0]._replace(known=server.epoch))
    old = epoch_of(record) < server.epoch and "get compares an older epoch with the backend" not in drops
    if record and not old:
        _answer(state.to(clients=clients), out, at, reader, record, label=FOUND)
    else:
        asking = put_at(state.readers, at, reader._replace(doing=ASKING, found=record))
        out.append(((ABSENT, reader.key, record), state.to(readers=asking, clients=clients)))


def _ask_backend(state: State, rules: Rules, out: Out, at: int, reader: Reader) -> None:
    held = state.backend.held[reader.key]
    if "get writes nothing back" in rules.drops and held > reader.found:
        copies = put_at(state.server.keys, reader.key, state.server.keys[reader.key]._replace(record=held))
        state = state.to(server=state.server._replace(keys=copies))
    _answer(state, out, at, reader, max(held, reader.found), label=LOADED)


def _answer(state: State, out: Out, at: int, reader: Reader, version: int, *, label: str) -> None:
    broken = state.broken or ("I4" if version < reader.floor else "")
    told = (label, reader.key, state.backend.held[reader.key], version) if label == LOADED else (
        label, reader.key, version
    )  # fmt: skip
    out.append((told, state.to(readers=put_at(state.readers, at, _IDLE), broken=broken)))


def flush_steps(state: State, rules: Rules, out: Out) -> None:
    """Somebody asks whether a write is saved, Redis first: the present one, the newest, or one that is lost."""
    if state.flush:
        if "flush asks Redis first" in rules.drops:
            _flush_redis(state, rules, out)
        else:
            told = state.flush
            _tell(state, rules, out, told, state.backend.held[told.key])
        return
    if not state.left.flushes:
        return
    after = state.to(left=state.left.without(FLUSHES))
    for at, key in enumerate(state.server.keys):
        for wanted in {key.record, state.floor[at], state.lost[at]}:
            if not wanted:
                continue
            if "flush asks Redis first" in rules.drops:
                begun = Flush(at, wanted, state.backend.held[at], 0, 0)
                out.append(((FLUSH_ASKS, at, wanted, begun.record), after.to(flush=begun)))
            elif _answers(state):
                looked = Flush(at, wanted, key.record, key.dead, state.server.epoch)
                out.append(((FLUSH_ASKS, at, wanted, key.record), after.to(flush=looked)))


def _answers(state: State) -> bool:
    """Whether flush.lua answers the first process, and not with EPOCH."""
    server, known = state.server, state.clients[0].known
    return server.meta == server.identity and server.epoch >= known and not closed(server, known)


def _flush_redis(state: State, rules: Rules, out: Out) -> None:
    """The wrong way round: the backend was asked before, and `record` is what it held."""
    begun = state.flush
    if begun and _answers(state):
        key = state.server.keys[begun.key]
        looked = Flush(begun.key, begun.wanted, key.record, key.dead, state.server.epoch)
        _tell(state, rules, out, looked, begun.record)


def _tell(state: State, rules: Rules, out: Out, flush: Flush, held: int) -> None:
    answer = scripts.verdict(flush, held, rules.drops)
    true = {
        scripts.SAVED: state.backend.held[flush.key] >= flush.wanted,
        scripts.LOST: flush.wanted <= state.lost[flush.key],
    }.get(answer, True)
    broken = state.broken or ("" if true else "flush")
    out.append(((FLUSHED, flush.key, flush.wanted, answer), state.to(flush=(), broken=broken)))
