"""Those who look: gets at any moment, and flushes that ask whether a write is saved; asyncwb/reading/."""

from typing import Final

from tests.proofs.model import scripts
from tests.proofs.model.contents import confirmed, has_wrong_order, is_in, lacks
from tests.proofs.model.left import FLUSHES
from tests.proofs.model.records import Content, content_of, knows_all, work_out
from tests.proofs.model.rules import Out, Rules
from tests.proofs.model.states import ASKING, BEGUN, COUNTS, GREETS, Flush, Reader, State, epoch_of, put_at, version_of

GET: Final = "a get of {0!k} begins (nothing older than {1!v} is right)"
FOUND: Final = "the get of {0!k} finds {1!v} in Redis"
ABSENT: Final = "the get of {0!k} finds {1!v} in Redis, and has to ask the backend"
LOADED: Final = "the get of {0!k} loads {1!v} from the backend, and returns {2!v}"
WORKED_OUT: Final = "the get of {0!k} works out {1!c}"
RAISED: Final = "the get of {0!k} raises: what the backend holds is from the middle of an entry"
LOADED_FOREIGN: Final = "the get of {0!k} loads {1!v} from the backend, which may be foreign"
LOAD_COUNTED: Final = "the get of {0!k} is told that epoch {1} is the highest allotted"
FLUSH_LOADS: Final = "the flush of {0!k}={1!v} loads {2!v} from the backend, and has to ask which epochs are foreign"
FLUSH_LOADED: Final = "the flush of {0!k}={1!v} loads {2!v} from the backend, and has to ask what was dropped"
FLUSH_ASKS: Final = "a flush of {0!k}={1!v} asks, and finds {2!v}"
FLUSHED: Final = "the flush of {0!k}={1!v} is told {2}"

_IDLE: Final = Reader()


def reader_steps(state: State, rules: Rules, out: Out) -> None:
    for at, reader in enumerate(state.readers):
        if not reader.doing:
            for key, floor in enumerate(state.floor):
                owed = state.owed[key] if state.owed else ()
                begun = put_at(state.readers, at, Reader(BEGUN, key, floor, owed=owed))
                out.append(((GET, key, floor), state.to(readers=begun)))
        elif reader.doing == BEGUN:
            _ask_redis(state, rules, out, at, reader)
        elif reader.doing == COUNTS:
            told = put_at(state.readers, at, reader._replace(doing=GREETS, allotted=state.backend.epoch))
            out.append(((LOAD_COUNTED, reader.key, state.backend.epoch), state.to(readers=told)))
        elif reader.doing == GREETS:
            server, loaded = state.server, reader.loaded
            present = version_of(server.epoch, server.seq, 1)
            foreign = scripts.is_foreign(loaded, present, reader.allotted, scripts.foreign_of(server))
            if foreign and reader.found and "get takes what is foreign for older" not in rules.drops:
                loaded = 0
            _answer(state, out, at, reader, max(loaded, reader.found), label=LOADED)
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
    record, pending = server.keys[reader.key].record, server.keys[reader.key].pending
    clients = state.clients
    if server.epoch > known:
        clients = put_at(clients, 0, clients[0]._replace(known=server.epoch))
    old = epoch_of(record) < server.epoch and "get compares an older epoch with the backend" not in drops
    if pending and knows_all(pending, server.epoch, drops):
        content = content_of(pending.base) + tuple(update for entry in pending.entries for update in entry)
        _answer_content(state.to(clients=clients), out, at, reader, content)
    elif record and not old and not pending:
        _answer(state.to(clients=clients), out, at, reader, record, label=FOUND)
    else:
        asking = put_at(state.readers, at, reader._replace(doing=ASKING, found=record, pending=pending))
        out.append(((ABSENT, reader.key, record), state.to(readers=asking, clients=clients)))


