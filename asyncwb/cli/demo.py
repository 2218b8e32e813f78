"""`asyncwb demo`: real writers, a real server, real faults, and a final comparison with what SQLite holds."""

import asyncio
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import anyio.to_thread
import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from asyncwb.buffer import Buffer
from asyncwb.cli.counting import Visits, counting_process
from asyncwb.cli.options import arguments_for, check_flushers, settings_options
from asyncwb.cli.shared import EXIT_FAULT, asynchronous, json_option
from asyncwb.cli.workload import TABLE, DirectWrites, Ledger, Value, Verdict, Workload
from asyncwb.codecs import Codec
from asyncwb.errors import BackendUnavailable, DeadLettered, FlushTimeout, WriteLost
from asyncwb.plugins.registry import backend_from_url
from asyncwb.settings import SettingOptions, Settings
from asyncwb.testing.faults import FaultyBackend

_ROUNDS: Final = 5
_SHORTEST_ROUND_SECONDS: Final = 0.15
_LONGEST_ROUND_SECONDS: Final = 0.6
_OUTAGE_SECONDS: Final = 1.0
_DRAIN_SECONDS: Final = 6.0
_WORKER_START_SECONDS: Final = 5.0
_SETTINGS: Final = ("partitions", "flushers", "commit", "batch_size")
"""The settings that users may change; the others are fixed, so that the demo shows what it is meant to, in time."""
_FIXED: Final[SettingOptions] = {
    "namespace": "demo",
    "lease_seconds": 2.0,
    "max_delay_seconds": 0.2,
    "backoff_max_seconds": 0.2,
    "drain_timeout_seconds": 1.0,
}
_OF_WORKER: Final = ("namespace", "flushers", "commit", "batch_size", "lease_seconds", "max_delay_seconds")


@click.command()
@click.option("--seconds", type=click.FloatRange(0.5, 3600), default=10.0, show_default=True, help="How long to write.")
@click.option("--writers", type=click.IntRange(1, 10_000), default=500, show_default=True, help="Concurrent writers.")
@settings_options(_SETTINGS)
@json_option
@asynchronous
async def demo(*, seconds: float, writers: int, settings: Settings, as_json: bool) -> None:
    """Write under load with faults, drain, and prove that nothing acknowledged was lost.

    Starts a private Valkey and a SQLite file in a temporary folder. Midway a flusher process is killed, and the
    backend fails for a second. Meanwhile this process and another one add visits to the same counters, whose sums have
    to be exact. Takes at most SECONDS + 20.
    """
    check_flushers(settings)
    # The demo causes the outage itself; warnings about it would only disturb the display.
    logging.getLogger("asyncwb").addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory(prefix="asyncwb-demo-") as folder:
        report = await _Demo(Path(folder), seconds, writers, settings.replace(_FIXED), Console(quiet=as_json)).run()
    if as_json:
        sys.stdout.write(json.dumps(report) + "\n")
    if report["lost"] or report["stale"] or report["miscounted"]:
        raise SystemExit(EXIT_FAULT)


