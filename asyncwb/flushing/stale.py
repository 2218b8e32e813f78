"""Finds out why records were stale: a newer version was saved, or the backend holds versions of foreign origin."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from asyncwb.errors import AsyncwbError, RedisUnavailable
from asyncwb.events import Event, ForeignVersions
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.protocol.epochs import Epochs
from asyncwb.protocol.messages import Failure
from asyncwb.protocol.queue import Queue
from asyncwb.records import MAX_EPOCH, Record, Version, epoch_of, is_foreign, make_version
from asyncwb.stats import Totals

_log: Final = logging.getLogger("asyncwb")


class StaleRecords:
    """Examines what the backend holds after a save has counted stale records.

    Usually a newer write, or this very one, was saved before. But data may have been restored or copied into the place,
    with versions that no history of the namespace has made: these say nothing about which write is newer. A record that
    is older than such a version isn't saved. A new epoch begins above that version, and the record gets a version in
    between, below those of all writes to come, under which it is saved again.

    Args:
        backend: the backend that saved the records.
        epochs: the epochs of the namespace.
        totals: its `foreign` is counted up.
        emit: called with a `ForeignVersions`.
    """

    def __init__(
        self, backend: BackendAdapter, epochs: Epochs, *, totals: Totals, emit: Callable[[Event], None]
    ) -> None:
        self._backend = backend
        self._epochs = epochs
        self._totals = totals
        self._emit = emit

    async def unsaved(self, queue: Queue, records: Sequence[Record]) -> dict[str, Failure]:
        """Like `blocked`, but if it can't be determined, all records are tried again.

        A record that isn't known to be saved must not be removed from Redis.
        """
        try:
            return await self.blocked(queue, records)
        except AsyncwbError as error:
            reason = f"the save found stale records, and whether this one's newest write is saved is unknown: {error}"
            return {record.key: Failure(reason, "later") for record in records}

    async def blocked(self, queue: Queue, records: Sequence[Record]) -> dict[str, Failure]:
        """Returns key -> failure for the records that weren't saved after all; all others were.

        Args:
            queue: the partition of the records.
            records: the records that a save has taken, some of them as stale.

        Raises:
            BackendError, RedisError, NamespaceMismatch: it can't be determined which were saved.
        """
        foreign, allotted = await self._foreign(queue, records)
        if not foreign:
            return {}
        blocked = [record for record in records if record.key in foreign]
        self._tell(queue, foreign)
        failed: dict[str, Failure] = {}
        for record in blocked:
            if epoch_of(foreign[record.key]) >= MAX_EPOCH - 2:
                failed[record.key] = Failure(
                    _reason(foreign[record.key], "and which leaves no room for newer ones"), "dead"
                )
        movable = [record for record in blocked if record.key not in failed]
        if movable:
            failed.update(await self._move(queue, movable, foreign, allotted))
        return failed

    async def _foreign(self, queue: Queue, records: Sequence[Record]) -> tuple[dict[str, Version], int]:
        """Returns key -> the foreign version that blocks its record, and the highest epoch allotted so far."""
        # The order matters. A version is allotted before it is saved, so read the allotted epoch after the stored
        # versions. And an epoch above foreign versions is allotted after these are noted in meta, so read meta last.
        loaded = await self._backend.load([record.key for record in records])
        newer = {
            record.key: loaded[record.key].version
            for record in records
            if record.key in loaded and loaded[record.key].version > record.version
        }
        if not newer:
            return {}, 0
        allotted = await self._backend.new_epoch(0)
        meta = await queue.read_meta()
        if not meta.is_sound:
            raise RedisUnavailable("the server is in a history that has not begun its epoch yet")
        present = make_version(meta.epoch, meta.seq)
        foreign = {
            key: version
            for key, version in newer.items()
            if is_foreign(version, present=present, allotted=allotted, foreign=meta.foreign)
        }
        return foreign, max(allotted, meta.epoch)

    async def _move(
        self, queue: Queue, records: Sequence[Record], foreign: dict[str, Version], allotted: int
    ) -> dict[str, Failure]:
        highest = max(foreign[record.key] for record in records)
        try:
            epoch = await self._epochs.begin_above(highest, allotted=allotted, records=records)
            present = self._epochs.known(queue.partition)
            # Load once more: since the first load a lagging server may have taken over, and its copy of a record may be
            # older than what was saved meanwhile.
            loaded = await self._backend.load([record.key for record in records])
            blocked = [record for record in records if _version_in(loaded, record.key) == foreign[record.key]]
            moved = await queue.restamp(blocked, epoch=epoch, present=present)
        except AsyncwbError as error:
            what = f"and beginning a new epoch above it failed: {error}"
        else:
            what = (
                "and the history of the server has changed meanwhile"
                if moved is None
                else f"so epoch {epoch} begins above it"
            )
        return {record.key: Failure(_reason(foreign[record.key], what), "later") for record in records}

    def _tell(self, queue: Queue, foreign: dict[str, Version]) -> None:
        key, version = max(foreign.items(), key=lambda each: each[1])
        self._totals.foreign += len(foreign)
        _log.warning(
            "backend %s holds versions that no history of this namespace has made (the highest is %d, of key %r): were "
            "data restored or copied into its place, or does another Redis save there? %d record(s) are to be saved "
            "again under newer versions",
            self._backend.name,
            version,
            key,
            len(foreign),
        )
        self._emit(ForeignVersions(queue.partition, len(foreign), key, version))


def _version_in(loaded: Mapping[str, Record], key: str) -> Version:
    return loaded[key].version if key in loaded else 0


def _reason(version: Version, what: str) -> str:
    return f"the backend holds version {version} of it, which no history of this namespace has made, {what}"
