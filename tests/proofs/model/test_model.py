"""The model checker: the protocol is sound in small configurations, and every sentence of it is needed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.proofs.model.checker import explore
from tests.proofs.model.configurations import LARGE, SMALL
from tests.proofs.model.invariants import INVARIANTS, broken
from tests.proofs.model.left import Left
from tests.proofs.model.mutants import MUTANTS, Mutant
from tests.proofs.model.proof import PROOF, all_steps, examine, kill, shares
from tests.proofs.model.protocol import successors
from tests.proofs.model.records import Pending
from tests.proofs.model.rules import Configuration, Rules
from tests.proofs.model.states import Key, State
from tests.proofs.runner.report import Report

FOLDER = Path(__file__).parent

ONE = Configuration(name="one write", writes=("p",), flushers=1, left=Left(claims=1))


def state(**changes: object) -> State:
    """The first one, but for these fields of its only key, of the backend or of the state itself."""
    first = Rules.of(ONE).first_state()
    fields = {name: changes.pop(name) for name in Key._fields if name in changes}
    held = {name: changes.pop(name) for name in ("held", "highest") if name in changes}
    server = first.server._replace(keys=(Key(**fields),))  # type: ignore[arg-type] # of integers
    return first._replace(server=server, backend=first.backend._replace(**held), **changes)  # type: ignore[arg-type]


def updated(**changes: object) -> State:
    """The same where somebody updates."""
    contents = {"contents": changes.pop("contents", ((0,),))}
    first = state(**changes)
    owed = changes.get("owed", ((0,),))
    return first._replace(owed=owed, gone=((),), backend=first.backend._replace(**contents))  # type: ignore[arg-type] # of integers


SLOW = {
    "save what is newer, whatever it was worked out from",
    "fold over epochs",
    "take for saved what a failed save has left",
    "a folded entry without its first version",
    "decide by a record of an older epoch",
}
"""These take many seconds, as do all in which the former primary returns; the proof's first unit kills all mutants."""
QUICK = tuple(mutant for mutant in MUTANTS if not mutant.configuration.left.returns)


@pytest.mark.parametrize(
    "mutant",
    [pytest.param(each, marks=[pytest.mark.long] * (each.name in SLOW), id=each.name) for each in QUICK],
)
def test_mutant_is_killed_for_its_reason(mutant: Mutant) -> None:
    result = mutant.search()
    assert result.invariant == mutant.invariant
    assert result.trace


def test_slow_mutants_are_there() -> None:
    assert {mutant.name for mutant in QUICK} >= SLOW


@pytest.mark.long
def test_protocol_is_sound_and_every_step_happens() -> None:
    report, happened = Report(), set[str]()
    for configuration in SMALL:
        happened |= examine(configuration, report).steps
    assert report.problems == []
    assert report.counts["model states"] > 50_000
    assert happened == all_steps(), "a step that never happens proves nothing"


def test_protocol_is_sound_where_states_are_few() -> None:
    """The proof's second unit explores all of the small configurations."""
    report = Report()
    for configuration in SMALL[::8]:
        examine(configuration, report)
    assert report.problems == []
    assert report.counts["model states"] > 5000


def test_record_of_the_present_epoch_needs_no_backend() -> None:
    """A get of what was put and updated may answer while the backend is down, and a flusher save without a load."""
    drops = frozenset({"the backend is asked also where the base is of the present epoch"})
    for misfortunes in (Left(claims=2, folds=1), Left(claims=1, failovers=1)):
        puts_and_updates = Configuration(name="", writes=("puu",), flushers=1, readers=1, left=misfortunes)
        result = explore(puts_and_updates, drops)
        assert result.invariant == ""
        assert result.states > 1000


def test_articles_algorithm_fails_as_the_article_tells() -> None:
    (article,) = (mutant for mutant in MUTANTS if mutant.name == "the article's algorithm")
    assert article.search().trace == [
        "W1 puts a=e1.1",
        "F1 claims a=e1.1",
        "F1 watches a and reads e1.1",
        "W1 puts a=e1.2",
        "F2 claims a=e1.2",
        "F2 watches a and reads e1.2",
        "F2 saves a=e1.2 (the backend held nothing)",
        "F1 saves a=e1.1 (the backend held a=e1.2)",
        "F2 commits a=e1.2 by EXEC",
    ]