class _Demo:
    def __init__(self, folder: Path, seconds: float, writers: int, settings: Settings, console: Console) -> None:
        self._settings = settings
        self._folder = folder
        self._seconds = seconds
        self._writers = writers
        self._console = console
        self._started = time.monotonic()
        self._ledger = Ledger()
        self._visits = Visits()
        self._database = folder / "demo.db"
        self._redis = f"embedded://{folder}/redis"
        self._url = f"sqlite:///{self._database}?table={TABLE}"
        backend = backend_from_url(self._url, codec=Codec())
        self._backend = FaultyBackend(backend, keep_saves=False)
        self._round_seconds = min(_LONGEST_ROUND_SECONDS, max(_SHORTEST_ROUND_SECONDS, seconds * 0.06))
        self._status = "starting"

    async def run(self) -> dict[str, int | float]:
        buffer: Buffer[Value] = Buffer(self._redis, backend=self._backend, settings=self._settings)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(buffer)
            workload = Workload(buffer, self._ledger, self._visits, self._writers)
            stack.callback(workload.cancel)
            await stack.enter_async_context(self._live(buffer))
            flushed_per_second = await self._write_under_faults(buffer, workload)
            sets, direct = await self._compare(buffer, workload)
            await workload.stop()
            self._status = "draining"
            with suppress(FlushTimeout, WriteLost, DeadLettered):  # the verdict will say what is missing
                await buffer.drain(timeout=_DRAIN_SECONDS)
            totals = buffer.totals.copy()
        verdict = self._ledger.verdict(self._database)
        report: dict[str, int | float] = {
            "acknowledged": self._ledger.acknowledged,
            "distinct_keys": self._ledger.keys,
            "persisted": verdict.persisted,
            "lost": verdict.lost,
            "stale": verdict.stale,
            "visits": self._visits.count,
            "visits_by_other_process": self._visits.by_others,
            "miscounted": self._visits.miscounted(self._database, TABLE),
            "sets_per_second": round(sets),
            "flushed_per_second": round(flushed_per_second),
            "direct_sets_per_second": round(direct),
            "seconds": round(time.monotonic() - self._started, 2),
        }
        self._print(report, verdict, totals.outages)
        return report

    async def _write_under_faults(self, buffer: Buffer[Value], workload: Workload) -> float:
        """Writes while the worker is killed and the backend fails; returns records per second saved by this process."""
        namespace = self._settings.namespace
        async with counting_process(self._redis, self._url, namespace) as counting, self._worker() as worker:
            self._status = "writing, flushed by this process and a worker"
            await counting.begin()
            began = time.monotonic()
            workload.go()
            await asyncio.sleep(self._seconds * 0.4)
            # What the worker was saving becomes available again when its leases end.
            worker.kill()
            await worker.wait()
            self._status = "[red]the worker was killed[/red], this process flushes alone"
            await asyncio.sleep(self._seconds * 0.2)
            self._backend.fail_with = BackendUnavailable("the demo's outage")
            self._status = "[red]the backend is down[/red], writes go on"
            await asyncio.sleep(min(_OUTAGE_SECONDS, self._seconds * 0.4))
            self._backend.fail_with = None
            self._status = "the backend is back"
            await asyncio.sleep(max(0.0, began + self._seconds - time.monotonic()))
            workload.pause()
            self._visits.include(await counting.end())
            await buffer.drain(timeout=_DRAIN_SECONDS)
            return buffer.totals.saved / (time.monotonic() - began)

    async def _compare(self, buffer: Buffer[Value], workload: Workload) -> tuple[float, float]:
        """Returns median writes per second, acknowledged by the buffer and made directly, measured alternately."""
        buffered: list[float] = []
        direct: list[float] = []
        plain = DirectWrites(self._folder / "direct.db")
        workload.mixed = False
        try:
            for number in range(_ROUNDS):
                self._status = f"comparing with direct commits, round {number + 1} of {_ROUNDS}"
                workload.go()
                await asyncio.sleep(self._round_seconds / 2)
                began, before = time.perf_counter(), self._ledger.acknowledged
                await asyncio.sleep(self._round_seconds)
                buffered.append((self._ledger.acknowledged - before) / (time.perf_counter() - began))
                workload.pause()
                # Drain, so that the direct writes aren't slowed down by what the buffer still has to save.
                await buffer.drain(timeout=_DRAIN_SECONDS)
                direct.append(await anyio.to_thread.run_sync(plain.measure, self._round_seconds))
        finally:
            plain.close()
        return statistics.median(buffered), statistics.median(direct)

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """Starts a second process that flushes the same namespace; kills it at the end of the block."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "asyncwb", "worker", "--redis", self._redis,
            "--backend", self._url, *arguments_for(self._settings, _OF_WORKER),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            # Leave out variables that are meant for the user's own services.
            env={name: value for name, value in os.environ.items() if not name.startswith("ASYNCWB_")},
        )  # fmt: skip
        try:
            assert process.stderr is not None
            with suppress(TimeoutError):
                async with asyncio.timeout(_WORKER_START_SECONDS):
                    while line := await process.stderr.readline():
                        if b"flushing namespace" in line:
                            break
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()

    @asynccontextmanager
    async def _live(self, buffer: Buffer[Value]) -> AsyncIterator[None]:
        """Displays the progress until the end of the block."""
        if self._console.quiet:
            yield
            return
        self._console.print(f"[bold]{self._writers} writers[/bold] on a private Valkey, flushed to SQLite\n")
        with Live(console=self._console, refresh_per_second=8, transient=True) as live:

            async def show() -> None:
                while True:
                    live.update(await self._table(buffer))
                    await asyncio.sleep(0.2)

            task = asyncio.create_task(show())
            try:
                yield
            finally:
                task.cancel()
                await asyncio.wait([task])

    async def _table(self, buffer: Buffer[Value]) -> Table:
        stats = await buffer.stats()
        age = stats.oldest_age_seconds
        table = Table.grid(padding=(0, 2))
        table.add_column()
        table.add_column(justify="right")
        for name, value in (
            ("acknowledged", f"{self._ledger.acknowledged:,}"),
            ("visits added by this process", f"{self._visits.count:,}"),
            ("buffered now", f"{stats.dirty + stats.leased:,}"),
            ("flushed by this process", f"{stats.totals.saved:,}"),
            ("coalesced", f"{max(0, self._ledger.acknowledged - stats.totals.saved - stats.dirty):,}"),
            ("oldest dirty key", "-" if age is None else f"{age:.2f} s"),
        ):
            table.add_row(name, value)
        table.add_row("", "")
        table.add_row("now", self._status)
        return table

    def _print(self, report: dict[str, int | float], verdict: Verdict, outages: int) -> None:
        table = Table(title="What SQLite holds, read by the standard library alone", show_header=False)
        table.add_column()
        table.add_column(justify="right")
        ratio = report["sets_per_second"] / max(1, report["direct_sets_per_second"])
        for name, value in (
            ("writes acknowledged", f"{report['acknowledged']:,}"),
            ("keys written", f"{report['distinct_keys']:,}"),
            ("keys persisted as acknowledged", f"{verdict.persisted:,}"),
            ("lost", f"{verdict.lost:,}"),
            ("stale", f"{verdict.stale:,}"),
            ("visits added, by two processes", f"{report['visits']:,}"),
            ("counters whose sum isn't that of the visits", f"{report['miscounted']:,}"),
            ("outages of the backend, lived through", f"{outages:,}"),
            ("records flushed per second", f"{report['flushed_per_second']:,}"),
            ("acknowledged sets per second", f"{report['sets_per_second']:,}"),
            ("direct durable commits per second", f"{report['direct_sets_per_second']:,}"),
            ("acknowledged sets : direct commits", f"{ratio:.1f}"),
        ):
            table.add_row(name, value)
        self._console.print(table)
        good = not verdict.lost and not verdict.stale and not report["miscounted"]
        verdict_line = (
            "nothing acknowledged was lost, and each visit was counted once" if good
            else "acknowledged writes are missing" if verdict.lost or verdict.stale
            else "visits were lost, or counted twice"
        )  # fmt: skip
        self._console.print(f"[bold {'green' if good else 'red'}]{verdict_line}[/] ({report['seconds']:.1f} s)")
