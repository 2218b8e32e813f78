"""The simulation of updates: what is broken in how they are taken, folded, saved and confirmed is found."""

from collections.abc import Callable
from typing import Any

import pytest

from asyncwb.flushing import settling
from asyncwb.protocol import scripts
from asyncwb.protocol.pending import Entry, PendingRecord
from asyncwb.reading import flush_waiter
from asyncwb.records import Record
from asyncwb.updates import apply
from asyncwb.writing import folding
from tests.proofs.runner.report import Report
from tests.proofs.simulation.changes import Changes
from tests.proofs.simulation.documents import document, replayed, visible
from tests.proofs.simulation.lua import LUA_MISSING
from tests.proofs.simulation.proof import note
from tests.proofs.simulation.test_simulation import FIND_WITHIN, broken, quiet
from tests.proofs.simulation.updating_client import UpdatingClient
from tests.proofs.simulation.world import SimulatedWorld

__all__ = ["quiet"]

pytestmark = pytest.mark.skipif(bool(LUA_MISSING), reason=LUA_MISSING)


class Replacing(UpdatingClient):
    """Nearly all of its writes are on conditions."""

    def _work(self) -> list[Callable[[], Any]]:
        return [*[self._replace] * 5, self._set, self._delete]


class Contended(SimulatedWorld):
    """All write one key, and it is saved at once."""

    updating_share = 1.0

    def __init__(self, seed: int, changes: Changes | None = None) -> None:
        super().__init__(seed, changes)
        self.keys = self.keys[:1]
        self.settings["max_delay_seconds"] = 0.0
        if self.updating:
            self.client = Replacing
            self.storage_faults.end()
            self.storage_faults.latency = 0.001

    def misfortunes(self) -> list[Callable[[], None]]:
        return []


class Bursting(UpdatingClient):
    """Its updates come at once, so that records grow."""

    def _work(self) -> list[Callable[[], Any]]:
        return [*[self._burst] * 2, *[self._append] * 4, self._add, self._get]


class Folding(SimulatedWorld):
    """Several processes fold one record at the same time."""

    updating_share = 1.0
    long_bytes = (100,)

    def __init__(self, seed: int, changes: Changes | None = None) -> None:
        super().__init__(seed, changes)
        self.keys = self.keys[:1]
        self.settings["max_dirty"] = None
        if self.updating:
            self.client = Bursting
            self.storage_faults.end()
            self.storage_faults.latency = 0.1

    def misfortunes(self) -> list[Callable[[], None]]:
        return []


def problem_of(changes: Changes, text: str, kind: type[SimulatedWorld] = SimulatedWorld) -> str:
    """The first problem with this text in worlds with updates; others needn't be run."""
    for seed in range(FIND_WITHIN):
        world = kind(seed, changes)
        if not world.updating:
            world.loop.finish()
        elif found := [problem for problem in world.run().problems if text in problem]:
            return found[0]
    pytest.fail(f"not found within {FIND_WITHIN} seeds")


def test_updates_are_applied_exactly_once() -> None:
    report = Report()
    updating = 0
    for seed in range(40):
        world = SimulatedWorld(seed)
        if world.updating:
            updating += 1
            note(world.run(), report)
        else:
            world.loop.finish()
    assert report.problems == []
    assert updating > 10
    assert report.counts["operations checked in simulation"] > 200


def test_documents_show_which_changes_are_in_them_and_how_often() -> None:
    value = replayed([(3, "add"), (4, "append"), (5, "update"), (2, "append"), (3, "add")])
    assert sorted(visible(value)) == [2, 3, 3, 4, 5]
    assert (value.log, value.top, value.last) == ([4, 5, 2], 5, 5)
    assert visible(replayed([(3, "add"), (9, "set"), (1, "add")])) == [9, 1]
    assert document(b"{}") == replayed([])


