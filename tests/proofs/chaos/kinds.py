"""All kinds of worlds, and which unit is which."""

from typing import Final

from tests.harness.databases import mongod_binary
from tests.proofs.chaos.dying import Dying
from tests.proofs.chaos.killing import Killing
from tests.proofs.chaos.promoting import Promoting
from tests.proofs.chaos.restarting import Restarting
from tests.proofs.chaos.starving import BackendStopped, DiskFull, MemoryFull
from tests.proofs.chaos.world import ChaosWorld

KINDS: Final[dict[str, type[ChaosWorld]]] = {
    kind.kind: kind for kind in (Killing, Restarting, Promoting, BackendStopped, DiskFull, MemoryFull, Dying)
}

ROTATION: Final = (
    "workers", "server", "replicas", "workers", "disk", "server",
    "workers", "backend", "server", "deadly", "replicas", "memory",
)  # fmt: skip
"""The kinds of units in turn, so weighted that each fault comes as often as it should."""


def kind_of(unit: int) -> type[ChaosWorld]:
    """The kind of a unit; without a mongod on this machine SQLite's disk is full instead."""
    kind = ROTATION[unit % len(ROTATION)]
    return KINDS["disk" if kind == "backend" and mongod_binary()[0] is None else kind]
