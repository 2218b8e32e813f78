"""Circuit: an outage costs nobody an attempt, is probed by one at a time, and its end is noticed at once."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncwb import BackendUnavailable, Buffer, CircuitChanged, ConfigurationError, DeadLetter, Retried
from asyncwb.events import Event
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness.flushing import Bench
from tests.harness.rig import open_rig
from tests.harness.servers import Server


class Probed(MemoryBackend):
    """A backend that counts the probes, and how many of them run at once."""

    def __init__(self) -> None:
        super().__init__()
        self.probes = self.running = self.most = 0
        self.down = False
        self.full = False

    async def new_epoch(self, at_least: int) -> int:
        if not at_least:
            self.probes += 1
            self.running += 1
            self.most = max(self.most, self.running)
            await asyncio.sleep(0.001)
            self.running -= 1
        self._check(self.down)
        return await super().new_epoch(at_least)

    async def save(self, records: Any) -> int:
        self._check(self.down or self.full)
        return await super().save(records)

    def _check(self, fails: bool) -> None:
        if fails:
            raise BackendUnavailable("down")


def changes(events: list[Event]) -> list[bool]:
    return [event.open for event in events if isinstance(event, CircuitChanged)]


async def test_outage_counts_against_no_record_and_is_logged_once(
    valkey_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "asyncwb")
    backend, events = Probed(), list[Event]()
    async with Buffer[Any](
        valkey_url, backend=backend, namespace=namespace, observer=events.append, probe_seconds=0.05, max_attempts=1
    ) as buffer:
        await buffer.set("before", 1)
        await buffer.flush("before", timeout=5)
        backend.down = True
        for number in range(300):
            await buffer.set(f"k{number}", number)
            await asyncio.sleep(0.001)
        claimed = (await buffer.stats()).leased
        assert claimed == 0, "in an outage nothing is claimed"
        during = backend.probes
        await asyncio.sleep(0.3)
        assert 3 <= backend.probes - during <= 25
        assert backend.most <= 2, "one of the circuit, one of the epoch check"
        backend.down = False
        await buffer.drain(timeout=5)
        assert len(backend.values) == 301
        assert buffer.totals.outages == 1
    assert changes(events) == [True, False]
    assert not [event for event in events if isinstance(event, Retried | DeadLetter)]
    lines = [record.message for record in caplog.records if "accepts" in record.message]
    assert len(lines) == 2, lines


async def test_end_of_an_outage_is_noticed_at_once(valkey_url: str, namespace: str) -> None:
    backend = Probed()
    loop = asyncio.get_running_loop()
    async with Buffer[Any](valkey_url, backend=backend, namespace=namespace) as buffer:
        backend.down = True
        await buffer.set("a", 1)
        await asyncio.sleep(1)
        backend.down = False
        back = loop.time()
        await buffer.flush("a", timeout=5)
        assert loop.time() - back < 1.0


async def test_backend_that_is_there_but_saves_nothing_is_an_outage_too(valkey_url: str, namespace: str) -> None:
    """With a full disk, for instance, the probe passes. If attempts counted, all records would become dead letters."""
    backend, events = Probed(), list[Event]()
    async with Buffer[Any](
        valkey_url,
        backend=backend,
        namespace=namespace,
        observer=events.append,
        max_attempts=2,
        retry_initial_seconds=0.2,
        probe_seconds=0.02,
    ) as buffer:
        backend.full = True
        await buffer.set_many({f"k{number}": number for number in range(500)})
        await asyncio.sleep(1)
        assert len([event for event in events if isinstance(event, Retried)]) <= 16
        backend.full = False
        await buffer.drain(timeout=10)
        assert len(backend.values) == 500
    assert not [event for event in events if isinstance(event, DeadLetter)]
    assert changes(events) == [True, False]


async def test_many_poison_records_do_not_hide_the_good_ones(valkey_url: str, namespace: str) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.batch_poison = {f"bad{number}": OverflowError() for number in range(200)}
    async with Buffer[Any](
        valkey_url, backend=backend, namespace=namespace, batch_size=100, probe_seconds=0.02, retry_initial_seconds=5.0
    ) as buffer:
        await buffer.set_many({f"bad{number}": number for number in range(200)})
        await asyncio.sleep(0.2)
        await buffer.set_many({f"good{number}": number for number in range(200)})
        async with asyncio.timeout(20):
            while len(backend.inner.records) < 200:  # type: ignore[attr-defined] # a MemoryBackend
                await asyncio.sleep(0.02)
        await buffer.aclose(drain=False)


async def test_probe_that_passes_with_nothing_to_save_ends_the_outage(valkey_server: Server) -> None:
    backend, events = Probed(), list[Event]()
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, backend)
        bench.events = events
        bench.circuit._on_change = events.append
        await rig.put("a")
        backend.down = True
        await bench.flush()
        assert bench.circuit.refuses
        await rig.link.command("ZREM", rig.keys.dirty, "a")
        backend.down = False
        async with bench.circuit.admit():
            await bench.flush()
        assert changes(events) == [True, False]


async def test_trial_that_is_cancelled_leaves_the_next_one_its_turn(valkey_server: Server) -> None:
    backend = Probed()
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, backend)
        await rig.put("a")
        backend.down = True
        await bench.flush()

        async def passes() -> None:
            async with bench.circuit.admit():
                await asyncio.Event().wait()

        backend.down = False
        trial = asyncio.create_task(passes())
        await asyncio.sleep(0.1)
        assert bench.circuit.half_open
        trial.cancel()
        await asyncio.wait([trial])
        assert changes(bench.events) == [True]
        async with asyncio.timeout(2), bench.circuit.admit():
            await bench.flush()
        assert changes(bench.events) == [True, False]
        assert "a" in backend.records


async def test_closing_in_an_outage_is_bounded(valkey_url: str, namespace: str) -> None:
    backend = Probed()
    async with asyncio.timeout(5):
        async with Buffer[Any](valkey_url, backend=backend, namespace=namespace, drain_timeout_seconds=0.5) as buffer:
            backend.down = True
            await buffer.set("a", 1)
            await asyncio.sleep(0.2)


async def test_services_start_while_the_backend_is_down(
    valkey_url: str, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """This works as long as Redis continues in its epoch; what they write is saved when the backend is back."""
    folder = tmp_path / "data"
    backend = f"sqlite:///{folder / 'app.db'}"
    with pytest.raises(BackendUnavailable):
        async with Buffer[int](valkey_url, backend=backend, namespace=namespace):
            pass
    folder.mkdir()
    async with Buffer[int](valkey_url, backend=backend, namespace=namespace) as buffer:
        await buffer.set("a", 1)
        await buffer.drain(timeout=5)
    folder.rename(tmp_path / "away")
    async with Buffer[int](valkey_url, backend=backend, type=int, namespace=namespace, codec="json") as buffer:
        assert "starting without the backend" in caplog.text
        await buffer.set("b", 2)
        assert await buffer.get("b") == 2
        with pytest.raises(BackendUnavailable):
            await buffer.get("a")
        (tmp_path / "away").rename(folder)
        await buffer.flush("b", timeout=5)
        assert await buffer.get("a") == 1


async def test_new_history_needs_the_backend_once(private_server: Callable[..., Server], namespace: str) -> None:
    server = await asyncio.to_thread(private_server, "valkey")
    backend = Probed()
    async with Buffer[int](server.url, backend=backend, namespace=namespace, flushers=0) as buffer:
        await buffer.set("a", 1)
    await asyncio.to_thread(server.restart, keep_data=False)
    backend.down = True
    with pytest.raises(BackendUnavailable):
        async with Buffer[int](server.url, backend=backend, namespace=namespace, flushers=0):
            pass


async def test_backend_that_turns_out_to_be_unusable_is_an_outage_not_a_crash(valkey_url: str, namespace: str) -> None:
    """The buffer starts without the backend, which refuses its settings when it is finally available."""

    class Late(Probed):
        refuses = False

        async def open(self, *, namespace: str, former: str | None = None) -> None:
            if self.refuses:
                raise ConfigurationError("no such column")
            self._check(self.down)

    backend = Late()
    options: Any = {"backend": backend, "namespace": namespace, "drain_timeout_seconds": 0.1}
    async with Buffer[int](valkey_url, **options) as buffer:
        await buffer.set("a", 1)
        await buffer.drain(timeout=5)
    backend.down = True
    async with Buffer[int](valkey_url, **options) as buffer:
        backend.down, backend.refuses = False, True
        await buffer.set("b", 2)
        with pytest.raises(BackendUnavailable, match="no such column"):
            await buffer.get("nobody")
        await asyncio.sleep(0.3)
        assert buffer.totals.crashes == 0
        backend.refuses = False
        await buffer.flush("b", timeout=5)
