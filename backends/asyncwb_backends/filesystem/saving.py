"""One save into a folder: writes drafts, syncs, publishes by linking, syncs again, and then removes older files."""

import errno
import os
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from asyncwb import BackendUnavailable, Record, RecordRejected, Version, newest_per_key
from asyncwb_backends.filesystem import disk
from asyncwb_backends.filesystem.names import DELETED, KEY, Names, Parsed, Stem
from asyncwb_backends.filesystem.publishing import publishing
from asyncwb_backends.filesystem.readers import reading
from asyncwb_backends.filesystem.superseded import Superseded

_REFUSED: Final = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EFBIG)
"""Errors that mean the file system will never accept the file."""
_IN_THE_WAY: Final = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
"""Errors that mean something else, most likely a link, is in the place of a file or a bucket."""

Group = list[tuple[Record, Stem]]


@dataclass(slots=True)
class _Draft:
    """A record that is written as drafts and not published yet.

    Attributes:
        record: the record.
        stem: the stem of its key.
        files: pairs of a draft's name and its final name; the value's pair is the last.
        older: the names of the files that the record supersedes.
    """

    record: Record
    stem: Stem
    files: list[tuple[str, str]]
    older: list[str]


class Saving:
    """One call of `save`.

    Args:
        names: how files are named.
        root: a descriptor of the folder.
        own: a descriptor of its `.asyncwb`.
        drafts: a descriptor of the folder of drafts.
        superseded: removes the older files, now or later.
        place: what to call the folder in error messages.
        batched: whether to sync the whole file system instead of each file.

    Attributes:
        failed: key -> why its record isn't saved.
    """

    def __init__(
        self, names: Names, root: int, own: int, drafts: int, superseded: Superseded, *, place: str, batched: bool
    ) -> None:
        self._names = names
        self._root = root
        self._own = own
        self._drafts = drafts
        self._superseded = superseded
        self._place = place
        self._batched = batched
        self._written: list[str] = []
        self.failed: dict[str, Exception] = {}

    def run(self, records: Sequence[Record]) -> int:
        """Saves the records, and returns how many were stale; for those that failed see `failed`. Raises OSError."""
        try:
            work = {bucket: self._write(bucket, group) for bucket, group in self._by_bucket(records).items()}
            if self._batched and self._written:
                disk.sync_all_of(self._drafts)
            applied = self._publish_all(work) if any(work.values()) else set()
            self._sync(work)
        finally:
            disk.remove(self._written, self._drafts)
        for bucket, drafts in work.items():
            self._remove_older(bucket, drafts)
        return len(records) - len(self.failed.keys() | applied)

    def _by_bucket(self, records: Sequence[Record]) -> dict[str, Group]:
        """Returns bucket -> the newest record of each key in it, with its stem."""
        buckets: dict[str, Group] = defaultdict(list)
        for record in newest_per_key(records):
            try:
                stem = self._names.stem(record.key)
            except UnicodeEncodeError as error:
                self.failed[record.key] = RecordRejected(f"its key is not valid Unicode: {error}")
                continue
            buckets[stem.bucket].append((record, stem))
        return buckets

    def _write(self, bucket: str, group: Group) -> list[_Draft]:
        """Writes drafts for those records of a bucket that aren't stale."""
        made: list[_Draft] = []
        with self._blaming(record for record, _ in group):
            if bucket:
                disk.make_folder(bucket, self._root)
            with disk.opened(bucket or ".", self._root) as folder, reading(folder):
                listing = self._names.listing(folder, [stem.name for _, stem in group])
                for record, stem in group:
                    with self._blaming([record]):
                        files = listing[stem.name]
                        _refuse_collision(stem, files, folder)
                        if not _is_stale(record, stem, files, folder):  # of one with a base, `_publish` decides
                            made.append(self._draft(record, stem, files))
        return made

    def _draft(self, record: Record, stem: Stem, files: Iterable[Parsed]) -> _Draft:
        contents: list[tuple[bytes, str]] = [(record.payload, DELETED if record.deleted else record.codec)]
        if stem.hashed:
            contents.insert(0, (stem.key, KEY))  # the key goes first: readers ignore a value without it
        targets = []
        for content, kind in contents:
            name = draft_name()
            self._written.append(name)
            disk.create(name, self._drafts, content, sync=not self._batched)
            targets.append((name, self._names.file(stem, record.version, kind)))
        return _Draft(record, stem, targets, [each.name for each in files if each.version < record.version])

    def _publish_all(self, work: Mapping[str, Sequence[_Draft]]) -> set[str]:
        """Links the drafts under their final names; returns the keys whose values were published."""
        alone = any(draft.record.based_on is not None for drafts in work.values() for draft in drafts)
        with publishing(self._own, alone=alone, place=self._place):
            return {key for bucket, drafts in work.items() for key in self._publish(bucket, drafts)}

    def _publish(self, bucket: str, drafts: Sequence[_Draft]) -> list[str]:
        applied = []
        with self._blaming(draft.record for draft in drafts), disk.opened(bucket or ".", self._root) as folder:
            held = self._held([draft.stem for draft in drafts if draft.record.based_on is not None], folder)
            for draft in drafts:
                if draft.record.based_on is not None and draft.record.based_on != held[draft.stem.name]:
                    draft.older = []
                    continue
                with self._blaming([draft.record]):
                    news = [disk.publish(name, self._drafts, target, folder) for name, target in draft.files]
                    if news[-1]:
                        applied.append(draft.record.key)
        return applied

    def _held(self, stems: Sequence[Stem], folder: int) -> dict[str, Version]:
        """Returns the name of each stem -> the version that is stored in a bucket, 0 for none."""
        if not stems:
            return {}
        with reading(folder):
            listing = self._names.listing(folder, [stem.name for stem in stems])
            return {
                stem.name: next(
                    (each.version for each in listing[stem.name] if _is_value(each, stem, listing[stem.name], folder)),
                    0,
                )
                for stem in stems
            }

    def _sync(self, work: Mapping[str, Sequence[_Draft]]) -> None:
        # Even if all records were stale: whoever published the newer ones may not have synced yet.
        if self._batched:
            disk.sync_all_of(self._root)
            return
        for bucket, drafts in work.items():
            with self._blaming(draft.record for draft in drafts), disk.opened(bucket or ".", self._root) as folder:
                disk.fsync(folder)

    def _remove_older(self, bucket: str, drafts: Iterable[_Draft]) -> None:
        older = [(draft.files[-1][1], draft.older) for draft in drafts if draft.record.key not in self.failed]
        if any(names for _, names in older):
            with disk.opened(bucket or ".", self._root) as folder:
                self._superseded.remove(older, bucket, folder)

    @contextmanager
    def _blaming(self, records: Iterable[Record]) -> Iterator[None]:
        """Puts errors that concern these records into `failed`; errors that concern the disk are raised."""
        reason: Exception
        try:
            yield
        except RecordRejected as error:
            reason = error
        except OSError as error:
            name = os.fspath(error.filename2 or error.filename or "")
            if error.errno in _REFUSED:
                reason = RecordRejected(f"{self._place} can't have a file {name!r}: {error.strerror}")
            elif error.errno in _IN_THE_WAY:
                reason = BackendUnavailable(f"in {self._place} something stands in the place of {name!r}: remove it")
            else:
                raise
        else:
            return
        self.failed.update((record.key, reason) for record in records)