def _ask_backend(state: State, rules: Rules, out: Out, at: int, reader: Reader) -> None:
    held = state.backend.held[reader.key]
    if reader.pending:
        content = work_out(reader.pending, held, state.backend.contents[reader.key], rules.drops)
        _answer_content(state, out, at, reader, content)
        return
    if "get writes nothing back" in rules.drops and held > reader.found:
        copies = put_at(state.server.keys, reader.key, state.server.keys[reader.key]._replace(record=held))
        state = state.to(server=state.server._replace(keys=copies))
    if rules.configuration.left.plants and (state.server.foreign or epoch_of(held) > state.server.epoch):
        # The ranges of foreign epochs are known to a process since its handshake of the present epoch.
        looking = put_at(state.readers, at, reader._replace(doing=COUNTS, loaded=held))
        out.append(((LOADED_FOREIGN, reader.key, held), state.to(readers=looking)))
        return
    _answer(state, out, at, reader, max(held, reader.found), label=LOADED)


def _answer_content(state: State, out: Out, at: int, reader: Reader, content: Content | None) -> None:
    """What a get works out of a record with entries. Where that can't be done, it raises."""
    broken = state.broken
    if content is not None and has_wrong_order(content):
        broken = broken or "I7"
    if content is not None and lacks(content, reader.owed):
        broken = broken or "I4"
    told = (WORKED_OUT, reader.key, content) if content is not None else (RAISED, reader.key)
    out.append((told, state.to(readers=put_at(state.readers, at, _IDLE), broken=broken)))


def _answer(state: State, out: Out, at: int, reader: Reader, version: int, *, label: str) -> None:
    broken = state.broken
    if reader.owed:
        content = state.backend.contents[reader.key] if version == state.backend.held[reader.key] else (version,)
        broken = broken or ("I4" if lacks(content, reader.owed) else "")
    elif state.stands(reader.key, version) < reader.floor:
        broken = broken or "I4"
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
            _flush_backend(state, rules, out, state.flush)
        return
    if not state.left.flushes:
        return
    after = state.to(left=state.left.without(FLUSHES))
    for at, key in enumerate(state.server.keys):
        newest = {key.record, state.floor[at], state.lost[at]}
        for wanted in newest.union(state.owed[at], state.gone[at]) if state.owed else newest:
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
    return server.meta == server.identity and server.epoch >= known and not server.closed(known)


def _flush_backend(state: State, rules: Rules, out: Out, flush: Flush) -> None:
    """What the backend holds; and if that is of a later epoch than what is wanted, which epochs are foreign."""
    key, wanted = flush[:2]
    held = flush.loaded or state.backend.held[key]
    if rules.configuration.updates:
        if not flush.loaded and held > wanted and rules.configuration.drops:
            out.append(((FLUSH_LOADED, key, wanted, held), state.to(flush=flush._replace(loaded=held))))
        else:
            _tell(state, rules, out, flush, held)
        return
    later = rules.configuration.left.plants and epoch_of(held) > epoch_of(wanted)
    if later and not flush.loaded:
        out.append(((FLUSH_LOADS, key, wanted, held), state.to(flush=flush._replace(loaded=held))))
        return
    noted = scripts.foreign_of(state.server) if later else ()
    if any(first <= epoch_of(held) <= last for first, last in noted) and (
        "what is foreign confirms nothing" not in rules.drops
    ):
        held = 0
    _tell(state, rules, out, flush, held)


def _flush_redis(state: State, rules: Rules, out: Out) -> None:
    """The wrong way round: the backend was asked before, and `record` is what it held."""
    begun = state.flush
    if begun and _answers(state):
        key = state.server.keys[begun.key]
        looked = Flush(begun.key, begun.wanted, key.record, key.dead, state.server.epoch)
        _tell(state, rules, out, looked, begun.record)


def _tell(state: State, rules: Rules, out: Out, flush: Flush, held: int) -> None:
    answer = scripts.verdict(flush, held, rules.configuration.updates, state.server.dropped, rules.drops)
    wanted = state.stands(flush.key, flush.wanted)
    if state.owed:
        is_saved = is_in(state.backend, flush.key, wanted)
        is_lost = wanted in state.gone[flush.key]
        if answer == scripts.SAVED:
            state = confirmed(state, flush.key, wanted)
    else:
        is_saved = state.stands(flush.key, state.backend.held[flush.key]) >= wanted
        is_lost = wanted <= state.lost[flush.key]
    true = {scripts.SAVED: is_saved, scripts.LOST: is_lost}.get(answer, True)
    broken = state.broken or ("" if true else "flush")
    out.append(((FLUSHED, flush.key, flush.wanted, answer), state.to(flush=(), broken=broken)))
