"""What may become of writes when a replica that lags is promoted, in handmade rounds."""

from tests.proofs.chaos.checker import Held
from tests.proofs.chaos.history import History, Operation
from tests.proofs.chaos.promoting import Promoting, Round

S = 1_000_000_000
OLD, NEW = 1 << 32, 2 << 32


def write(value: int, version: int, begun: float, level: str = "memory") -> Operation:
    end = int((begun + 0.5) * S)
    return Operation(1, "k", "set", int(begun * S), end, "ok", value, version, level, told=end)


def read(value: int | None, begun: float, ended: float) -> Operation:
    return Operation(2, "k", "get", int(begun * S), int(ended * S), "ok", value, told=int(ended * S))


def wrong(operations: list[Operation], *, now: int | None, told_lost: set[int], final: Held) -> list[str]:
    """After a primary that was killed at 10 s, and an audit at 20 s that read `now`."""
    world = Promoting(0)
    world.told_lost = {("k", version) for version in told_lost}
    before = [each for each in operations if each.writes and each.invoked < 20 * S]
    world.check_survivor("k", before, Held(None), Held(now))
    world.rounds = [Round(10 * S, 20 * S, {"k": Held(now)}, 1)]
    return [each.wrong for each in world.verdict(History(operations), {"k": final})]


FIRST, LATEST = write(7, OLD | 1, 1, "replicated"), write(8, OLD | 2, 2)


def test_unconfirmed_write_may_be_lost_if_that_is_told() -> None:
    history = [FIRST, LATEST, read(8, 3, 4), read(7, 21, 22), write(9, NEW | 1, 23), read(9, 24, 25)]
    assert wrong(history, now=7, told_lost={OLD | 2}, final=Held(9, NEW | 1)) == []
    assert wrong(history[:-2], now=7, told_lost={OLD | 2}, final=Held(7, OLD | 1)) == []
    assert wrong(history[:-2], now=7, told_lost=set(), final=Held(7, OLD | 1)) == ["stale", "lost"]


def test_confirmed_write_is_never_lost() -> None:
    lost = {OLD | 1, OLD | 2}
    assert wrong([FIRST, LATEST], now=None, told_lost=lost, final=Held(None)) == ["lost"]


def test_lost_write_stays_lost() -> None:
    history = [FIRST, LATEST, read(7, 21, 22), read(8, 23, 24)]
    assert "invented" in wrong(history, now=7, told_lost={OLD | 2}, final=Held(7, OLD | 1))
    assert "resurrected" in wrong([FIRST, LATEST], now=7, told_lost={OLD | 2}, final=Held(8, OLD | 2))


def test_reads_within_a_round_are_linearizable_but_for_those_that_were_on_their_way() -> None:
    final = Held(8, OLD | 2)
    assert wrong([FIRST, LATEST, read(7, 4, 5)], now=8, told_lost=set(), final=final) == ["stale"]
    assert wrong([FIRST, LATEST, read(7, 9, 11)], now=8, told_lost=set(), final=final) == []
    assert wrong([FIRST, LATEST, read(7, 21, 22)], now=8, told_lost=set(), final=final) == ["invented"]


def test_first_look_shows_what_the_replica_had_or_something_newer() -> None:
    def seen(now: int | None, survived: int) -> list[str]:
        world = Promoting(0)
        world.check_first_look("k", [FIRST, LATEST], Held(None), Held(now), survived)
        return [each.wrong for each in world.found]

    for now, survived in [(8, OLD | 2), (8, OLD | 1), (7, OLD | 1), (None, 0), (7, 0)]:
        assert seen(now, survived) == []
    for now, survived in [(7, OLD | 2), (None, OLD | 1), (9, OLD | 1)]:
        assert seen(now, survived) == ["stale"]
