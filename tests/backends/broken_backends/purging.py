"""Backends that purge too early, too late, or what they shouldn't; and a sound one."""

import time
from collections.abc import Sequence

from asyncwb import Backend, Record
from asyncwb.testing import MemoryBackend

from .sound import InMemory

DAY_SECONDS = 86_400


class Purges(MemoryBackend):
    """A sound backend: dates tombstones, and with every save removes those that are a day old."""

    keep_seconds: float = DAY_SECONDS

    def __init__(self) -> None:
        super().__init__()
        self.dates: dict[str, float] = {}

    async def save(self, records: Sequence[Record]) -> int:
        stale = await super().save(records)
        for each in records:
            held = self.records.get(each.key)
            if held is not None and held.version == each.version and stale < len(records):
                self.date(each)
        self.purge(time.time() - self.keep_seconds)
        return stale

    def date(self, record: Record) -> None:
        self.dates.pop(record.key, None)
        if record.deleted:
            self.dates[record.key] = time.time()

    def purge(self, before: float) -> None:
        for key in [key for key, date in self.dates.items() if date < before]:
            del self.records[key], self.dates[key]


class Dated(InMemory):
    made = Purges
    purge_seconds = 0.3

    async def let_time_pass(self, backend: Backend, url: str, seconds: float) -> None:
        assert isinstance(backend, Purges)
        backend.dates = {key: date - seconds for key, date in backend.dates.items()}


class TestSoundPurging(Dated):
    pass


class PurgesAtOnce(Purges):
    keep_seconds = 0.0


class TestPurgesAtOnce(Dated):
    made = PurgesAtOnce


class PurgesEarly(Purges):
    keep_seconds = DAY_SECONDS / 2


class TestPurgesEarly(Dated):
    made = PurgesEarly


class RemembersPurged(Purges):
    """Compares bases with what it has purged."""

    def __init__(self) -> None:
        super().__init__()
        self.purged: dict[str, Record] = {}

    def purge(self, before: float) -> None:
        self.purged |= {key: self.records[key] for key, date in self.dates.items() if date < before}
        super().purge(before)

    async def save(self, records: Sequence[Record]) -> int:
        for each in records:
            gone = self.purged.get(each.key)
            if gone is not None and gone.version == each.based_on and each.key not in self.records:
                self.records[each.key] = gone
        return await super().save(records)


class TestRemembersPurged(Dated):
    made = RemembersPurged


class KeepsTheFirstDate(Purges):
    """Keeps the date of the first deletion if a key is deleted twice."""

    def date(self, record: Record) -> None:
        if not (record.deleted and record.key in self.dates):
            super().date(record)


class TestKeepsTheFirstDate(Dated):
    made = KeepsTheFirstDate


class NeverPurges(Purges):
    keep_seconds = float("inf")


class TestNeverPurges(Dated):
    made = NeverPurges


class PurgesWhatIsOld(Purges):
    """Purges every old record, whether or not it was deleted."""

    def date(self, record: Record) -> None:
        self.dates[record.key] = time.time()


class TestPurgesWhatIsOld(Dated):
    made = PurgesWhatIsOld


class PurgesWhatWasDeletedOnce(Purges):
    """A record that is written again keeps the date at which it was deleted."""

    def date(self, record: Record) -> None:
        if record.deleted:
            self.dates[record.key] = time.time()


class TestPurgesWhatWasDeletedOnce(Dated):
    made = PurgesWhatWasDeletedOnce


class PurgesOnlyWhatWasNeverThere(Purges):
    """A tombstone that replaces a record keeps the record's date, which is none, so it is never purged."""

    def date(self, record: Record) -> None:
        if record.deleted and record.key not in self.seen:
            super().date(record)
        self.seen.add(record.key)

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()


class TestPurgesOnlyWhatWasNeverThere(Dated):
    made = PurgesOnlyWhatWasNeverThere
