"""Faults count only where the histories show that they took effect."""

from pathlib import Path

import pytest

from tests.proofs.chaos.evidence import Evidence, Faults, Span
from tests.proofs.chaos.history import NEVER, History, Operation, Recorder, Save, read_history

S = 1_000_000_000


def save(worker: int, begun: float, ended: float | None, *versions: int, error: str = "") -> Save:
    end = NEVER if ended is None else int(ended * S)
    return Save(worker, int(begun * S), end, [("k", version, version) for version in versions], error)


def span(begun: float, ended: float, worker: int = 0) -> Span:
    return Span(int(begun * S), int(ended * S), worker)


def test_history_is_read_back_but_for_a_torn_last_line(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 4)
    recorder.end(recorder.begin("set", {"a": 41, "b": 42}, "fsync"), "ok", {"a": 7, "b": 8})
    recorder.end(recorder.begin("get", ["a", "c"]), "ok", {"a": 41})
    recorder.end(recorder.begin("get", ["a"]), "failed", "why")
    recorder.end(recorder.begin("set", {"a": 43}), "failed", "why")
    recorder.end(recorder.begin("save", [("a", 7, 41)]), "ok")
    lost = recorder.begin("delete", ["a"])
    recorder.end(lost, "ok", {"a": 9})
    path = tmp_path / "4.jsonl"
    path.write_bytes(path.read_bytes()[:-3])
    history = read_history(tmp_path)
    assert [(each.key, each.kind, each.outcome, each.value, each.version) for each in history.operations] == [
        ("a", "set", "ok", 41, 7), ("b", "set", "ok", 42, 8), ("a", "get", "ok", 41, 0), ("c", "get", "ok", None, 0),
        ("a", "set", "failed", 43, 0), ("a", "delete", "unknown", None, 0),
    ]  # fmt: skip
    assert history.operations[0].invoked < history.operations[0].completed < history.operations[2].invoked
    assert [(each.records, each.done) for each in history.saves] == [([("a", 7, 41)], True)]
    assert history.pending[4] == 1


def test_history_of_a_call_that_failed_in_part_is_read_back_key_by_key(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 4)
    told = {"a": ["ok", 7], "b": ["unknown", "lost"], "c": ["failed", "full"]}
    recorder.end(recorder.begin("set", {"a": 41, "b": 42, "c": 43}, "fsync"), "partly", told)
    recorder.end(
        recorder.begin("get", ["a", "b", "c"]), "partly", {"a": ["ok", 41], "b": ["ok", None], "c": ["failed", ""]}
    )
    operations = read_history(tmp_path).operations
    assert [(each.key, each.kind, each.outcome, each.value, each.version, each.reason) for each in operations] == [
        ("a", "set", "ok", 41, 7, ""), ("b", "set", "unknown", 42, 0, "lost"), ("c", "set", "failed", 43, 0, "full"),
        ("a", "get", "ok", 41, 0, ""), ("b", "get", "ok", None, 0, ""),
    ]  # fmt: skip
    assert [each.completed == NEVER for each in operations] == [False, True, True, False, False]


def test_kill_counts_only_in_the_middle_of_something() -> None:
    history = History(pending={1: 1, 2: 0})
    assert Evidence(history, Faults(kills=[span(1, 2, 1), span(1, 2, 2)])).kills_at_work() == 1


def test_kill_of_the_server_counts_only_while_it_is_asked_something() -> None:
    asked = Operation(1, "k", "set", 2 * S, NEVER, "unknown", 1, told=3 * S)
    faults = Faults(server_kills=[span(1, 1.1), span(2.5, 2.6), span(4, 4.1)])
    assert Evidence(History([asked]), faults).server_kills_at_work() == 1


def test_unknown_write_is_bounded_by_the_death_of_who_could_have_applied_it() -> None:
    reported = Operation(1, "k", "set", 2 * S, NEVER, "unknown", 1, told=3 * S)
    killed = Operation(2, "k", "set", 2 * S, NEVER, "unknown", 1)
    living = Operation(3, "k", "set", 2 * S, NEVER, "unknown", 1)
    faults = Faults(kills=[span(2, 2.2, 2)], server_kills=[span(2.5, 2.6), span(4, 4.1)])
    Evidence(History([reported, killed, living]), faults).bound_unknown()
    assert [each.completed / S for each in (reported, killed)] == [pytest.approx(4.1), pytest.approx(2.6)]
    assert living.completed == NEVER


def test_recovery_is_when_another_saves_what_the_dead_was_saving() -> None:
    saves = [save(1, 1, None, 5), save(2, 1.5, 1.6, 4), save(2, 2.5, 3, 5), save(2, 4, 5, 6)]
    assert Evidence(History(saves=saves), Faults(kills=[span(2, 2, 1)])).recoveries(0.25) == [pytest.approx(0.75)]
    assert Evidence(History(saves=saves), Faults(kills=[span(2, 2, 2)])).recoveries(0.25) == []


def test_freeze_counts_only_if_the_lease_was_taken_over_meanwhile_and_it_woke() -> None:
    frozen = Faults(freezes=[span(2, 4, 1)])
    other = save(2, 3, 3.5, 5)
    for own, others, last, counted in [
        (save(1, 1, 5, 5), [other], 5, 1),
        (save(1, 1, 5, 5), [other], 3, 0),
        (save(1, 1, 1.5, 5), [other], 5, 0),
        (save(1, 1, 5, 5), [save(2, 3, 4.5, 5)], 5, 0),
        (save(1, 1, 5, 5), [save(2, 3, 3.5, 4)], 5, 0),
    ]:
        history = History(saves=[own, *others], last={1: last * S})
        assert Evidence(history, frozen).frozen_past_the_lease() == counted


def test_outage_counts_only_if_saves_were_held_up() -> None:
    outage = span(2, 4)
    before, after = save(1, 1, 1.5, 1), save(1, 5, 6, 3)
    for middle, counted in [(save(1, 1.9, 5, 2), True), (save(1, 2, 3, 2, error="x"), True), (save(1, 2, 3, 2), False)]:
        evidence = Evidence(History(saves=[before, middle, after]), Faults())
        assert evidence.saves_held_up(outage) is counted
    failed = Evidence(History(saves=[save(1, 2, 3, 2, error="disk is full")]), Faults())
    assert failed.saves_failed(outage, "full")
    assert not failed.saves_failed(outage, "locked")
    assert not failed.saves_done(outage)
