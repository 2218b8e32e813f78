"""The history of keys whose values are lists, to which updates add: which lists may be read after which writes."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from asyncwb.records import Version
from tests.proofs.faults.history import History, Write

PADDING: Final = 0
"""An item that makes a list longer, and belongs to no write."""


class ListHistory(History):
    """Each write puts its own number into the list: a set makes it the only one, an update adds it at the end.

    So a list shows which writes are in it, and in which order they were applied: every update once, and all those that
    are acknowledged (I7).
    """

    def saw(self, key: str, value: Any, where: str, version: Version | None = None) -> None:
        numbers = [each for each in value or () if each != PADDING]
        writes = self._writes.get(key, [])
        by_value = {each.value: each for each in writes if each.value is not None}
        shown = f"{where}: key {key!r} is {numbers if value is not None else 'absent'}"
        for number, times in Counter(numbers).items():
            if times > 1:
                self.problem(f"{shown}: I7: {by_value.get(number, number)} was applied {times} times")
            if number not in by_value:
                self.problem(f"{shown}: nobody wrote {number} to it")
            elif not by_value[number].may_be_applied:
                self.problem(f"{shown}: the caller of {by_value[number]} was told that it was not written")
        if len(self.report.problems) and any(number not in by_value for number in numbers):
            return
        seen = [by_value[number] for number in numbers]
        self._judge(writes, seen, shown, absent=value is None)
        floor = self.floor(key)
        if floor is not None and floor.version is not None and version is not None and version < floor.version:
            self.problem(f"{shown}: it has version {version:x}, below {floor.version:x} of {floor}")
        self._are_applied(writes, seen)

    def saved(self, key: str, value: Any) -> None:
        for number in value or ():
            if number != PADDING:
                super().saved(key, number)
        if value is None:
            super().saved(key, None)

    def _judge(self, writes: list[Write], seen: list[Write], shown: str, *, absent: bool) -> None:
        placed = [writes.index(each) for each in seen if not self._drifts(each)]
        if placed != sorted(placed):
            self.problem(f"{shown}: I7: updates are out of order")
        begin, certain = self._begin(writes, seen, absent=absent)
        if any(at < begin for at in placed):
            self.report.stale += 1
            self.problem(f"{shown}: it has what was written before {writes[begin]}")
        if not certain:
            return
        for write in writes[begin + 1 :]:
            if write.state != "acknowledged" or write in seen:
                continue
            self.report.lost += 1
            self.problem(f"{shown}: {'I7: ' if write.adds else ''}{write} is lost")

    def _begin(self, writes: list[Write], seen: list[Write], *, absent: bool) -> tuple[int, bool]:
        """The place of the write that the list begins with, and whether that is known; -1: nothing was there."""
        if seen and not seen[0].adds:
            return writes.index(seen[0]), not self._drifts(seen[0])
        # It begins after a delete: the latest that is possible restricts the rest the least.
        until = writes.index(seen[0]) if seen and not self._drifts(seen[0]) else len(writes)
        deletes = [each for each in writes if each.value is None and each.may_be_applied]
        if any(self._drifts(each) for each in deletes):
            return -1, False
        latest = max((at for at in map(writes.index, deletes) if at < until), default=-1)
        if absent and latest >= 0 and len(deletes) == 1 and any(_is_certain(each) for each in writes[:latest]):
            deletes[0].state = "acknowledged"  # nothing else can have removed what was there
        return latest, True

    def _are_applied(self, writes: list[Write], seen: Sequence[Write]) -> None:
        """What was seen once can't be gone again; what has drifted in from an earlier life comes where it was seen."""
        placed = [each for each in seen if not self._drifts(each)]
        drifted = [each for each in seen if self._drifts(each)]
        for write in drifted:
            writes.remove(write)
            at = seen.index(write)
            before = [each for each in seen[:at] if each in placed]
            behind = [each for each in seen[at:] if each in placed]
            if before:
                writes.insert(writes.index(before[-1]) + 1, write)
            else:
                writes.insert(writes.index(behind[0]) if behind else len(writes), write)
            placed.append(write)
        for write in seen:
            write.state = "acknowledged"


def _is_certain(write: Write) -> bool:
    return write.state == "acknowledged"
