"""Backends as places to flush into: a fresh one for each run, how many records it holds, and its bare limits."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import msgspec

from asyncwb import Record
from asyncwb.records import CodecName, make_version
from asyncwb_backends.filesystem import FileBackend
from asyncwb_backends.mongodb import MongoDBBackend
from asyncwb_backends.sqlite import SQLiteBackend
from benchmarks.baselines.limits import DATABASE, Limit, file_limits, mongodb_limits, sqlite_limits
from benchmarks.harness.rounds import Bench
from benchmarks.workloads.payloads import VALUES, keys, values

VALUE_BYTES: Final = 200
_PUT_TOGETHER: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """A place that nothing was saved into yet.

    Attributes:
        url: of the backend.
        at: the database file, the folder or the server.
        count: how many records it holds.
    """

    url: str
    at: str
    count: Callable[[], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A kind of backend.

    Attributes:
        name: in labels and in the report.
        codec: that its users would choose: documents where it keeps documents.
        counts: batch size -> records of a run with it: a second or two of work.
        usual: the batch size that the backend prefers, and so the default.
        limits: how fast records could get there.
        fresh: makes one.
    """

    name: str
    codec: CodecName
    counts: Mapping[int, int]
    usual: int
    limits: Sequence[Limit]
    fresh: Callable[[Bench], AbstractContextManager[Fresh]]

    def contents(self, count: int, *, generation: int = 0) -> dict[str, Any]:
        """What is put; of the same keys in each generation, but with other values."""
        of: Sequence[Any] = values(VALUE_BYTES) if self.codec == "bytes" else documents()
        return {key: of[(number + generation) % VALUES] for number, key in enumerate(keys()[:count])}

    def records(self, count: int, *, generation: int = 0) -> list[Record]:
        """The same as records, in the order in which flushers claim them: those that were put together by key."""
        found: list[Record] = []
        contents = list(self.contents(count, generation=generation).items())
        for start in range(0, count, _PUT_TOGETHER):
            for key, value in sorted(contents[start : start + _PUT_TOGETHER], key=lambda item: item[0]):
                payload = value if self.codec == "bytes" else msgspec.json.encode(value)
                found.append(Record(key, make_version(generation + 1, len(found) + 1), payload, codec=self.codec))
        return found


@cache
def documents() -> list[dict[str, Any]]:
    """JSON objects of `VALUE_BYTES` bytes."""
    found = []
    for number, text in enumerate(values(VALUE_BYTES)):
        made = {"name": f"User {number:04d}", "visits": 1000 + number, "score": 1 + number / 8192, "active": True}
        rest = VALUE_BYTES - len(msgspec.json.encode({**made, "note": ""}))
        found.append({**made, "note": text.decode()[:rest]})
    return found


@contextmanager
def _sqlite(bench: Bench) -> Iterator[Fresh]:
    with bench.folder() as folder:
        path = folder / "app.db"

        def count() -> int:
            with closing(sqlite3.connect(path)) as connection:
                return int(connection.execute("SELECT count(*) FROM asyncwb").fetchone()[0])

        yield Fresh(url=f"sqlite:///{path}?table=asyncwb", at=str(path), count=count)


@contextmanager
def _mongodb(bench: Bench) -> Iterator[Fresh]:
    with bench.mongod.client() as client:
        client.drop_database(DATABASE)
        yield Fresh(
            url=bench.mongod.url(DATABASE),
            at=bench.mongod.hosts,
            count=lambda: client[DATABASE].users.count_documents({}),
        )
        client.drop_database(DATABASE)


@contextmanager
def _files(bench: Bench) -> Iterator[Fresh]:
    with bench.folder() as folder:
        path = folder / "users"
        path.mkdir()

        def count() -> int:  # of keys: what a newer file has superseded may still be there
            return len({each.name.partition(".")[0] for each in path.rglob("user*")})

        yield Fresh(url=f"file://{path}", at=str(path), count=count)


def _counts(usual: int, counts: Mapping[int, int]) -> dict[int, int]:
    """With the default among them, wherever it is."""
    return dict(sorted({usual: counts[max(size for size in counts if size <= usual)], **counts}.items()))


_SQLITE: Final = SQLiteBackend.limits.preferred_batch
_MONGODB: Final = MongoDBBackend.limits.preferred_batch
_FILES: Final = FileBackend.limits.preferred_batch

_SQLITE_COUNTS: Final = _counts(_SQLITE, {1: 1000, 10: 8000, 100: 40_000, 1000: 80_000, 4000: 80_000})
_MONGODB_COUNTS: Final = _counts(_MONGODB, {1: 800, 10: 6000, 100: 20_000, 1000: 24_000, 4000: 24_000})
_FILE_COUNTS: Final = _counts(_FILES, {1: 800, 10: 3000, 100: 5000, 1000: 8000, 2000: 8000})  # it takes no larger ones

SQLITE: Final = Place(
    name="SQLite", codec="bytes", counts=_SQLITE_COUNTS, usual=_SQLITE, fresh=_sqlite,
    limits=sqlite_limits(_SQLITE_COUNTS),
)  # fmt: skip
MONGODB: Final = Place(
    name="MongoDB", codec="json", counts=_MONGODB_COUNTS, usual=_MONGODB, fresh=_mongodb,
    limits=mongodb_limits(_MONGODB_COUNTS, usual=_MONGODB),
)  # fmt: skip
FILES: Final = Place(
    name="files", codec="bytes", counts=_FILE_COUNTS, usual=_FILES, fresh=_files,
    limits=file_limits(_FILE_COUNTS, usual=_FILES),
)  # fmt: skip
PLACES: Final = (SQLITE, MONGODB, FILES)