@pytest.mark.parametrize(
    ("wrong", "invariant"),
    [
        (state(record=258), "I1"),
        (state(record=258, dirty=1, lease=1), "I1"),
        (state(record=260, dead=258), "I1"),
        (state(floor=(258,)), "I2"),
        (state(floor=(259,)), "I6"),
        (state(floor=(260,), held=(258,), highest=(258,)), "I2"),
        (state(held=(258,), highest=(260,)), "I3"),
        (state(held=(258,), highest=(261,)), "I6"),
        (state(broken="I4"), "I4"),
        (updated(owed=((0, 258),)), "I7"),
        (updated(owed=((0, 258),), held=(260,), highest=(260,), contents=((0, 260),)), "I7"),
        (updated(held=(260,), highest=(260,), contents=((0, 258, 258),)), "I7"),
        (updated(held=(260,), highest=(260,), contents=((0, 260, 258),)), "I7"),
        (updated(record=260, dirty=1, pending=Pending(256, ((260,),)), owed=((258, 260),)), "I7"),
    ],
)
def test_what_is_wrong_is_seen(wrong: State, invariant: str) -> None:
    assert broken(wrong) == invariant


def test_a_sound_state_is_none_of_these() -> None:
    assert broken(state(record=260, dirty=1, floor=(260,), held=(258,), highest=(258,))) == ""
    pending = Pending(256, ((260,),))
    content = {"held": (258,), "highest": (258,), "contents": ((256, 258),)}
    assert broken(updated(record=260, dirty=1, pending=pending, owed=((256, 258, 260),), **content)) == ""


def test_mutants_drop_what_the_steps_know() -> None:
    source = "".join(path.read_text() for path in (*FOLDER.glob("*.py"), *FOLDER.glob("scripts/*.py")))
    known = {drop for mutant in MUTANTS for drop in mutant.drops}
    assert [drop for drop in known if f'"{drop}" in ' not in source and f'"{drop}" not in ' not in source] == []
    assert {mutant.invariant for mutant in MUTANTS} == set(INVARIANTS)


def test_names_and_configurations_differ() -> None:
    everything = SMALL + LARGE
    assert len({each.name for each in everything}) == len(everything)
    assert len({repr(each).split(", ", 1)[1] for each in everything}) == len(everything)
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert sorted(each.name for unit in shares() for each in unit) == sorted(each.name for each in LARGE)
    assert PROOF.long == len(shares()) + 2


def test_hashes_of_states_are_as_many_as_the_states() -> None:
    configuration = SMALL[1]
    rules = Rules.of(configuration)
    level = seen = {rules.first_state()}
    while level:
        level = {after for state in level for _, after in successors(state, rules)} - seen
        seen |= level
    assert len(seen) == explore(configuration).states > 10_000


def test_states_are_bounded_where_asked() -> None:
    result = explore(SMALL[0], most=1000)
    assert not result.complete
    assert 1000 <= result.states < 1010


def test_proof_tells_of_a_mutant_that_survives() -> None:
    report = Report()
    kill(Mutant("harmless", frozenset({"nothing that anybody knows"}), ONE, "I2"), report)
    assert report.problems == ["mutant 'harmless' survives: uv run python -m tests.proofs.model 'harmless'"]
    assert not report.counts


def test_proof_tells_of_a_configuration_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report()
    monkeypatch.setattr("tests.proofs.model.proof.explore", lambda *args, **options: MUTANTS[0].search())
    examine(ONE, report)
    assert report.lost == 1
    assert report.problems == ["I2 is broken after 9 steps: uv run python -m tests.proofs.model 'one write'"]


def test_command_prints_the_shortest_way() -> None:
    command = [sys.executable, "-m", "tests.proofs.model", "save whatever comes"]
    done = subprocess.run(command, cwd=FOLDER.parents[2], capture_output=True, text=True, check=True, timeout=60)
    assert "F1 saves a=e1.1 (the backend held a=e1.2)" in done.stdout
    assert "I3 is broken" in done.stdout
