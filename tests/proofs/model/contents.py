"""Where somebody updates: what the content of a key has to be, and whether what is there is right; I7."""

import itertools

from tests.proofs.model.records import Content, content_of, work_out
from tests.proofs.model.rules import UPDATING
from tests.proofs.model.states import Backend, Server, State, is_planted, put_at


def written(owed: tuple[Content, ...], key: int, versions: tuple[int, ...], letter: str) -> tuple[Content, ...]:
    """What there has to be after a write that was given these versions; of two puts that came together the later."""
    content = owed[key] + versions if letter in UPDATING else content_of(versions[-1])
    return put_at(owed, key, content)


def written_through(owed: tuple[Content, ...], key: int, version: int) -> tuple[Content, ...]:
    """What there has to be after a write-through is acknowledged: it, and the updates that were made after it."""
    if version < owed[key][0]:
        return owed
    later = (update for update in owed[key][1:] if update > version)
    return put_at(owed, key, (version, *later))


def content_at(server: Server, backend: Backend, key: int) -> Content | None:
    """What a get would work out, if nothing happened meanwhile. (Without the mutants' drops: this is what is true.)"""
    record, pending = server.keys[key].record, server.keys[key].pending
    held, content = backend.held[key], backend.contents[key]
    if is_planted(held):
        held = 0  # not one of ours: older than all
    if pending:
        return work_out(pending, held, content)
    return content_of(record) if record > held else content


def has_wrong_order(content: Content) -> bool:
    """Whether something is in it twice, or before something older."""
    return any(later <= earlier for earlier, later in itertools.pairwise(content))


def lacks(content: Content, owed: Content) -> bool:
    """Whether something that has to be in it isn't, nor is a later put or delete."""
    return any(version > content[0] and version not in content for version in owed)


def is_wrong(state: State) -> bool:
    """Whether I7 doesn't hold."""
    server, backend = state.server, state.backend
    for key, owed in enumerate(state.owed):
        if has_wrong_order(backend.contents[key]):
            return True
        if server.meta != server.identity:
            continue  # Nobody reads it; it takes no writes before an epoch begins.
        content = content_at(server, backend, key)
        if content is not None and (has_wrong_order(content) or lacks(content, owed)):
            return True
    return False


def without(state: State, key: int, given_up: set[int]) -> State:
    """After somebody, or a failover, has given up some of what a key had to have: it is lost."""
    base, *updates = state.owed[key]
    owed = (0 if base in given_up else base, *(version for version in updates if version not in given_up))
    gone = tuple(sorted({*state.gone[key], *given_up} - {0}))
    readers = tuple(
        reader._replace(owed=tuple(version for version in reader.owed if version not in given_up))
        if reader.key == key
        else reader
        for reader in state.readers
    )
    return state.to(owed=put_at(state.owed, key, owed), gone=put_at(state.gone, key, gone), readers=readers)


def confirmed(state: State, key: int, version: int) -> State:
    """After flush has said that a write is saved: that stays so, also if a failover had lost it."""
    owed = state.owed[key]
    if version <= owed[0] or version in owed:
        return state
    content = content_of(version) if version == state.backend.contents[key][0] else tuple(sorted((*owed, version)))
    return state.to(owed=put_at(state.owed, key, content))


def is_in(backend: Backend, key: int, version: int) -> bool:
    """Whether the backend holds a write, or a later put or delete."""
    content = backend.contents[key]
    return version in content or version < content[0]


def switched(state: State) -> State:
    """After a failover: from now on there has to be what is there, and the rest is lost.

    What was lost already stays so, even if a former primary brings it back: the backend may have passed it.
    """
    for key, before in enumerate(state.owed):
        content = content_at(state.server, state.backend, key)
        if content is None:
            content = state.backend.contents[key]
        state = without(state, key, {version for version in before if version and version not in content})
        gone = state.gone[key]
        base, *updates = content
        owed = (0 if base in gone else base, *(version for version in updates if version not in gone))
        state = state.to(owed=put_at(state.owed, key, owed))
    return state
