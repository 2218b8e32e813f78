"""Proves from histories that each update was applied exactly once, in one order, and that reads show that order.

A tally and a list have the ids of their updates. What they have in the end is the order in which the updates took
effect, so an update has the rank of its place there, and a read that of the last update that it shows. As in
`checker`, the history is linearizable in that order if and only if nothing was invoked after something of a higher rank
had completed. A count has no ids: it lies between what was acknowledged and what may have been applied.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from itertools import pairwise
from typing import Any

from tests.proofs.chaos import tallies
from tests.proofs.chaos.checker import Violation, Wrong, told
from tests.proofs.chaos.history import Operation


def check_sums(
    operations: Iterable[Operation],
    final: Mapping[str, Any],
    told_lost: AbstractSet[tuple[str, int]] = frozenset(),
    *,
    looks: bool = True,
) -> list[Violation]:
    """Checks all keys that only updates change.

    Args:
        operations: of all writers; others than updates and looks are left out.
        final: key -> the value in the backend, when all is drained.
        told_lost: keys and versions of acknowledged updates of which `flush` has said that they are lost.
        looks: whether reads are compared, too. They can't be if updates that were read may be lost later.
    """
    groups: dict[str, list[Operation]] = defaultdict(list)
    for each in operations:
        if each.kind == "update" or (each.kind == "look" and looks):
            groups[each.key].append(each)
    found: list[Violation] = []
    for key in groups.keys() | final.keys():
        check = _check_count if tallies.is_count(key) else _check_ids
        found += check(key, groups[key], final.get(key), told_lost)
    return found


def check_conditions(operations: Iterable[Operation], *, across_epochs: bool = True) -> list[Violation]:
    """Checks that between the version that a conditional write expected and its own there is no other.

    Args:
        operations: of all writers, with the versions of unknown writes as far as they are known.
        across_epochs: False if histories were lost: then only versions of one epoch are compared.
    """
    groups: dict[str, list[Operation]] = defaultdict(list)
    doubtful: set[str] = set()  # keys that a delete of unknown version may have removed at any time
    for each in operations:
        if each.writes and each.version:
            groups[each.key].append(each)
        elif each.kind == "delete" and each.outcome == "unknown":
            doubtful.add(each.key)
    found: list[Violation] = []
    for key, writes in groups.items():
        writes.sort(key=lambda each: each.version)
        for before, write in pairwise(writes):
            if write.expected is None or (not across_epochs and before.version >> 32 != write.version >> 32):
                continue
            if write.expected == 0:
                wrong = before.kind != "delete" and key not in doubtful
            else:
                wrong = write.expected < before.version
            if wrong:
                expected = f"{write.expected >> 32}.{write.expected & 0xFFFFFFFF}" if write.expected else "nothing"
                found.append(
                    Violation("overwritten", key, f"{told(before)} by {told(write)}, which expected {expected}")
                )
    return found


def _check_count(
    key: str, operations: list[Operation], value: Any, told_lost: AbstractSet[tuple[str, int]]
) -> list[Violation]:
    updates = [each for each in operations if each.writes and each.outcome != "failed"]
    acknowledged = [each for each in updates if each.outcome == "ok"]
    lost = sum((key, each.version) in told_lost for each in acknowledged)
    found = _compare(key, value or 0, len(acknowledged) - lost, len(updates), "in the end")
    begun, ended = sorted(each.invoked for each in updates), sorted(each.completed for each in acknowledged)
    for look in operations:
        if not look.writes:
            least = sum(completed < look.invoked for completed in ended)
            most = sum(invoked < look.completed for invoked in begun)
            found += _compare(key, look.value or 0, least, most, told(look))
    return found


def _compare(key: str, value: int, least: int, most: int, where: str) -> list[Violation]:
    if least <= value <= most:
        return []
    wrong: Wrong = "lost" if value < least else "duplicate"
    return [Violation(wrong, key, f"{value} {where}, and {least} to {most} updates of 1 were applied")]


def _check_ids(
    key: str, operations: list[Operation], value: Any, told_lost: AbstractSet[tuple[str, int]]
) -> list[Violation]:
    found: list[Violation] = []
    if wrong := tallies.contradiction(key, value):
        found.append(Violation("torn", key, wrong))
    ids = tallies.ids_in(key, value)
    for number, times in Counter(ids).items():
        if times > 1:
            found.append(Violation("duplicate", key, f"update {number} was applied {times} times"))
    updates = {each.value: each for each in operations if each.writes}
    place = {number: at for at, number in enumerate(ids)}
    for number in place.keys() - updates.keys():
        found.append(Violation("invented", key, f"update {number}"))
    ranked: list[tuple[tuple[int, int], Operation]] = []
    for each in operations:
        at = -1 if each.value is None else place.get(each.value)
        if at is not None:
            ranked.append(((at, not each.writes), each))
            if each.writes and each.outcome == "failed":
                found.append(Violation("refused", key, f"{told(each)} was applied"))
        elif not each.writes:
            found.append(Violation("lost", key, f"what {told(each)} showed is not there in the end"))
        elif each.outcome == "ok" and (key, each.version) not in told_lost:
            found.append(Violation("lost", key, told(each)))
    ranked.sort(key=lambda each: each[0])
    return [*found, *_scan(key, ranked), *_versions(key, ranked)]


def _scan(key: str, ranked: list[tuple[tuple[int, int], Operation]]) -> list[Violation]:
    """Whether anything was invoked after something of a higher rank had completed."""
    found: list[Violation] = []
    latest: Operation | None = None
    rank, group = (-2, 0), list[Operation]()
    for own, operation in ranked:
        if own != rank:
            latest = max([*group, *([latest] if latest else [])], key=lambda each: each.invoked, default=None)
            rank, group = own, []
        group.append(operation)
        if latest is not None and latest.invoked > operation.completed:
            wrong: Wrong = "order" if latest.writes else "stale"
            found.append(Violation(wrong, key, f"{told(latest)} after {told(operation)}"))
    return found


def _versions(key: str, ranked: list[tuple[tuple[int, int], Operation]]) -> list[Violation]:
    """Whether updates were applied in the order of their versions."""
    applied = [each for _, each in ranked if each.writes and each.version]
    return [
        Violation("order", key, f"{told(after)} after {told(before)}")
        for before, after in pairwise(applied)
        if before.version > after.version
    ]
