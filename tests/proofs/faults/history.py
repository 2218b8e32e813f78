"""What was written, what became of each write, and which values may be read after that."""

from dataclasses import dataclass, field
from typing import Any, Literal

from asyncwb.records import Version
from tests.proofs.runner.report import Report

State = Literal["pending", "acknowledged", "unknown", "not applied"]


@dataclass(slots=True)
class Write:
    """One write; no two write the same value.

    Attributes:
        key: of it.
        value: None for a delete.
        life: which opening of the buffer it went through: its requests are in order with each other.
        state: what its caller was told.
        version: if that told one.
        adds: whether it is an update, which adds to the value, see `lists`.
    """

    key: str
    value: int | None
    life: int
    state: State = "pending"
    version: Version | None = None
    adds: bool = False

    @property
    def may_be_applied(self) -> bool:
        return self.state != "not applied"

    def __str__(self) -> str:
        what = "delete" if self.value is None else f"{'append' if self.adds else 'set'} {self.value}"
        return f"{what} ({self.state})"


@dataclass(slots=True)
class History:
    """Of the keys of one run.

    Attributes:
        afloat: whether a request may still be under way when its buffer is closed: what is unknown of an earlier
            life may then be applied at any time.
        report: where violations go.
    """

    afloat: bool = False
    report: Report = field(default_factory=Report)
    life: int = 0
    _writes: dict[str, list[Write]] = field(default_factory=dict)
    _values: int = 0

    @property
    def keys(self) -> list[str]:
        return list(self._writes)

    @property
    def all(self) -> list[Write]:
        return [write for writes in self._writes.values() for write in writes]

    def value(self) -> int:
        """One that wasn't written yet."""
        self._values += 1
        return self._values

    def begin(self, key: str, value: int | None, *, adds: bool = False) -> Write:
        write = Write(key, value, self.life, adds=adds)
        self._writes.setdefault(key, []).append(write)
        return write

    def floor(self, key: str) -> Write | None:
        """The last write that is acknowledged, or was read."""
        return next((each for each in reversed(self._writes.get(key, ())) if each.state == "acknowledged"), None)

    def candidates(self, key: str) -> list[Write]:
        """The writes that may be the present one; without a floor, absence is possible as well."""
        writes = self._writes.get(key, [])
        floor = self.floor(key)
        at = writes.index(floor) if floor is not None else -1
        drifting = [each for each in writes[: max(at, 0)] if self._drifts(each)]
        return drifting + ([floor] if floor is not None else []) + [each for each in writes[at + 1 :] if _open(each)]

    def saw(self, key: str, value: Any, where: str, version: Version | None = None) -> None:
        """Judges what a read or the backend said of a key."""
        candidates, floor = self.candidates(key), self.floor(key)
        expected = ", ".join(map(str, candidates)) or "nothing"
        if value is None:
            if floor is not None and all(each.value is not None for each in candidates):
                self.report.lost += 1
                self.problem(f"{where}: key {key!r} is absent, expected {expected}")
            deletes = [each for each in candidates if each.value is None]
            if floor is not None and len(deletes) == 1:
                self._is_applied(deletes[0])
            return
        found = next((each for each in self._writes.get(key, ()) if each.value == value), None)
        if found is None:
            self.problem(f"{where}: key {key!r} has {value}, which nobody wrote to it")
        elif not found.may_be_applied:
            self.problem(f"{where}: key {key!r} has {value}, although its caller was told that it was not written")
        elif found not in candidates:
            resurrected = floor is not None and floor.value is None
            self.report.resurrected += resurrected
            self.report.stale += not resurrected
            self.problem(f"{where}: key {key!r} has {value} ({found.state}), older than {expected}")
        else:
            if version is not None and found.version is not None and version != found.version:
                self.problem(f"{where}: key {key!r} has {value} as {version:x}, acknowledged as {found.version:x}")
            if floor is not None and floor.version is not None and version is not None and version < floor.version:
                self.problem(f"{where}: key {key!r} has version {version:x}, below {floor.version:x} of {floor}")
            self._is_applied(found)

    def saved(self, key: str, value: Any) -> None:
        """Judges what was ever given to the backend."""
        found = next((each for each in self._writes.get(key, ()) if each.value == value), None)
        if found is None or not any(each.may_be_applied for each in self._writes[key] if each.value == value):
            self.problem(f"key {key!r}: {value} was saved, although its caller was told that it was not written")

    def problem(self, text: str) -> None:
        if text not in self.report.problems:
            self.report.problems.append(text)

    def _is_applied(self, write: Write) -> None:
        """What was seen once can't be gone again; and what has drifted in from an earlier life is the newest now."""
        if self._drifts(write):
            self._writes[write.key].remove(write)
            self._writes[write.key].append(write)
        write.state = "acknowledged"

    def _drifts(self, write: Write) -> bool:
        return self.afloat and write.state == "unknown" and write.life < self.life


def _open(write: Write) -> bool:
    return write.state in ("pending", "unknown")
