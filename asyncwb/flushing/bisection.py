"""Decides which parts of a batch are saved next, until the records that fail by themselves are isolated. No I/O."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from asyncwb.records import Record

_HALVES: Final = 2
_QUARTERS: Final = 4


class Part(NamedTuple):
    """Records that are saved by one call.

    Attributes:
        records: at least one.
        share: how much of the usual time limit the call gets, 1.0 for all of it.
    """

    records: list[Record]
    share: float = 1.0


class Bisection:
    """The parts of one batch that are still to be saved.

    A part that fails is halved. One that takes too long is quartered, and each quarter gets half its time: so a record
    that hangs is isolated in about twice the time limit, while a backend that is merely slow gets more time per record
    at every step.

    Args:
        records: saved together at first.
        alone: records that made a whole batch fail before; each is a part from the beginning.

    Attributes:
        split: whether a part that had failed as a whole was divided.
    """

    def __init__(self, records: Sequence[Record], alone: Iterable[Record] = ()) -> None:
        self.split = False
        # The next part is at the end.
        self._waiting = [Part([record]) for record in alone]
        if records:
            self._waiting.append(Part(list(records)))

    def next(self, most: int) -> Part | None:
        """Takes out the part to be saved next, of at most so many records; None when nothing is left."""
        if not self._waiting:
            return None
        part = self._waiting.pop()
        if len(part.records) > most:
            self._waiting += _pieces(part, most, part.share)
            part = self._waiting.pop()
        return part

    def failed(self, part: Part) -> None:
        """A part of several records failed as a whole: its halves are next."""
        self.split = True
        self._waiting += _pieces(part, _size(part, _HALVES), part.share)

    def timed_out(self, part: Part) -> None:
        """A part of several records took too long: its quarters are saved after all other parts.

        Those are saved sooner, and their saves tell how long one record takes.
        """
        self.split = True
        self._waiting[:0] = _pieces(part, _size(part, _QUARTERS), part.share / 2)


def _size(part: Part, pieces: int) -> int:
    return -(-len(part.records) // pieces)


def _pieces(part: Part, most: int, share: float) -> list[Part]:
    """Pieces of at most so many records, in reverse order, because parts are taken from the end."""
    records = part.records
    return [Part(records[start : start + most], share) for start in range(0, len(records), most)][::-1]
