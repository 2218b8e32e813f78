"""Updates: operations on values, encoded as entries that are applied and folded without knowing any type.

This package does no I/O. `Changes` makes entries where the types are known; `apply` works a value out, `fold` makes
many entries few, and `describe` shows one to people.
"""

from asyncwb.encoding import ABSENT
from asyncwb.updates.applying import UpdateFailed, apply
from asyncwb.updates.changes import Changes
from asyncwb.updates.describing import describe
from asyncwb.updates.folding import fold
from asyncwb.updates.operations import UNSET, Add, Append, Max, Min, Operation, UnsetType

__all__ = [
    "ABSENT",
    "UNSET",
    "Add",
    "Append",
    "Changes",
    "Max",
    "Min",
    "Operation",
    "UnsetType",
    "UpdateFailed",
    "apply",
    "describe",
    "fold",
]
