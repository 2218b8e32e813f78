"""Folds entries of updates of one key into fewer that do the same."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from asyncwb.updates.applying import Document
from asyncwb.updates.cells import Change, Unfoldable
from asyncwb.updates.entry import Entry, MalformedEntry, format_of, pack, parse
from asyncwb.updates.formats import Format
from asyncwb.updates.kinds import Unfit

_Changes = dict[str, Change] | Change


def fold(codec: str, entries: Sequence[bytes]) -> list[bytes]:
    """Folds neighbours where one entry can do the same as both; order is kept, and what can't be folded stays as it is.

    For every value that there may be before them, applying the result does the same as applying the entries:

    - if all of them can be applied, so can the result, and the value is the same, but that sums of floats may be
      regrouped (their last digits may differ) and that the fields of an object may stand in another order;
    - if one of them can't be applied, the result can't either. There is one exception: a number that only in between
      leaves what can be stored (64 bits in msgpack, 4,300 digits, the greatest float) may be seen in neither.

    An entry that can't be read stays where it is, so this raises nothing: whoever applies it will tell.

    A writer may fold what waits for one request, although it knows no values: where the changes alone show that one
    fails behind another, they stay as they are. What fails later fails as one, and whoever leaves the failed entry out
    then leaves out all that was folded into it.

    Args:
        codec: the namespace's codec.
        entries: payloads of one key, in the order of their versions.
    """
    if len(entries) < 2:
        return list(entries)
    try:
        form = format_of(codec)
    except MalformedEntry:
        return list(entries)
    folded: list[bytes] = []
    run = _Run(form)
    for payload, count in _grouped(entries):
        try:
            entry = parse(form, payload)
            power = _power(form, entry.changes, count)
        except (MalformedEntry, Unfoldable, Unfit):
            folded += run.finish()
            folded += [payload] * count
            continue
        if not run.take(payload, count, entry, power):
            folded += run.finish()
            run.take(payload, count, entry, power)
    return folded + run.finish()


class _Run:
    """Neighbours that fold: the first entry, the changes of all later ones as one, and all of them as they came.

    The later changes are gathered apart, because they are also what has to be done to the value that the first entry
    makes of an absent one; that is done once, at the end.
    """

    def __init__(self, form: Format) -> None:
        self._form = form
        self._payloads: list[bytes] = []
        self._first: Entry | None = None
        self._later: _Changes | None = None

    def take(self, payload: bytes, count: int, entry: Entry, power: _Changes) -> bool:
        """Takes `count` equal entries, whose changes in a row are `power`; False if they don't fold with the rest."""
        form, first = self._form, self._first
        try:
            if first is None:
                self._first = entry
                self._later = _power(form, entry.changes, count - 1) if count > 1 else None
            elif first.absent is None and entry.absent is not None:
                # Until here an absent value would have stayed absent, so it is this entry that makes one.
                before = first.changes if self._later is None else _composed(form, first.changes, self._later)
                self._first = Entry(entry.absent, _composed(form, before, entry.changes))
                self._later = _power(form, entry.changes, count - 1) if count > 1 else None
            elif self._later is None:
                _composed(form, first.changes, power)  # only to see whether it can be done
                self._later = power
            else:
                self._later = _composed(form, self._later, power)
        except (Unfoldable, Unfit):
            return False
        self._payloads += [payload] * count
        return True

    def finish(self) -> list[bytes]:
        """The entries of this run, folded into one if that can be done; then it is empty, and begins anew."""
        payloads, first, later = self._payloads, self._first, self._later
        self._payloads, self._first, self._later = [], None, None
        if first is None or len(payloads) < 2:
            return payloads
        absent, changes = first.absent, first.changes
        try:
            if later is not None:
                if absent is not None:
                    document = Document(self._form, absent)
                    document.apply(Entry(None, later))
                    absent = document.value()
                changes = _composed(self._form, changes, later)
            return [pack(self._form, Entry(absent, changes))]
        except (Unfoldable, Unfit):
            return payloads


def _grouped(entries: Sequence[bytes]) -> Iterable[tuple[bytes, int]]:
    if entries.count(entries[0]) == len(entries):  # many tasks that count one key
        return [(entries[0], len(entries))]
    return [(payload, len(list(equal))) for payload, equal in groupby(entries)]


def _power(form: Format, changes: _Changes, count: int) -> _Changes:
    """The changes `count` times in a row, in a number of steps that grows with the logarithm only."""
    result: _Changes | None = None
    while True:
        if count & 1:
            result = changes if result is None else _composed(form, result, changes)
        count >>= 1
        if not count:
            assert result is not None
            return result
        changes = _composed(form, changes, changes)


def _composed(form: Format, earlier: _Changes, later: _Changes) -> _Changes:
    if isinstance(earlier, dict) and isinstance(later, dict):
        merged = dict(earlier)
        for name, change in later.items():
            before = merged.get(name)
            merged[name] = change if before is None else before.then(form, change)
        return merged
    if isinstance(earlier, dict) or isinstance(later, dict):
        raise Unfoldable
    return earlier.then(form, later)