@pytest.mark.parametrize(
    ("changes", "problem", "kind"),
    [
        pytest.param(
            broken(
                scripts.PUT,
                "      marked[#marked + 1] = keys[i]\n",
                "      if string.sub(bodies[i], 1, 1) ~= 'u' then marked[#marked + 1] = keys[i] end\n",
            ),
            "I2",
            Folding,
            id="an update leaves no mark",
        ),
        pytest.param(
            broken(
                scripts.ACK,
                "NEVER, '?', '', string.sub(record, left))",
                "base.version, base.kind, base.payload, string.sub(record, left))",
            ),
            "I7: the record of",
            SimulatedWorld,
            id="what is saved is removed, but not the base before it",
            marks=pytest.mark.long,
        ),
        pytest.param(
            broken(
                scripts.ACK,
                "if newer(last, saved) then\n      origin",
                "if last == string.sub(record, 1, 8) then\n      origin",
            ),
            "I2",
            SimulatedWorld,
            id="more is removed than is saved",
            marks=pytest.mark.long,
        ),
        pytest.param(
            broken(
                scripts.ACK, "or (base.kind ~= '?' and newer(base.version, saved)) then return end", "then return end"
            ),
            "I2",
            SimulatedWorld,
            id="a put that came meanwhile is removed",
        ),
        pytest.param(
            broken(scripts.READ_UPDATES, "redis.call('SETRANGE', name, HEADER + 8, string.sub(record, 1, 8))", ""),
            "hang",
            SimulatedWorld,
            id="a flusher doesn't note what it has read",
            marks=pytest.mark.long,
        ),
        pytest.param(
            broken(scripts.PUT, "if REQUEST <= last then", "if REQUEST <= last and not SPECIAL then"),
            "I5",
            SimulatedWorld,
            id="a repeated request of updates is applied again",
            marks=pytest.mark.long,
        ),
        pytest.param(
            broken(scripts.FOLD, " or string.sub(record, AT, AT + #READ - 1) ~= READ then", " then"),
            "",
            Folding,
            id="entries are folded that have changed meanwhile",
        ),
        pytest.param(
            broken(scripts.PUT, "if not met then", "if false then"),
            "expected",
            SimulatedWorld,
            id="conditions aren't checked",
        ),
        pytest.param(
            broken(scripts.PUT, "write_all('HDEL', TOKENS, keys)", ""),
            "expected",
            Contended,
            id="writes leave tokens where they are",
            marks=pytest.mark.long,
        ),
        pytest.param(
            broken(scripts.DROP, "if #dropped > 0 then note_dropped(versions) end", ""),
            "I7: flush",
            SimulatedWorld,
            id="dropped versions aren't noted",
            marks=pytest.mark.long,
        ),
        pytest.param(
            Changes(based=False),
            "I3",
            SimulatedWorld,
            id="the backend ignores what a record is based on",
            marks=pytest.mark.long,
        ),
    ],
)
def test_broken_updates_are_found(changes: Changes, problem: str, kind: type[SimulatedWorld]) -> None:
    problem_of(changes, problem, kind)


@pytest.mark.long
def test_ignoring_what_the_backend_holds_already_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    settled: Callable[[PendingRecord, Record | None], Record] = vars(settling)["settled"]

    def all_applied(pending: PendingRecord, stored: Record | None) -> Record:
        record = settled(pending, stored)
        base = pending.base
        if record.based_on is None or (base is not None and base.version > record.based_on):
            return record
        begin = stored.payload if stored is not None and not stored.deleted else None
        value = apply(pending.codec, begin, [entry.payload for entry in pending.entries])
        return Record(pending.key, pending.version, value or b"", deleted=value is None, based_on=record.based_on)

    monkeypatch.setattr(settling, "settled", all_applied)
    problem_of(Changes(), "I7")


def test_folding_what_a_flusher_has_read_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "foldable", lambda pending: pending.entries)
    unchecked = broken(
        scripts.FOLD,
        "if not newer(string.sub(READ, 1, 8), string.sub(record, HEADER + 9, HEADER + 16)) then",
        "if false then",
    )
    problem_of(unchecked, "hang")


def test_folded_updates_that_say_less_than_they_are_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "Entry", lambda _, last, payload: Entry(last, last, payload))
    problem_of(Changes(), "has an entry of")


@pytest.mark.long
def test_confirming_a_write_by_a_later_version_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flush_waiter, "_may_be_without", lambda *_: False)
    problem_of(Changes(), "I7: flush")
