"""What all flushers do alike: saves in the backend, what may fail of them, and the way from one record to the next."""

from collections.abc import Iterator

from tests.proofs.model.records import Content, content_of
from tests.proofs.model.rules import Rules
from tests.proofs.model.scripts import Drops
from tests.proofs.model.states import (
    ACKING,
    COUNTED,
    DEAD,
    RETRY,
    WATCHING,
    Backend,
    Flusher,
    Server,
    State,
    put_at,
)

Save = tuple[()] | tuple[int, int, Content]
"""Of a key: a version, the one that it was worked out from or `IF_NEWER`, and the content; () where there is none."""

IF_NEWER = -1


def saved(backend: Backend, versions: tuple[int, ...], drops: Drops) -> Backend:
    """`Backend.save`: what is newer than what is held, tombstones like values."""
    held, highest, contents = list(backend.held), list(backend.highest), list(backend.contents)
    for at, version in enumerate(versions):
        if version and (version > held[at] or "saves are conditional" in drops):
            held[at] = 0 if version & 1 and "the backend keeps tombstones" in drops else version
            highest[at] = max(highest[at], version)
            if contents:
                contents[at] = content_of(version)
    return Backend(backend.epoch, tuple(held), tuple(highest), tuple(contents))


def failures(rules: Rules) -> tuple[int, ...]:
    """What may become of a record that couldn't be saved."""
    if rules.configuration.attempts:
        return (COUNTED,)
    return (RETRY, DEAD) if rules.configuration.dead else (RETRY,)


def saved_on(backend: Backend, saves: tuple[Save, ...], drops: Drops) -> Backend:
    """`Backend.save` of records with `based_on`: only over exactly that version, 0 for nothing."""
    held, highest, contents = list(backend.held), list(backend.highest), list(backend.contents)
    for at, save in enumerate(saves):
        if not save:
            continue
        version, based_on, content = save
        if based_on == IF_NEWER or "a save is based on a version" in drops:
            applies = version > held[at]
        else:
            applies = held[at] == based_on
        if applies:
            held[at], contents[at] = version, content
            highest[at] = max(highest[at], version)
    return Backend(backend.epoch, tuple(held), tuple(highest), tuple(contents))


def saves_of(flusher: Flusher) -> tuple[Save, ...]:
    """What a flusher saves: of records with entries what it has worked out, of others themselves if they are newer."""
    if flusher.watched:
        one = (flusher.watched, *flusher.found[flusher.at])
        return tuple(one if at == flusher.at else () for at in range(len(flusher.keys)))
    saves: list[Save] = []
    for version, fate, record, found in zip(flusher.versions, flusher.fates, flusher.read, flusher.found, strict=True):
        if not version or fate or (record and not found):
            saves.append(())
        elif found:
            saves.append((version, *found))
        else:
            saves.append((version, IF_NEWER, content_of(version)))
    return tuple(saves)


def some(saves: tuple[Save, ...], failing: tuple[int, ...]) -> tuple[tuple[Save, ...], tuple[Save, ...]]:
    """Those that fail, and the rest."""
    failed = tuple(save if each else () for save, each in zip(saves, failing, strict=True))
    rest = tuple(() if each else save for save, each in zip(saves, failing, strict=True))
    return failed, rest


def splits(versions: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Which of them fail, at least one, and which are saved."""
    members = sum(1 << bit for bit, version in enumerate(versions) if version)
    for failing in range(1, members + 1):
        if not failing & ~members:
            failed = tuple(version if failing >> bit & 1 else 0 for bit, version in enumerate(versions))
            rest = tuple(0 if failing >> bit & 1 else version for bit, version in enumerate(versions))
            yield failed, rest


def next_one(flusher: Flusher, rules: Rules, *, fate: int = RETRY) -> Flusher:
    """On to the next record of the claim, or to its ack, which removes nothing."""
    at = flusher.at + 1
    if fate == RETRY and "what EXEC has not removed is given back" in rules.drops:
        fate = 0
    fates = put_at(flusher.fates, flusher.at, fate) if flusher.keys[flusher.at] else flusher.fates
    over = at == len(rules.zeros)
    doing = ACKING if over else WATCHING
    versions = put_at(flusher.versions, flusher.at, flusher.watched)
    return Flusher(doing, flusher.claim, flusher.keys, versions, fates, 0 if over else at, deadline=flusher.deadline)


def connected(state: State, identity: int) -> tuple[Server | tuple[()], str]:
    """The server that a connection leads to, if it is still there."""
    if state.server.identity == identity:
        return state.server, "server"
    if state.old and state.old.identity == identity:
        return state.old, "old"
    return (), ""
