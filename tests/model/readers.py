"""Those who look: gets at any moment, and flushes that ask whether a write is saved; asyncwb/reader.py, waiting.py."""

from typing import Final

from model import scripts
from model.rules import Out, Rules
from model.states import ASKING, BEGUN, FLUSHES, Key, Reader, State, epoch_of, put_at
from model.writers import closed

GET: Final = "a get of {0!k} begins (nothing older than {1!v} is right)"
FOUND: Final = "the get of {0!k} finds {1!v} in Redis"
ABSENT: Final = "the get of {0!k} finds {1!v} in Redis, and has to ask the backend"
LOADED: Final = "the get of {0!k} loads {1!v} from the backend, and returns {2!v}"
FLUSHED: Final = "a flush of {0!k}={1!v} is told {2}"

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
    """Somebody asks whether a write is saved: the present one, the newest, or one that a failover has lost."""
    left = state.left
    if not left.flushes:
        return
    left = left.without(FLUSHES)
    known = state.clients[0].known
    for at, key in enumerate(state.server.keys):
        for wanted in {key.record, state.floor[at], state.lost[at]}:
            if not wanted or closed(state.server, known) or state.server.epoch < known:
                continue
            answer, server = scripts.flush(state.server, at, wanted, rules.drops)
            if answer:
                broken = "" if truthful(state, at, wanted, answer) else "flush"
                out.append(((FLUSHED, at, wanted, answer), state.to(server=server, left=left, broken=broken)))


def truthful(state: State, at: int, wanted: int, answer: str) -> bool:
    """Whether what flush tells its caller is so: SAVED is saved, and only what was lost raises WriteLost."""
    held = state.backend.held[at] >= wanted
    if answer == scripts.SAVED:
        return held
    return answer != scripts.ABSENT or held or wanted <= state.lost[at]


def noted_too_much(key: Key, held: int) -> bool:
    """Whether flush would be told of a version that the backend hasn't got."""
    return key.saved > held
