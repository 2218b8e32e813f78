"""Records with updates, and what becomes of them: pure decisions, without Redis, backend or clock.

What a write does to a value is its version alone: a *content* is a tuple of versions. The first is that of the put or
delete that it began with, 0 where it began with nothing; the others are those of the updates that were applied to it,
in the order in which they were. So whatever is lost, doubled or out of order can be seen in it. An *entry* is a tuple
of the versions of the updates that are folded into it, as a rule of one.

- A record is its base and its entries. `base`: the version of the put or delete that it began with, 0 if the backend
  alone knows it. A record without entries is nothing but a base, and may stand for a tombstone.
- `noted`: how many of its entries a flusher may have read. Only those behind them may be folded.
"""

from collections.abc import Collection
from enum import Enum
from typing import Final, NamedTuple

Drops = Collection[str]
Content = tuple[int, ...]
Entry = tuple[int, ...]
Entries = tuple[Entry, ...]

NOTHING: Final[Content] = (0,)
"""The content of a key that was never written."""


class Pending(NamedTuple):
    """A record with entries; one without is its version alone."""

    base: int
    entries: Entries
    noted: int = 0


def content_of(version: int) -> Content:
    """Of a put or a delete."""
    return (version,)


def appended(record: int, pending: Pending | tuple[()], entry: Entry) -> Pending:
    """A record with one more entry: on whatever there is, or on what the backend alone knows."""
    if pending:
        return Pending(pending.base, (*pending.entries, entry), pending.noted)
    return Pending(record, (entry,))


def work_out(pending: Pending, held: int, content: Content, drops: Drops = ()) -> Content | None:
    """What a record stands for over what the backend holds: that version, and its content.

    A base above it counts, then all entries; else the backend's content, then the entries above it. None if what the
    backend holds is from the middle of an entry.
    """
    base, entries, _ = pending
    if base and (base > held or "a base has its version" in drops):
        content, above = content_of(base), entries
    elif "entries up to what is held are passed over" in drops:
        above = entries
    elif any(is_inside(entry, held) for entry in entries) and "a folded entry has its range" not in drops:
        return None
    else:
        above = tuple(entry for entry in entries if entry[-1] > held)
    return content + tuple(update for entry in above for update in entry)


def knows_all(pending: Pending, epoch: int, drops: Drops) -> bool:
    """Whether a mutant works a record out without the backend, at a server of that epoch.

    Where the base is of that epoch, this isn't wrong: the record has all that was written since. A get that does so
    also works while the backend is down; `test_model` shows that nothing is wrong with that.
    """
    present = pending.base >> 8 == epoch and asks_less(drops)
    return bool(pending.base) and (present or "the backend is asked" in drops)


def asks_less(drops: Drops) -> bool:
    return "the backend is asked also where the base is of the present epoch" in drops


def is_unfit(content: Content) -> bool:
    """Whether an operation in it can't be applied to anything. The lowest bit of an update's version says so."""
    return any(update & 1 for update in content[1:])


def is_inside(entry: Entry, held: int) -> bool:
    """Whether what is held has some of what is folded into an entry, and not the rest: which, nobody can tell."""
    return entry[0] <= held < entry[-1]


def has_version(pending: Pending, version: int, drops: Drops = ()) -> bool:
    """Whether a record is what had that version when it was read, with updates that came since at most.

    Neither if something was put since, nor if it is that of a replica which hadn't got as far: what failed isn't in it.
    """
    if "what has failed is in the record" in drops:
        return pending.base <= version
    return version == pending.base or any(entry[-1] == version for entry in pending.entries)


def trimmed(pending: Pending, saved: int, drops: Drops = ()) -> Pending | tuple[()]:
    """What stays of a record that was written since it was read, when that is saved; () if nothing does.

    A put or delete that came since is unsaved, and all that follows it. Else the backend has the base and what is
    saved, and only later entries stay: with the base they would be one content too few.
    """
    base, entries, noted = pending
    if base > saved:
        return pending
    if "trim leaves the entries above what is saved" in drops:
        rest = entries[-1:]
    else:
        rest = tuple(entry for entry in entries if entry[-1] > saved)
    if not rest:
        return ()
    noted = max(0, noted - (len(entries) - len(rest)))
    return Pending(base if "a trimmed record has no base" in drops else 0, rest, noted)


def foldable(pending: Pending, drops: Drops = ()) -> list[tuple[int, Entries]]:
    """What a writer may fold into one: places and neighbours behind the note, of one epoch."""
    first = 0 if "only entries behind the note are folded" in drops else pending.noted
    slices = []
    for start in range(first, len(pending.entries) - 1):
        for stop in range(start + 2, len(pending.entries) + 1):
            some = pending.entries[start:stop]
            epochs = {version >> 8 for entry in some for version in entry}
            if len(epochs) == 1 or "entries of one epoch are folded" in drops:
                slices.append((start, some))
    return slices


def folded(pending: Pending, start: int, some: Entries, drops: Drops = ()) -> Pending:
    """The record with these entries as one, if they still stand there behind the note; else unchanged."""
    stop = start + len(some)
    if pending.entries[start:stop] != some and "a fold replaces what it has read" not in drops:
        return pending
    # Not for the sake of what flushers have read, they have read all of these or none, but for the note's own: it is a
    # place in the record, and would be one in the middle of an entry.
    if start < pending.noted and "only entries behind the note are folded" not in drops:
        return pending
    one = tuple(version for entry in some for version in entry)
    return pending._replace(entries=(*pending.entries[:start], one, *pending.entries[stop:]))


class Decision(Enum):
    """What put decides about a conditional write."""

    WRITE = "write"
    MISMATCH = "another version is there"
    AGAIN = "it has to be looked up again"


def decide(
    record: int, epoch: int, token: int, *, expected: int, named: int, newest: int, drops: Drops = ()
) -> Decision:
    """By the record if it is of the present epoch; else by what its sender has looked up behind the token it names.

    `expected` and `newest`: a version; 0, and in `newest` also a tombstone, is absent.
    """
    if record and (record >> 8 == epoch or "a record of an older epoch decides nothing" in drops):
        newest = record
    elif "a conditional write names its token" not in drops:
        if not named or named != token:
            return Decision.AGAIN
        if named >> 8 != epoch and "a token is void in another epoch" not in drops:
            return Decision.AGAIN
    absent = not newest or newest & 1
    return Decision.WRITE if newest == expected or (absent and not expected) else Decision.MISMATCH
