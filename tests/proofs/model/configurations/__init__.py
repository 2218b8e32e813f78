"""The configurations that are explored whole: who takes part, and how often each misfortune may happen."""

from typing import Final

from tests.proofs.model.configurations import puts, updates

SMALL: Final = (*puts.SMALL, *updates.SMALL)
"""All steps there are happen in these, in seconds."""

LARGE: Final = (*puts.LARGE, *updates.LARGE)
