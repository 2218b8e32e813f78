"""What every process of a world has done, written down before and after it did it, and read back as operations.

Each process appends to a file of its own, one `os.write` for each line: a process that is killed can tear its last line
only, and a torn line counts as not written. Times are nanoseconds of CLOCK_MONOTONIC, which all processes share. One
call is one line each for its beginning and its end; each key of it is an operation.
"""

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from tests.proofs.chaos.tallies import is_register

Kind = Literal["set", "delete", "get", "update", "look"]
Outcome = Literal["ok", "unknown", "failed"]

_BEGINNING: Final = 6
"""How many parts the line of a call's beginning has."""

NEVER: Final = 2**63
"""A time after all others."""


@dataclass(slots=True)
class Operation:
    """One key of one call.

    Attributes:
        worker: its process.
        key: the key.
        kind: what it did; "update" and "look" write and read values that are made by updates alone, see `tallies`.
        invoked: before the call.
        completed: after it; for a write of unknown outcome the latest time at which it can take effect.
        outcome: "ok"; "failed", it has certainly not been applied; "unknown".
        value: the unique id of the value or of the update that was written, or what identifies the value that was read;
            None for a delete, or if nothing was there.
        version: of an acknowledged write; 0 if it isn't known.
        level: the durability that was asked for.
        told: when the caller was told what became of it; NEVER if its process died.
        reason: what it was told, if it isn't "ok".
        expected: the version that the key had to have, 0 for absence; None if it was written in any case.
    """

    worker: int
    key: str
    kind: Kind
    invoked: int
    completed: int
    outcome: Outcome
    value: int | None
    version: int = 0
    level: str = "memory"
    told: int = NEVER
    reason: str = ""
    expected: int | None = None

    @property
    def writes(self) -> bool:
        return self.kind not in ("get", "look")


@dataclass(frozen=True, slots=True)
class Save:
    """One save of a batch by a flusher.

    Attributes:
        worker: its process.
        begun: when the backend was called.
        ended: when it returned, or raised; NEVER if the process died in it.
        records: key, version and value id (None for a tombstone) of each record.
        error: what it raised, else "".
    """

    worker: int
    begun: int
    ended: int
    records: Sequence[tuple[str, int, int | None]]
    error: str

    @property
    def done(self) -> bool:
        return self.ended != NEVER and not self.error


@dataclass(slots=True)
class History:
    """All that the processes of a world have done.

    Attributes:
        operations: those of writers.
        saves: those of flushers.
        pending: worker -> calls and saves that have not ended.
        last: worker -> the time of its last line.
    """

    operations: list[Operation] = field(default_factory=list)
    saves: list[Save] = field(default_factory=list)
    pending: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    last: dict[int, int] = field(default_factory=dict)

    def of_registers(self) -> "History":
        """Without what concerns keys that only updates change."""
        saves = [
            replace(each, records=[record for record in each.records if is_register(record[0])]) for each in self.saves
        ]
        return History([each for each in self.operations if each.kind not in ("update", "look")], saves)


class Recorder:
    """Writes the history of one process."""

    def __init__(self, folder: Path, worker: int) -> None:
        self._file = os.open(folder / f"{worker}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._calls = 0

    def begin(
        self, kind: str, what: Mapping[str, Any] | Sequence[Any], level: str = "", *, expected: int | None = None
    ) -> int:
        """Before a call; returns its number. Keys with the ids of their new values, or keys, or records."""
        self._calls += 1
        self._write([self._calls, time.monotonic_ns(), kind, level, what, expected])
        return self._calls

    def end(self, call: int, outcome: str, what: Mapping[str, Any] | str = "") -> None:
        """After it. Keys with versions or with the ids that were read, or why it failed.

        "partly": keys with the outcome of each, and its version, the id that was read, or why it failed.
        """
        self._write([call, time.monotonic_ns(), outcome, what])

    def _write(self, line: list[Any]) -> None:
        os.write(self._file, msgspec.json.encode(line) + b"\n")


def read_history(folder: Path) -> History:
    """What all processes have written so far."""
    history = History()
    for path in sorted(folder.glob("*.jsonl"), key=lambda path: int(path.stem)):
        _read_worker(history, int(path.stem), path.read_bytes())
    return history


def _read_worker(history: History, worker: int, text: bytes) -> None:
    begun: dict[int, list[Any]] = {}
    ended: dict[int, list[Any]] = {}
    for line in text[: text.rfind(b"\n") + 1].splitlines():
        entry = msgspec.json.decode(line)
        (begun if len(entry) == _BEGINNING else ended)[entry[0]] = entry
        history.last[worker] = max(history.last.get(worker, 0), entry[1])
    for call, beginning in begun.items():
        end = ended.get(call)
        if end is None:
            history.pending[worker] += 1
        if beginning[2] == "save":
            records = [(key, version, value) for key, version, value in beginning[4]]
            failed = end is not None and end[2] != "ok"
            history.saves.append(
                Save(worker, beginning[1], end[1] if end else NEVER, records, str(end[3]) if end and failed else "")
            )
        else:
            history.operations.extend(_operations(worker, beginning, end))


def _operations(worker: int, beginning: list[Any], end: list[Any] | None) -> Iterator[Operation]:
    _, invoked, kind, level, what, expected = beginning
    told = end[1] if end else NEVER
    for key in what:
        outcome, result = _outcome_of(key, end)
        completed = told if outcome == "ok" else NEVER
        if kind in ("get", "look"):
            if outcome == "ok":  # a read that failed says nothing
                yield Operation(worker, key, kind, invoked, completed, "ok", result, told=told)
            continue
        value = None if kind == "delete" else what[key]
        version, reason = (result or 0, "") if outcome == "ok" else (0, result or "")
        yield Operation(worker, key, kind, invoked, completed, outcome, value, version, level, told, reason, expected)


def _outcome_of(key: str, end: list[Any] | None) -> tuple[Outcome, Any]:
    """What became of one key of a call, and what was told: its version, the id that was read, or a reason."""
    if end is None:
        return "unknown", None
    if end[2] == "partly":
        outcome, result = end[3][key]
        return outcome, result
    return end[2], end[3].get(key) if end[2] == "ok" else end[3]
