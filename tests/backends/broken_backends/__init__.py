"""Backends that are wrong, each in its own way, and the sound ones that they are made of.

Not collected by itself: `test_contract.py` runs the contract on all of them and looks at what it finds.
"""

from asyncwb.testing.contract import lifetimes, processes

# Most of the broken ones make the contract wait in vain.
lifetimes._SETTLE_SECONDS = processes._PROGRESS_SECONDS = 0.5  # type: ignore[misc]
processes._PATIENCE_SECONDS = 0.03  # type: ignore[misc]
