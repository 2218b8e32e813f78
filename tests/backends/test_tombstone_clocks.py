"""Tombstones live their time, whatever the clocks of the processes say that use one storage."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asyncwb import Backend, Codec
from asyncwb.plugins.registry import backend_from_url
from asyncwb.testing.contract import put, tombstone
from asyncwb_backends.sqlite.clock import GAP, TIME, TableClock
from tests.harness.servers import FakeTime

HOUR = 3600
DAY = 24 * HOUR
START = 1_800_000_000


class FakeMachine:
    """Processes that share rows, each with a wall clock of its own; time goes by as a test says."""

    def __init__(self) -> None:
        self.elapsed = 0
        self.rows: dict[str, int] = {TIME: START}

    def process(self, ahead: int = 0) -> TableClock:
        return TableClock(DAY, wall=lambda: START + self.elapsed + ahead, monotonic=lambda: 100.0 + self.elapsed)

    def look(self, clock: TableClock) -> int:
        """Before when it purges."""
        look = clock.look(self.rows)
        self.rows.update(look.rows)
        for name in look.forgotten:
            del self.rows[name]
        return look.purge_before

    def date(self, clock: TableClock) -> int:
        """What a tombstone is dated with."""
        return max(clock.now(), self.rows[TIME])

    def run(self, seconds: int, *clocks: TableClock) -> int:
        """Time goes by, with a look now and then; the highest time before which somebody has purged."""
        purged = 0
        for _ in range(0, seconds, 600):
            self.elapsed += 600
            purged = max([purged, *map(self.look, clocks)])
        return purged


def test_tombstone_lives_a_day() -> None:
    machine = FakeMachine()
    clock = machine.process()
    machine.look(clock)
    dated = machine.date(clock)
    assert machine.run(DAY, clock) <= dated
    assert machine.run(HOUR, clock) > dated


@pytest.mark.parametrize("ahead", [-400 * DAY, -DAY, -HOUR, HOUR, 2 * DAY, 400 * DAY])
@pytest.mark.parametrize("both", [True, False], ids=["beside a right one", "alone"])
def test_clock_that_is_wrong_takes_an_eighth_of_its_life_at_most(ahead: int, both: bool) -> None:
    machine = FakeMachine()
    right = machine.process()
    machine.look(right)
    before = machine.date(right)
    wrong = machine.process(ahead)
    running = (right, wrong) if both else (wrong,)
    assert machine.look(wrong) <= before
    meanwhile = machine.date(right)
    of_the_wrong = machine.date(wrong)
    assert machine.run(DAY - 3 * HOUR - 600, *running) <= min(before, meanwhile, of_the_wrong)
    assert machine.run(DAY, *running) > min(before, of_the_wrong), "and they go in the end"


def test_jump_and_back_again_purges_nothing_early() -> None:
    machine = FakeMachine()
    right = machine.process()
    machine.look(right)
    dated = machine.date(right)
    for ahead in (2 * DAY, 0, 30 * DAY, -DAY):
        assert machine.run(HOUR, machine.process(ahead), right) <= dated


def test_service_that_runs_now_and_then_purges_in_the_end() -> None:
    """A day in which nobody ran counts as an eighth, and the notes of that don't pile up."""
    machine = FakeMachine()
    clock = machine.process()
    machine.look(clock)
    dated = machine.date(clock)
    purged = 0
    for day in range(1, 30):
        machine.elapsed = day * DAY
        purged = machine.look(machine.process())
        assert (purged > dated) == (day > 8)
        assert len([name for name in machine.rows if name.startswith(GAP)]) <= 10
    assert purged > dated


def test_table_from_before_it_kept_a_time_has_no_old_tombstones() -> None:
    machine = FakeMachine()
    machine.rows.clear()
    clock = machine.process(2 * DAY)
    assert machine.look(clock) <= START
    assert machine.run(DAY - 4 * HOUR, clock) <= START
    assert machine.run(8 * HOUR, clock) > START


CHILD = """
import asyncio, sys, time
from asyncwb import Codec
from asyncwb.plugins.registry import backend_from_url
from asyncwb.testing.contract import put, tombstone

async def main(url, key):
    backend = backend_from_url(url, codec=Codec("json"))
    await backend.open(namespace="asyncwb")
    await backend.save([tombstone(key, 5)])
    backend._purge_timer.again()
    await backend.save([put("live", 1)])
    await backend.close()
    print(time.time())

asyncio.run(main(*sys.argv[1:]))
"""


def with_a_clock(ahead: int, folder: Path, url: str) -> float:
    """Deletes the key `theirs` in another process, and lets it purge; what its clock says."""
    environment = FakeTime(folder).environment
    for name in ("FAKETIME_TIMESTAMP_FILE", "FAKETIME_NO_CACHE"):
        del environment[name]  # it stays as it is, which is much quicker
    environment["FAKETIME"] = f"{ahead:+d}"
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, url, "theirs"], env={**os.environ, **environment},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return float(ended.stdout)


@pytest.mark.skipif(FakeTime.library() is None, reason="libfaketime isn't installed")
@pytest.mark.parametrize("ahead", [2 * DAY, -2 * DAY])
@pytest.mark.parametrize("url", ["sqlite:///{}/a.db", "file://{}/data?fanout=0"], ids=["sqlite", "file"])
async def test_late_save_revives_nothing_although_a_process_has_a_wrong_clock(
    tmp_path: Path, url: str, ahead: int
) -> None:
    url = url.format(tmp_path)
    backend: Backend = backend_from_url(url, codec=Codec("json"))
    await backend.open(namespace="asyncwb")
    try:
        await backend.save([tombstone("ours", 5)])
        assert abs(with_a_clock(ahead, tmp_path, url) - time.time() - ahead) < HOUR
        backend._purge_timer.again()  # type: ignore[attr-defined]
        await backend.save([put("live", 2)])
        assert await backend.save([put("ours", 3), put("theirs", 3)]) == 2
        found = await backend.load(["ours", "theirs"])
        assert all(record.deleted for record in found.values())
    finally:
        await backend.close()