def draft_name() -> str:
    """Returns a name that no other draft has, in any process."""
    return f"{os.getpid()}-{secrets.token_hex(8)}"


def has_key(stem: Stem, value: Parsed, files: Iterable[Parsed], folder: int) -> bool:
    """Whether the key of a hashed stem has its own file beside the value.

    A value without it doesn't count: a writer that was frozen may publish one.
    """
    with suppress(FileNotFoundError):  # it was purged together with its tombstone
        return any(
            each.kind == KEY and each.version == value.version and disk.read(each.name, folder) == stem.key
            for each in files
        )
    return False


def _is_stale(record: Record, stem: Stem, files: Sequence[Parsed], folder: int) -> bool:
    return any(each.version >= record.version and _is_value(each, stem, files, folder) for each in files)


def _is_value(file: Parsed, stem: Stem, files: Sequence[Parsed], folder: int) -> bool:
    """Whether one of the files of a stem holds a value, or is a tombstone."""
    return (
        file.kind != KEY
        and disk.is_regular(file.name, folder)
        and (not stem.hashed or has_key(stem, file, files, folder))
    )


def _refuse_collision(stem: Stem, files: Iterable[Parsed], folder: int) -> None:
    if not stem.hashed:
        return
    for each in files:
        if each.kind == KEY:
            try:
                kept = disk.read(each.name, folder)
            except FileNotFoundError:
                continue
            if kept not in (None, stem.key):
                raise RecordRejected("another key has the same hash, and so the same file")
