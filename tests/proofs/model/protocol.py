"""All steps together: from a state to all that can follow."""

from typing import Final

from tests.proofs.model.conditions import token_steps
from tests.proofs.model.epochs import handshake_steps
from tests.proofs.model.flushers import flusher_steps
from tests.proofs.model.folding import fold_steps
from tests.proofs.model.readers import flush_steps, reader_steps
from tests.proofs.model.rules import Out, Rules, Steps
from tests.proofs.model.states import State
from tests.proofs.model.world import failure_steps, late_steps, lease_steps, plant_steps
from tests.proofs.model.writers import writer_steps

_ALL: Final[tuple[Steps, ...]] = (
    writer_steps,
    flusher_steps,
    lease_steps,
    late_steps,
    reader_steps,
    flush_steps,
    handshake_steps,
    failure_steps,
    plant_steps,
    fold_steps,
    token_steps,
)


def successors(state: State, rules: Rules) -> Out:
    """Each possible step, in words, with the state it leads to."""
    out: Out = []
    for steps in _ALL:
        steps(state, rules, out)
    return out
