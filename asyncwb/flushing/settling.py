"""Saves records as they are, and records with updates on exactly the version from which their values are worked out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from asyncwb.errors import BackendError
from asyncwb.flushing.circuit_breaker import Circuit
from asyncwb.flushing.saver import BatchSaver
from asyncwb.flushing.stale import StaleRecords
from asyncwb.plugins.adapter import BackendAdapter, describe
from asyncwb.protocol.messages import Failure
from asyncwb.protocol.pending import PartlyApplied, PendingRecord, settled
from asyncwb.protocol.queue import Queue
from asyncwb.records import Record, Version, epoch_of
from asyncwb.updates import UpdateFailed

_ROUNDS: Final = 4
"""How often a value is worked out anew because another flusher has saved the key meanwhile."""


@dataclass(slots=True)
class Settled:
    """What became of records.

    Attributes:
        stale: how many records without updates were older than what the backend held.
        failed: key -> why it wasn't saved, and what becomes of it.
        updated: for records with updates: key -> the version up to which the backend holds them.
        overtaken: those of them of which the backend holds a version of a later epoch, which a history that was lost
            may have saved without them.
    """

    stale: int = 0
    failed: dict[str, Failure] = field(default_factory=dict)
    updated: dict[str, Version] = field(default_factory=dict)
    overtaken: set[str] = field(default_factory=set)


class Settler:
    """Saves the records of claims.

    Args:
        backend: has to be open.
        saves: saves batches, and isolates what fails.
        stale: finds out why records were stale.
        circuit: is told when a load fails.
        max_value_bytes: the largest value that updates may lead to.
    """

    def __init__(
        self,
        backend: BackendAdapter,
        saves: BatchSaver,
        stale: StaleRecords,
        circuit: Circuit,
        *,
        max_value_bytes: int,
    ) -> None:
        self._backend = backend
        self._saves = saves
        self._stale = stale
        self._circuit = circuit
        self._most = max_value_bytes
        self._partly_applied: set[str] = set()

    async def save(self, queue: Queue, records: Sequence[Record], pending: Sequence[PendingRecord]) -> Settled:
        """Saves records of a partition; a failure of the backend is part of the result, and isn't raised."""
        result = Settled()
        plain, waiting = [*records], [*pending]
        for _ in range(_ROUNDS):
            worked_out = await self._worked_out(queue, waiting, result) if waiting else []
            if not plain and not worked_out:
                return result
            done = await self._saves.save([*plain, *worked_out])
            result.failed.update(done.failed)
            if not done.stale:
                result.updated.update((each.key, each.version) for each in worked_out if each.key not in done.failed)
                return result
            if taken := [record for record in plain if record.key not in done.failed]:
                failed = await self._stale.unsaved(queue, taken)
                result.failed.update(failed)
                result.stale += done.stale if not waiting else 0
            # Which of the others weren't applied, only a load can tell: the backend holds another version of these.
            left = {each.key for each in worked_out if each.key not in done.failed}
            waiting = [each for each in waiting if each.key in left]
            plain = []
        for each in waiting:
            result.failed[each.key] = Failure("others go on saving it at the same time", "later")
        return result

    async def _worked_out(self, queue: Queue, pending: Sequence[PendingRecord], result: Settled) -> list[Record]:
        """The records to be saved; those that need no save, or can't be saved, are noted in `result`."""
        held: dict[str, Record] = {}
        for start in range(0, len(pending), self._backend.limits.max_batch):
            part = [each.key for each in pending[start : start + self._backend.limits.max_batch]]
            held.update(await self._loaded(part, result))
        records: list[Record] = []
        present: list[PendingRecord] = []
        for each in pending:
            if each.key in result.failed:
                continue
            try:
                record = settled(each, held.get(each.key))
            except UpdateFailed as error:
                result.failed[each.key] = Failure(error.sentence, "stuck")
            except PartlyApplied:
                # Perhaps a former primary has shown the record, so it is read once more before it dies of this.
                again = each.key not in self._partly_applied
                (self._partly_applied.add if again else self._partly_applied.discard)(each.key)
                result.failed[each.key] = Failure(
                    "the backend holds a part of updates that were made as one, saved by a history that was lost in a "
                    "failover: what the rest of them would add is unknown",
                    "later" if again else "stuck",
                )
            else:
                self._partly_applied.discard(each.key)
                if record.based_on is None:
                    present.append(each)
                    if epoch_of(record.version) > epoch_of(each.version):
                        result.overtaken.add(each.key)
                elif len(record.payload) > self._most:
                    over = f"it leads to a value of {len(record.payload)} bytes, over max_value_bytes={self._most}"
                    result.failed[each.key] = Failure(UpdateFailed(over).sentence, "stuck")
                else:
                    records.append(record)
        if present:
            await self._confirm(queue, present, result)
        return records

    async def _confirm(self, queue: Queue, present: Sequence[PendingRecord], result: Settled) -> None:
        """The backend holds at least these versions already, unless those that it holds are of foreign origin."""
        failed = await self._stale.unsaved(queue, [Record(each.key, each.version) for each in present])
        result.failed.update(failed)
        result.updated.update((each.key, each.version) for each in present if each.key not in failed)
        if len(failed) < len(present):
            self._circuit.succeeded()

    async def _loaded(self, keys: Sequence[str], result: Settled) -> Mapping[str, Record]:
        """What the backend holds of these keys; those that can't be loaded are noted in `result`."""
        try:
            return await self._backend.load_durable(keys)
        except BackendError as error:
            if await self._circuit.is_outage():
                result.failed.update((key, Failure(describe(error), "later")) for key in keys)
                return {}
            if len(keys) == 1:
                alone = self._circuit.failed_alone(keys[0], error)
                result.failed[keys[0]] = Failure(describe(error), "retry" if alone else "later")
                return {}
        half = len(keys) // 2
        return {**await self._loaded(keys[:half], result), **await self._loaded(keys[half:], result)}
