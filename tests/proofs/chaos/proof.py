"""The proof by chaos: a unit is one world."""

import asyncio
from typing import Final

from tests.proofs.chaos.kinds import kind_of
from tests.proofs.runner.report import Proof, Report


def run(number: int) -> Report:
    """One world. Its recoveries are seconds from the kill of a flusher until all that it was saving was saved by
    others, minus the lease: what is left after the lease has expired."""
    return asyncio.run(kind_of(number)(number).run())


PROOF: Final = Proof(name="chaos", run=run, quick=2, ci=12, long=144, unit_seconds=25.0)
