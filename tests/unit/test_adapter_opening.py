"""BackendAdapter: when a place is opened, opened anew and handed over, and what is noted of its unknown versions."""

import asyncio
import logging

import pytest

from asyncwb import BackendUnavailable, ConfigurationError, Record
from asyncwb.errors import BackendReplaced, RedisUnavailable
from asyncwb.records import make_version
from asyncwb.testing import MemoryBackend
from tests.harness.adapters import RECORDS, Answering, guard


async def test_calls_at_once_open_it_once() -> None:
    backend = Answering()
    adapter = guard(backend)
    await asyncio.gather(*(adapter.load([]) for _ in range(5)))
    await adapter.load([])
    assert backend.asked.count("open") == 1


async def test_open_that_failed_is_cleaned_up_and_tried_again_by_the_next_call() -> None:
    backend = Answering(open=OSError("away"))
    adapter = guard(backend)
    with pytest.raises(BackendUnavailable, match="open of backend"):
        await adapter.open()
    with pytest.raises(BackendUnavailable, match="open of backend"):
        await adapter.save(RECORDS)
    assert backend.asked == ["open", "close"] * 2, "and it was not asked to save"
    backend.answers.clear()
    assert await adapter.save(RECORDS) == 0
    assert backend.asked[4:] == ["open", "save"]


async def test_open_that_is_cancelled_is_cleaned_up_too() -> None:
    begun = asyncio.Event()

    class Hanging(Answering):
        async def open(self, *, namespace: str, former: str | None = None) -> None:
            begun.set()
            await asyncio.Event().wait()

    backend = Hanging()
    opening = asyncio.create_task(guard(backend).open())
    await begun.wait()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert backend.asked == ["close"]


async def test_settings_that_cannot_work_are_told_by_open_and_count_as_an_outage_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A service that was started without the backend goes on buffering; the log says why, once."""
    adapter = guard(Answering(open=ConfigurationError("no such table")))
    with pytest.raises(ConfigurationError):
        await adapter.open()
    for _ in range(3):
        with pytest.raises(BackendUnavailable, match="no such table"):
            await adapter.save(RECORDS)
    (said,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "nothing is saved, all writes stay in Redis" in said.getMessage()


async def test_place_that_was_replaced_is_opened_anew_before_the_next_call() -> None:
    backend = Answering(save=BackendReplaced("another file"))
    adapter = guard(backend)
    with pytest.raises(BackendReplaced):
        await adapter.save(RECORDS)
    backend.answers.clear()
    backend.asked.clear()
    await adapter.save(RECORDS)
    await adapter.save(RECORDS)
    assert backend.asked == ["close", "open", "save", "save"]


async def test_place_that_was_handed_over_is_asked_for_nothing_more() -> None:
    memory = MemoryBackend()
    adapter = guard(memory)
    await adapter.open()
    memory.owner = "another"
    with pytest.raises(BackendUnavailable, match="belongs to namespace 'another'"):
        await adapter.new_epoch(0)
    for call in (lambda: adapter.save(RECORDS), lambda: adapter.load(["a"])):
        with pytest.raises(BackendUnavailable, match="belongs to namespace 'another'"):
            await call()
    assert not memory.records


# Places with data that nobody knows


async def test_versions_that_the_place_never_allotted_are_noted_before_an_epoch_above_them_begins() -> None:
    memory = MemoryBackend()
    memory.records["a"] = Record("a", make_version(7, 5), b"1")
    adapter = guard(memory)
    noted: list[tuple[int, int, int]] = []

    async def note(first: int, last: int) -> None:
        noted.append((first, last, await memory.new_epoch(0)))

    await adapter.open(note)
    assert noted == [(1, 7, 0)]
    assert await adapter.new_epoch(0) == 8
    await adapter.close()
    await adapter.open(note)
    assert len(noted) == 1, "they are below its epoch now"


async def test_place_is_not_used_before_its_unknown_versions_are_noted() -> None:
    memory = MemoryBackend()
    memory.records["a"] = Record("a", make_version(7, 5), b"1")
    adapter = guard(memory)

    async def note(first: int, last: int) -> None:
        raise RedisUnavailable("away")

    with pytest.raises(BackendUnavailable, match="when Redis is back"):
        await adapter.open(note)
    with pytest.raises(BackendUnavailable, match="when Redis is back"):
        await adapter.save([Record("b", make_version(1, 1), b"1")])
    assert "b" not in memory.records
    assert await memory.new_epoch(0) == 0
