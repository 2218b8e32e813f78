"""The proof "faults": its units are variants, kinds of faults, and the points that are a unit's share."""

import asyncio
import zlib
from dataclasses import dataclass
from typing import Final

from tests.harness.servers import binary
from tests.proofs.faults.campaign import campaign
from tests.proofs.faults.points import KINDS, MODES, Kind, Mode, Point
from tests.proofs.faults.variants import VARIANTS
from tests.proofs.runner.report import Proof, Report


@dataclass(frozen=True, slots=True)
class Unit:
    """Some points of a variant with some kinds of faults.

    Attributes:
        variant: its name.
        kinds: of faults.
        share, of: which part of the points, by their names: the same in every process.
        only: names of points, if not all.
        modes: of faults.
    """

    variant: str
    kinds: tuple[Kind, ...]
    share: int = 0
    of: int = 1
    only: frozenset[str] = frozenset()
    modes: tuple[Mode, ...] = MODES

    def wants(self, point: Point) -> bool:
        if self.only and point.name not in self.only:
            return False
        return zlib.crc32(str(point).encode()) % self.of == self.share


# What takes about as long: stops come once only, and a late command waits for the client's time limit.
_GROUPS: Final[tuple[tuple[Kind, ...], ...]] = (
    ("drop request",),
    ("drop reply",),
    ("cut",),
    ("delay request",),
    ("delay request to the end",),
    ("delay reply",),
    ("cancel before",),
    ("cancel after",),
    ("stop before", "stop after"),
)


def _units(variant: str, of: int = 1, modes: tuple[Mode, ...] = MODES) -> list[Unit]:
    return [Unit(variant, kinds, share, of, modes=modes) for kinds in _GROUPS for share in range(of)]


_TRANSACTION: Final = frozenset(
    {"WATCH", "GET", "UNWATCH", "MULTI", "DEL", "ZREM", "HDEL", "HINCRBY", "EXEC", "claim", "extend", "ack"}
)
"""What one strategy does and the other doesn't, with the steps around it."""

_UPDATES: Final = frozenset({"put", "read_updates", "claim", "ack", "fold", "take_token", "flush", "get"})
"""What updates and conditional writes go through."""

_QUICK: Final = [
    Unit("script", KINDS, 0, 12),
    Unit("watch", KINDS, 0, 24, _TRANSACTION),
    Unit("updates", KINDS, 0, 24, _UPDATES),
]
_CI: Final = [
    *_units("script"),
    # Of the other strategy, and of updates, what differs, with the kinds that have the widest effects; the long form
    # has all of them.
    *(
        Unit(variant, kinds, only=only, modes=("once",))
        for variant, only in (("watch", _TRANSACTION), ("updates", _UPDATES))
        for kinds in (("drop reply",), ("cut",), ("delay request",), ("stop before", "stop after"))
    ),
    # Without a colleague, what a late claim takes is what its repetition has left.
    Unit("single", ("delay request",), only=frozenset({"claim", "ack"})),
]
_LONG: Final = [
    *_units("watch", of=4),
    *_units("updates", of=2),
    *(
        unit
        for name in (
            "single",
            "cold",
            "fsync",
            "sqlite",
            "redis62",
            "redis7",
            "updates-watch",
            "updates-sqlite",
            "updates-eager",
        )
        if binary(VARIANTS[name].server)[0] is not None
        for unit in _units(name, modes=("once",))
    ),
]
"""All variants with all modes are by hand: `uv run python -m tests.proofs.faults --variant V --all`."""

UNITS: Final = [*_QUICK, *_CI, *_LONG]


def run(number: int) -> Report:
    """One unit; the quick ones are samples of those after them."""
    unit = UNITS[number]
    return asyncio.run(campaign(VARIANTS[unit.variant], unit.kinds, unit.modes, unit.wants))


PROOF: Final = Proof(
    name="faults",
    run=run,
    quick=len(_QUICK),
    ci=len(_QUICK) + len(_CI),
    long=len(UNITS),
    unit_seconds=15.0,
    endless=False,
)
