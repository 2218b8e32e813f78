"""What the benchmark suite counts on: its harness, its clock, and its check of what arrived."""

import asyncio
import re
import sqlite3
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console

from benchmarks.harness.rounds import Bench, Contestant, Results, Sample, Series
from benchmarks.questions.question import at_least
from benchmarks.workloads.latency import arrivals, open_loop
from benchmarks.workloads.loads import closed_loop
from benchmarks.workloads.streams import Writes, check


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr("benchmarks.harness.rounds.describe_machine", lambda: {"commit": "abc"})
    with Bench(quick=False, console=Console(quiet=True)) as bench:
        yield bench


# The harness


def contestants(ran: list[str], *names: str) -> list[Contestant]:
    async def run(name: str) -> Sample:
        ran.append(name)
        return {"calls_per_s": len(ran)}

    return [Contestant(name=name, run=partial(run, name), labels={"name": name}) for name in names]


def test_every_round_begins_with_another_contestant(bench: Bench) -> None:
    ran: list[str] = []
    bench.measure("order", contestants(ran, "a", "b", "c"), rounds=3)
    assert "".join(ran) == "abc" + "bca" + "cab"
    assert [len(each.samples) for each in bench.results.series.values()] == [3, 3, 3]


def test_quick_form_runs_one_round(bench: Bench) -> None:
    bench.quick = True
    ran: list[str] = []
    bench.measure("order", contestants(ran, "a", "b"), rounds=5)
    assert ran == ["a", "b"]
    assert bench.pick("full", "quick") == "quick"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "select"])
def test_a_run_has_an_event_loop_of_its_own(bench: Bench, loop: Any) -> None:
    loops = []

    async def run() -> Sample:
        loops.append(asyncio.get_running_loop())
        return {"calls": 1}

    bench.measure("loops", [Contestant(name="a", run=run, loop=loop)], rounds=2)
    assert loops[0] is not loops[1]
    assert all(each.is_closed() for each in loops)


@pytest.mark.parametrize("value", [float("nan"), -1.0])
def test_a_sample_that_is_no_measurement_is_an_error(bench: Bench, value: float) -> None:
    async def run() -> Sample:
        return {"calls_per_s": value}

    with pytest.raises(AssertionError, match="calls_per_s"):
        bench.measure("broken", [Contestant(name="a", run=run)], rounds=1)


def test_an_error_of_a_contestant_ends_the_run(bench: Bench) -> None:
    async def run() -> Sample:
        raise AssertionError("nothing was saved")

    with pytest.raises(AssertionError, match="nothing was saved"):
        bench.measure("broken", [Contestant(name="a", run=run)], rounds=1)


def results_of(**series: list[float]) -> Results:
    results = Results({"quick": False})
    for name, values in series.items():
        results.series[name] = Series(name, {"max delay s": name}, [{"x": value} for value in values])
    return results


def test_ratios_are_taken_round_by_round() -> None:
    results = results_of(mine=[10, 40, 90], its=[10, 20, 30])
    ratio = results.ratio("mine", "its", "x")
    # The ratio of the medians is the same here, but lowest and highest are of pairs: 10/30 never happened.
    assert (ratio.median, ratio.low, ratio.high) == (2, 1, 3)
    with pytest.raises(ValueError):
        results_of(mine=[1, 2], its=[1]).ratio("mine", "its", "x")


def test_a_figure_says_what_was_measured() -> None:
    results = results_of(mine=[10, 40, 90], its=[10, 20, 30])
    (reached,) = at_least(results, "mine", "its", "x", 2, what="w", command="c")
    (missed,) = at_least(results, "mine", "its", "x", 2.1, what="w", command="c")
    assert (reached.what, reached.reached, missed.reached) == ("w", True, False)
    assert re.findall(r"[\d.]+", reached.measured) == ["2", "1", "3"]
    assert at_least(results, "mine", "nobody", "x", 2, what="w", command="c") == []


def test_results_survive_their_file(tmp_path: Path) -> None:
    results = results_of(mine=[1.5, 2], its=[3, 4])
    results.machine = {"cores": 2, "packages": {"redis": "8"}}
    results.timelines = {"flights": {"seconds": [0, 0.25], "lag_s": [0, 0.1]}}
    results.save(tmp_path / "a.json")
    loaded = Results.load(tmp_path / "a.json")
    loaded.save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (loaded["mine"].median("x"), loaded["its"].spread("x")) == (1.75, (3, 4))
    assert [each.name for each in loaded.where(max_delay_s="its")] == ["its"]
    assert (loaded.timelines, loaded.machine) == (results.timelines, results.machine)


# Loads


