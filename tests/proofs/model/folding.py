"""Writers that are told that a record is long: they fold entries that no flusher has read into one."""

from typing import Final

from tests.proofs.model import scripts
from tests.proofs.model.left import FOLDS
from tests.proofs.model.records import foldable
from tests.proofs.model.rules import Out, Rules
from tests.proofs.model.states import State

FOLD_READ: Final = "a writer reads the entries {1!e} of {0!k}, to fold them"
FOLDED: Final = "a writer folds the entries {1!e} of {0!k} into one"
FOLDED_AT_OLD: Final = "a writer folds the entries {1!e} of {0!k} into one at the former primary"
FOLD_REFUSED: Final = "a writer can't fold the entries {1!e} of {0!k}: they have changed"


def fold_steps(state: State, rules: Rules, out: Out) -> None:
    """Reads some entries, and exchanges them later: for exactly these, or not at all."""
    if state.folding:
        at, place, entries = state.folding
        told = (at, entries)
        out.append(((FOLD_REFUSED, *told), state.to(folding=())))
        for name, server, label in (("server", state.server, FOLDED), ("old", state.old, FOLDED_AT_OLD)):
            if server and (after := scripts.fold(server, at, place, entries, rules.drops)) is not server:
                out.append(((label, *told), state.to(folding=(), **{name: after})))
        return
    if not state.left.folds:
        return
    fewer = state.to(left=state.left.without(FOLDS))
    for server in (state.server, state.old):
        if server:
            for at, key in enumerate(server.keys):
                if key.pending:
                    for place, some in foldable(key.pending, rules.drops):
                        out.append(((FOLD_READ, at, some), fewer.to(folding=(at, place, some))))
