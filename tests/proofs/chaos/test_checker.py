"""The checker finds every kind of wrong history, and says nothing against a right one."""

from typing import Any

import pytest

from tests.proofs.chaos.checker import Held, account, check, compare, linearize
from tests.proofs.chaos.history import NEVER, Operation, Save

S = 1_000_000_000
EPOCH = 1 << 32


def write(value: int | None, version: int, begun: float, ended: float | None, **more: Any) -> Operation:
    """A set of a value, or a delete; with `ended` None its outcome is unknown."""
    kind: Any = "delete" if value is None else "set"
    outcome: Any = more.pop("outcome", "ok" if ended is not None else "unknown")
    end = NEVER if ended is None else int(ended * S)
    return Operation(1, "k", kind, int(begun * S), end, outcome, value, EPOCH | version if version else 0, **more)


def read(value: int | None, begun: float, ended: float) -> Operation:
    return Operation(2, "k", "get", int(begun * S), int(ended * S), "ok", value)


def save(begun: float, *records: tuple[int, int | None], ended: float | None = None) -> Save:
    end = NEVER if ended is None else int(ended * S)
    return Save(3, int(begun * S), end, [("k", EPOCH | version, value) for version, value in records], "")


def found(*operations: Operation) -> list[str]:
    return [each.wrong for each in linearize(operations)]


