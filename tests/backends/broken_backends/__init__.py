"""Backends that are wrong, each in its own way, and the sound ones that they are made of.

Not collected by itself: `test_contract.py` runs the contract on all of them and looks at what it finds.
"""

from asyncwb.support import foreign
from asyncwb.testing.contract import lifetimes, outages, processes, races

# Most of the broken ones make the contract wait in vain.
lifetimes._SETTLE_SECONDS = processes._PROGRESS_SECONDS = 0.5  # type: ignore[misc]
processes._PATIENCE_SECONDS = races._PATIENCE_SECONDS = 0.03  # type: ignore[misc]
foreign._CLEANUP_SECONDS = outages._CLEANUP_SECONDS = outages._CLOSE_SECONDS = 1.0  # type: ignore[misc]
outages._BACK_SECONDS = 1.5  # type: ignore[misc]
