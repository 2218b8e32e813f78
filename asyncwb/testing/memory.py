"""A backend in memory: for tests, and as the shortest complete example of a backend."""

from collections.abc import Sequence

import msgspec

from asyncwb.backend import Limits
from asyncwb.plugins.places import takes_place
from asyncwb.plugins.succession import Began, with_server
from asyncwb.records import Record


class MemoryBackend:
    """Keeps records in a dict, which survives `close` and `open`; they are durable for as long as the object lives.

    Attributes:
        records: key -> the newest record, tombstones included.
        limits: the backend's limits; may be replaced.
        owner: the namespace that it belongs to; None before the first `open`.
    """

    shareable = True
    supports_based_on = True

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.records: dict[str, Record] = {}
        self.owner: str | None = None
        self._namespace: str | None = None
        self._epoch = 0
        self._servers: dict[int, list[Began]] = {}

    @property
    def values(self) -> dict[str, object]:
        """The decoded values of the keys that aren't deleted."""
        return {key: record.value for key, record in self.records.items() if not record.deleted}

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        if takes_place(self.owner, namespace, former=former, place="this memory"):
            self.owner = namespace
            if former is not None:
                self._epoch += 1
        self._namespace = namespace

    async def close(self) -> None:
        pass

    async def new_epoch(self, at_least: int) -> int:
        if self._namespace is not None:
            takes_place(self.owner, self._namespace, former=None, place="this memory")
        if at_least:
            self._epoch = max(self._epoch + 1, at_least)
        return self._epoch

    async def note_server(self, partition: int, epoch: int, server: str) -> list[Began]:
        self._servers[partition] = with_server(self._servers.get(partition, ()), epoch, server)
        return self._servers[partition]

    async def save(self, records: Sequence[Record]) -> int:
        stale = 0
        for record in records:
            held = self.records.get(record.key)
            if record.based_on is None:
                applies = held is None or held.version < record.version
            else:
                applies = record.based_on == (held.version if held is not None else 0)
                record = msgspec.structs.replace(record, based_on=None)  # noqa: PLW2901 - it isn't stored
            if applies:
                self.records[record.key] = record
            else:
                stale += 1
        return stale

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        return {key: self.records[key] for key in keys if key in self.records}

    async def highest_version(self) -> int | None:
        return max((each.version for each in self.records.values()), default=None)