GOOD: dict[str, list[Operation]] = {
    "nothing": [],
    "one after the other": [read(None, 0, 1), write(7, 1, 2, 3), read(7, 4, 5), write(None, 2, 6, 7), read(None, 8, 9)],
    "read of a write that is on its way": [write(7, 1, 0, 9), read(7, 1, 2), read(7, 3, 4)],
    "read of the older while the newer is on its way": [write(7, 1, 0, 1), write(8, 2, 2, 9), read(7, 3, 4)],
    "newer, then older version, at the same time": [write(8, 2, 0, 9), write(7, 1, 1, 5), read(8, 6, 7)],
    "reads at the same time may differ": [write(7, 1, 0, 1), write(8, 2, 2, 9), read(8, 3, 8), read(7, 4, 5)],
    "unknown that never took effect": [write(7, 1, 0, 1), write(8, 0, 2, None), read(7, 8, 9)],
    "unknown that took effect late": [write(7, 1, 0, 1), write(8, 0, 2, None), read(7, 3, 4), read(8, 8, 9)],
    "unknown, read, overwritten": [write(8, 0, 0, None), read(8, 2, 3), write(9, 5, 4, 5), read(9, 6, 7)],
    "an unknown delete explains nothing there": [write(7, 1, 0, 1), write(None, 0, 2, None), read(None, 4, 5)],
    "nothing there in the middle of two deletes": [
        write(None, 1, 0, 9), write(7, 2, 0, 9), write(None, 3, 0, 9),
        read(None, 1, 2), read(7, 3, 4), read(None, 5, 6),
    ],
    "nothing there, before and after": [
        write(7, 1, 2, 9), write(None, 2, 2, 9), read(None, 0, 1), read(None, 3, 4), read(7, 3, 6), read(None, 7, 8),
    ],
    "refused, and never seen": [write(7, 1, 0, 1), write(8, 0, 2, 3, outcome="failed"), read(7, 4, 5)],
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_right_histories_pass(name: str) -> None:
    assert found(*GOOD[name]) == []
    assert found(*reversed(GOOD[name])) == []


BAD: dict[str, tuple[list[Operation], str]] = {
    "stale read": ([write(7, 1, 0, 1), write(8, 2, 2, 3), read(7, 4, 5)], "stale"),
    "stale read of an older write that ended later": ([write(8, 2, 0, 1), write(7, 1, 0, 3), read(7, 4, 5)], "stale"),
    "reads go back": ([write(7, 1, 0, 1), write(8, 2, 2, 9), read(8, 3, 4), read(7, 5, 6)], "stale"),
    "lost": ([write(7, 1, 0, 1), read(None, 2, 3)], "lost"),
    "lost after it was read, unacknowledged": ([write(7, 1, 0, 9), read(7, 1, 2), read(None, 3, 4)], "lost"),
    "lost, deleted long before": ([write(None, 1, 0, 1), write(7, 2, 2, 3), read(None, 4, 5)], "lost"),
    "lost, deleted only later": ([write(7, 1, 0, 1), read(None, 2, 3), write(None, 2, 4, 5)], "lost"),
    "resurrected": ([write(7, 1, 0, 1), write(None, 2, 2, 3), read(7, 4, 5)], "resurrected"),
    "gone, and there again": ([write(7, 1, 0, 1), write(None, 2, 2, 9), read(None, 3, 4), read(7, 5, 6)], "lost"),
    "future read": ([read(7, 0, 1), write(7, 1, 2, 3)], "future"),
    "future read of an unknown write": ([read(7, 0, 1), write(7, 0, 2, None)], "future"),
    "versions against real time": ([write(7, 2, 0, 1), write(8, 1, 2, 3)], "order"),
    "older version written after the newer was read": (
        [write(8, 2, 0, 9), read(8, 1, 2), write(7, 1, 3, 4)], "order",
    ),
    "one version for two writes": ([write(7, 1, 0, 1), write(8, 1, 0, 1)], "order"),
    "invented": ([write(7, 1, 0, 1), read(9, 2, 3)], "invented"),
    "refused, and read": ([write(8, 0, 0, 1, outcome="failed"), read(8, 2, 3)], "refused"),
    "unknown, seen, overwritten and seen again": (
        [write(8, 0, 0, None), read(8, 1, 2), write(9, 5, 3, 4), read(8, 5, 6)], "stale",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_wrong_histories_are_found(name: str) -> None:
    operations, wrong = BAD[name]
    assert wrong in found(*operations)
    assert wrong in found(*reversed(operations))


def test_unknown_delete_excuses_nothing_once_it_is_bounded_and_overwritten() -> None:
    delete = write(None, 0, 0, None)
    history = [delete, write(7, 2, 3, 4), read(None, 5, 6)]
    assert found(*history) == []
    delete.completed = 2 * S  # its server was killed then
    assert found(*history) == ["lost"]


def test_version_of_an_unknown_write_is_learned_from_its_save() -> None:
    history = [write(7, 1, 0, 1), write(8, 0, 2, None), write(9, 3, 4, 5), read(8, 8, 9)]
    assert found(*history) == []
    assert [each.wrong for each in check(history, [save(3, (2, 8))], {"k": Held(9, EPOCH | 3)})] == ["stale"]


def test_unknown_delete_that_was_saved_is_known_to_have_been_applied() -> None:
    history = [write(7, 1, 0, 1), write(None, 0, 2, None), read(7, 8, 9)]
    final = {"k": Held(None, EPOCH | 2)}
    assert check(history, [], final) == []
    assert [each.wrong for each in check(history, [save(3, (2, None))], final)] == ["resurrected"]


def wrong_saves(history: list[Operation], *saves: Save, final: Held) -> list[str]:
    return [each.wrong for each in check(history, saves, {"k": final})]


def test_what_is_saved_has_to_have_been_written_once() -> None:
    seven = Held(7, EPOCH | 1)
    history = [write(7, 1, 0, 1)]
    assert wrong_saves(history, save(2, (1, 7)), final=seven) == []
    assert wrong_saves(history, save(2, (1, 7)), save(3, (1, 7)), final=seven) == []
    assert wrong_saves(history, save(2, (2, 7)), final=Held(7, EPOCH | 2)) == ["duplicate"]
    assert wrong_saves(history, save(2, (2, 9)), final=seven) == ["invented"]
    assert wrong_saves(history, save(2, (2, None)), final=seven) == ["duplicate"]
    assert "future" in wrong_saves([write(7, 1, 5, 6)], save(2, (1, 7)), final=seven)
    assert wrong_saves([*history, write(8, 2, 0, 1)], save(2, (2, 7)), final=Held(8, EPOCH | 2)) == ["torn", "torn"]
    assert wrong_saves([*history, write(8, 0, 2, 3, outcome="failed")], save(4, (2, 8)), final=seven) == ["refused"]


def test_unknown_write_that_was_applied_twice() -> None:
    history = [write(7, 0, 0, None)]
    assert wrong_saves(history, save(2, (1, 7)), save(3, (2, 7)), final=Held(7, EPOCH | 2)) == ["duplicate"]


def test_used_up_versions_are_accounted_for() -> None:
    gap = [write(7, 1, 0, 1), write(8, 4, 2, 3)]
    assert [each.wrong for each in account(gap)] == ["duplicate"]
    assert account([*gap, write(9, 0, 2, None), write(10, 0, 2, None)]) == []


@pytest.mark.parametrize(
    ("final", "wrong"),
    [
        (Held(8, EPOCH | 2), ""),
        (Held(9, EPOCH | 3), ""),
        (Held(None), "lost"),
        (Held(7, EPOCH | 1), "lost"),
        (Held(7, EPOCH | 2), "torn"),
    ],
)
def test_backend_has_to_hold_the_last_acknowledged_write(final: Held, wrong: str) -> None:
    history = [write(7, 1, 0, 1), write(8, 2, 2, 3), write(9, 0, 4, None)]
    assert [each.wrong for each in compare(history, {"k": final})] == ([wrong] if wrong else [])


def test_backend_that_has_a_deleted_value() -> None:
    history = [write(7, 1, 0, 1), write(None, 2, 2, 3)]
    assert [each.wrong for each in compare(history, {"k": Held(7, EPOCH | 1)})] == ["resurrected"]
    assert [each.wrong for each in compare(history, {})] == ["lost"]
    assert compare(history, {"k": Held(7, EPOCH | 1)}, {("k", EPOCH | 2)}) == []


def test_rounds_begin_with_what_was_there() -> None:
    later = [read(7, 2, 3), write(8, 1, 4, 5), read(8, 6, 7)]
    assert linearize(later, {"k": Held(7)}) == []
    assert [each.wrong for each in linearize(later, {"k": Held(None)})] == ["invented"]
    assert [each.wrong for each in linearize([read(None, 2, 3)], {"k": Held(7)})] == ["lost"]
    assert linearize([read(None, 2, 3)], {"k": None}) == []


def test_random_histories_of_a_real_register_pass_and_a_changed_read_is_found() -> None:
    """A register that takes effect at a random time inside of each operation; then one read is made older."""
    import random  # noqa: PLC0415

    for seed in range(60):
        rng = random.Random(seed)
        effects = sorted(rng.uniform(0, 100) for _ in range(80))
        value, version, history = None, 0, list[Operation]()
        for number, at in enumerate(effects):
            begun, ended = at - rng.random() * 3, at + rng.random() * 3
            dice = rng.random()
            if dice < 0.5:
                history.append(read(value, begun, ended))
                continue
            version += 1
            value = None if dice < 0.65 else number
            history.append(write(value, version, begun, ended if rng.random() < 0.8 else None))
            if history[-1].outcome == "unknown" and rng.random() < 0.5:
                history[-1].version = 0
        rng.shuffle(history)
        assert linearize(history) == []
        reads = [each for each in history if each.kind == "get" and each.value is not None]
        wrong = min(reads, key=lambda each: each.invoked)
        history.append(read(wrong.value, 200, 201))
        if any(each.writes and each.version and each.invoked > wrong.completed for each in history):
            assert linearize(history) != []
