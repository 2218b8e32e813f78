"""Conditional writes: what their sender looks up before them; decided in put, see `records.decide`.

What is expected may be anything that was ever there, or nothing: the sender has read it at some time.
"""

from collections.abc import Callable
from typing import Final

from tests.proofs.model import scripts
from tests.proofs.model.rules import Out, Rules
from tests.proofs.model.states import Server, State, put_at

TOKEN_TAKEN: Final = "W{0} takes the token {2!v} of {1!k}, to replace {3!v}"
LOOKED_UP: Final = "W{0} loads {2!v} of {1!k} behind its token"
LOST_TOKEN: Final = "the token of {0!k} expires"

LOADING_BEHIND, KNOWING = 3, 4
"""Stages of a writer; 1 and 2 are those of a write-through."""

Begin = Callable[..., None]


def conditional_steps(state: State, rules: Rules, out: Out, at: int, begin: Begin) -> None:
    """Of a writer whose next request is a conditional write. `begin` sends it."""
    writer = state.writers[at]
    early = "a token is taken before the load" in rules.drops
    if writer.stage == LOADING_BEHIND:
        key, expected, token, newest = writer.looking
        if early:
            token, record, server = scripts.take_token(state.server, key, state.clients[at].known, rules.drops)
            if token:
                known = writer._replace(stage=KNOWING, looking=(key, expected, token, max(newest, record)))
                taken = state.to(server=server, writers=put_at(state.writers, at, known))
                out.append(((TOKEN_TAKEN, at + 1, key, token, expected), taken))
            return
        held = state.backend.held[key]
        known = writer._replace(stage=KNOWING, looking=(key, expected, token, max(newest, held)))
        out.append(((LOOKED_UP, at + 1, key, held), state.to(writers=put_at(state.writers, at, known))))
    elif writer.stage == KNOWING:
        begin(state, rules, out, at, 0, writer.looking[0], writer.looking[1:])
    else:
        for key in range(rules.configuration.keys):
            for expected in _expected(state, state.server, key):
                # First without a token, as where Redis has a record; told that it needs one, it begins again.
                begin(state, rules, out, at, 0, key, (expected, 0, 0))
                epoch = state.clients[at].known
                if state.server.closed(epoch):
                    continue
                if early:
                    held = state.backend.held[key]
                    first = writer._replace(stage=LOADING_BEHIND, looking=(key, expected, 0, held))
                    loaded = put_at(state.writers, at, first)
                    out.append(((LOOKED_UP, at + 1, key, held), state.to(writers=loaded)))
                    continue
                token, record, server = scripts.take_token(state.server, key, epoch, rules.drops)
                if token:
                    looking = writer._replace(stage=LOADING_BEHIND, looking=(key, expected, token, record))
                    taken = state.to(server=server, writers=put_at(state.writers, at, looking))
                    out.append(((TOKEN_TAKEN, at + 1, key, token, expected), taken))


def _expected(state: State, server: Server, key: int) -> list[int]:
    """Absent, or whatever version there is or was."""
    return sorted({0, server.keys[key].record, state.backend.held[key], state.floor[key], state.lost[key]})


def token_steps(state: State, rules: Rules, out: Out) -> None:
    """Tokens expire: their takers may be dead."""
    for at, key in enumerate(state.server.keys):
        if key.token:
            out.append(((LOST_TOKEN, at), state.to(server=scripts.lose_token(state.server, at))))