async def test_closed_loop_counts_answered_calls_and_numbers_each_once() -> None:
    numbers: list[int] = []

    async def call(number: int) -> None:
        numbers.append(number)
        await asyncio.sleep(0.001)

    rate = await closed_loop(10, 0.1, call)
    assert len(set(numbers)) == len(numbers)
    assert 0 < rate <= 2 * 10 / 0.001


def test_arrivals_are_drawn_beforehand_at_the_rate_that_was_asked_for() -> None:
    times = arrivals(1000, 10)
    assert [0, *times, 10] == sorted([*times, 10, 0])
    assert len(times) == pytest.approx(10_000, rel=0.05)
    assert times == arrivals(1000, 10) != arrivals(1000, 10, seed=2)


class Stalling:
    """A server that answers at once, except during a stall, when it answers nobody."""

    def __init__(self, begin: float, end: float) -> None:
        self.started = time.perf_counter()
        self.begin, self.end = begin, end

    async def call(self, _number: int) -> None:
        now = time.perf_counter() - self.started
        if self.begin <= now < self.end:
            await asyncio.sleep(self.end - now)


async def test_a_stall_is_felt_by_everything_that_is_due_meanwhile() -> None:
    times = [number / 200 for number in range(100)]  # every 5 ms, for half a second
    server = Stalling(0.1, 0.4)
    found = await open_loop(times, server.call)
    assert found.offered == found.answered == len(found.seconds) == 100
    # 60 arrivals fall into the stall, and each waits for the rest of it; a closed loop would have noticed one.
    waited = [each for each in found.seconds if each > 0.05]
    assert len(waited) >= 45
    assert max(found.seconds) > 0.25
    assert found.percentiles(50)[0] > 0.02


async def test_a_blocked_event_loop_counts_as_latency_too() -> None:
    async def call(number: int) -> None:
        if number == 10:
            time.sleep(0.2)

    found = await open_loop([number / 500 for number in range(150)], call)  # every 2 ms
    # What was due while the loop stood still began late, and its latency counts from when it was due.
    assert sum(each > 0.05 for each in found.seconds) >= 60


async def test_calls_without_an_answer_count_for_as_long_as_they_have_waited() -> None:
    cancelled: list[int] = []

    async def call(number: int) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    found = await open_loop([0, 0.1], call, patience_seconds=0.1)
    assert (found.offered, found.answered, sorted(cancelled)) == (2, 0, [0, 1])
    assert min(found.seconds) >= 0.09
    assert max(found.seconds) >= 0.19
    assert found.sample()["answered_percent"] == 0


@pytest.mark.parametrize("apart_seconds", [0.001, 0.0])
async def test_an_error_of_a_call_is_raised_and_leaves_no_task(apart_seconds: float) -> None:
    async def call(number: int) -> None:
        if number == 3:
            raise ConnectionError("gone")
        await asyncio.sleep(3600)

    with pytest.raises(ConnectionError, match="gone"):
        await open_loop([*(number * apart_seconds for number in range(10)), 3600], call)
    assert len(asyncio.all_tasks()) == 1


# Whether all of a stream arrived


def saved(path: Path, **rows: tuple[int, bytes]) -> Path:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE asyncwb (key, value, version)")
    connection.executemany("INSERT INTO asyncwb VALUES (?, ?, ?)", [(k, v, n) for k, (n, v) in rows.items()])
    connection.commit()
    connection.close()
    return path


class Letters:
    name = "letters"
    codec = "bytes"

    def item(self, number: int) -> tuple[str, bytes]:
        return "ab"[number % 2], b"%d" % number


def test_a_stream_that_arrived_is_right(tmp_path: Path) -> None:
    # The last write of "b" was cancelled, and has been applied all the same.
    check(saved(tmp_path / "db", a=(7, b"2"), b=(9, b"?")), Letters(), {"a": (7, 2), "b": (8, 3)})


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ({"a": (7, b"2")}, "1 lost, 0 stale, 0 with"),
        ({"a": (7, b"2"), "b": (7, b"3")}, "0 lost, 1 stale, 0 with"),
        ({"a": (7, b"4"), "b": (8, b"3")}, "0 lost, 0 stale, 1 with"),
    ],
)
def test_a_stream_that_did_not_arrive_is_an_error(
    tmp_path: Path, rows: dict[str, tuple[int, bytes]], complaint: str
) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check(saved(tmp_path / "db", **rows), Letters(), {"a": (7, 2), "b": (8, 3)})


async def test_the_last_write_is_the_one_with_the_highest_version() -> None:
    class Answers:
        versions: ClassVar = {b"0": 5, b"2": 4}

        async def set(self, _key: str, value: bytes) -> int:
            return self.versions[value]

    buffer: Any = Answers()
    writes = Writes(buffer, Letters())
    for number in (0, 2):
        await writes.write(number)
    assert writes.last == {"a": (5, 0)}
