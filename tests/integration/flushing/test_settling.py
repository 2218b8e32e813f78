"""Saving records with updates: on exactly the version that they were worked out from, whoever else saves meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from asyncwb import DeadLetter, ForeignVersions
from asyncwb.events import Retried
from asyncwb.protocol.pending import Entry, PendingRecord
from asyncwb.protocol.waits import Wait
from asyncwb.records import Record, Version, epoch_of, make_version
from asyncwb.settings import Commit
from asyncwb.testing import FaultyBackend, MemoryBackend
from asyncwb.updates import Add, Changes
from tests.harness.flushing import Bench
from tests.harness.rig import Rig, open_rig
from tests.harness.servers import Server

_changes = Changes("json", int)
BOTH = pytest.mark.parametrize("commit", ["script", "watch"])


def plus(amount: int) -> bytes:
    return bytes(_changes.encode("k", Add(amount)))


@pytest.fixture
async def rig(redis_server: Server) -> AsyncIterator[Rig]:
    async with open_rig(redis_server, "flushing") as rig:
        yield rig


class Stage:
    """A flusher, its backend, and what happens to a key between load and save."""

    def __init__(self, rig: Rig, **options: Any) -> None:
        self.rig = rig
        self.memory = MemoryBackend()
        self.backend = FaultyBackend(self.memory)
        self.bench = Bench(rig, self.backend, **options)

    def wait_for(self, key: str, version: Version) -> "asyncio.Future[None]":
        """A caller that only this flusher tells anything."""
        wait = Wait(key.encode(), version, 0, asyncio.get_running_loop().create_future())
        self.bench.flusher._waits[0].add(wait)
        return wait.done

    def store(self, key: str, value: int | str, version: Version = 0) -> None:
        payload = b'"%s"' % value.encode() if isinstance(value, str) else b"%d" % value
        self.memory.records[key] = Record(key, version, payload, codec="json")

    def before_saves(self, *happenings: Any) -> None:
        """Has each of the next saves preceded by one of these."""
        save, left = self.memory.save, [*happenings]

        async def late(records: Sequence[Record]) -> int:
            if left:
                left.pop(0)()
            return await save(records)

        self.memory.save = late  # type: ignore[method-assign]

    def stored(self, key: str) -> tuple[Version, object]:
        return self.memory.records[key].version, self.memory.values.get(key)

    async def flush(self) -> None:
        await self.bench.epochs.join()
        assert await self.bench.flush()

    async def saved_again(self) -> None:
        """Flushes until nothing is left."""
        async with asyncio.timeout(5):
            while sum(await self.rig.queue.pending()):
                async with self.bench.circuit.admit():
                    await self.bench.flush()
                await asyncio.sleep(0.01)


@BOTH
async def test_updates_are_saved_onto_what_the_backend_holds(rig: Rig, commit: Commit) -> None:
    stage = Stage(rig, commit=commit)
    stage.store("row", 10)
    await rig.put("put", b"20")
    await rig.put("gone", None)
    last = {
        key: [await rig.update(key, plus(1)), await rig.update(key, plus(2))][-1]
        for key in ("row", "put", "gone", "new")
    }
    await rig.put("plain", b"7")
    await stage.flush()
    for key, value in (("row", 13), ("put", 23), ("gone", 3), ("new", 3)):
        assert stage.stored(key) == (last[key], value)
        assert (await rig.record(key), await rig.where(key)) == (None, set())
    assert stage.memory.values["plain"] == 7
    assert (stage.bench.totals.saved, stage.bench.totals.stale) == (5, 0)
    assert (await rig.queue.stats()).bytes == 0


@BOTH
async def test_value_is_worked_out_anew_if_another_flusher_has_saved_meanwhile(rig: Rig, commit: Commit) -> None:
    """The other one had an earlier part of the same record: what it has saved isn't applied again."""
    stage = Stage(rig, commit=commit)
    stage.store("a", 10)
    first, second = await rig.update("a", plus(1)), await rig.update("a", plus(2))
    stage.before_saves(lambda: stage.store("a", 11, first))
    await stage.flush()
    assert stage.stored("a") == (second, 13)
    assert await rig.record("a") is None


@BOTH
async def test_whole_record_saved_by_another_flusher_counts_as_saved(rig: Rig, commit: Commit) -> None:
    stage = Stage(rig, commit=commit)
    await rig.update("a", plus(1))
    last = await rig.update("a", plus(2))
    stage.before_saves(lambda: stage.store("a", 3, last))
    await rig.put("plain", b"1")
    await stage.flush()
    assert stage.stored("a") == (last, 3)
    assert await rig.record("a") is None
    assert await rig.record("plain") is None


async def test_of_a_batch_only_those_that_were_not_applied_are_worked_out_anew(rig: Rig) -> None:
    stage = Stage(rig)
    versions = {key: await rig.update(key, plus(1)) for key in ("a", "b", "c")}
    stage.before_saves(lambda: stage.store("b", 100, 0))
    stage.store("b", 50, make_version(1, 1) - 1)
    await rig.put("plain", b"1")
    await stage.flush()
    assert stage.stored("a") == (versions["a"], 1)
    assert stage.stored("b") == (versions["b"], 101)
    assert stage.stored("c") == (versions["c"], 1)
    saves = [[record.key for record in records] for records in stage.backend.saves]
    assert len(saves) == 2
    assert "plain" not in saves[1]
    assert await rig.keys_left() <= {rig.keys.wake}


async def test_key_that_others_go_on_saving_is_given_back_and_counts_no_attempt(rig: Rig) -> None:
    stage = Stage(rig, max_attempts=1)
    await rig.update("a", plus(1))
    seqs = iter(range(90, 1, -1))
    stage.before_saves(*[lambda: stage.store("a", 10, make_version(1, 1) - next(seqs))] * 4)
    await stage.flush()
    assert await rig.where("a") == {"dirty"}
    assert await rig.link.command("HLEN", rig.keys.retry) == 0
    await stage.saved_again()
    assert stage.memory.values == {"a": 11}


@BOTH
async def test_update_that_cannot_be_applied_makes_its_key_stuck_and_saves_nothing(rig: Rig, commit: Commit) -> None:
    stage = Stage(rig, commit=commit)
    stage.store("text", "text", make_version(1, 1) - 1)
    await rig.update("text", plus(1))
    await rig.update("fine", plus(1))
    await stage.flush()
    assert stage.memory.values == {"text": "text", "fine": 1}
    assert await rig.where("text") == {"dead"}
    reply = await rig.send(("text", b"uj" + plus(1)))
    assert not isinstance(reply, str)
    assert reply.blocked == {0}
    (letter,) = [event for event in stage.bench.events if isinstance(event, DeadLetter)]
    assert letter.key == "text"
    assert "can't be applied" in letter.reason
    await rig.put("text", b"5")
    await rig.update("text", plus(1))
    await stage.flush()
    assert stage.memory.values["text"] == 6


@BOTH
async def test_part_of_a_folded_entry_in_the_backend_is_looked_at_twice_then_the_key_is_stuck(
    rig: Rig, commit: Commit
) -> None:
    stage = Stage(rig, commit=commit, max_attempts=9)
    for _ in range(3):
        await rig.update("a", plus(1))
    record = await rig.pending("a")
    folded = Entry(record.entries[0].first, record.entries[-1].last, plus(3))
    assert await rig.queue.fold(b"a", record.at, record.entries, [folded])
    stage.store("a", 1, record.entries[0].last)
    await stage.flush()
    assert await rig.where("a") == {"dirty"}, "a fresh read may show something else"
    assert not stage.backend.saves
    await stage.flush()
    assert await rig.where("a") == {"dead"}
    assert stage.memory.values == {"a": 1}
    assert not [event for event in stage.bench.events if isinstance(event, Retried)]
    reply = await rig.send(("a", b"uj" + plus(1)))
    assert not isinstance(reply, str)
    assert reply.blocked == {0}


async def test_key_that_was_partly_applied_once_only_is_saved(rig: Rig) -> None:
    stage = Stage(rig)
    for round_ in range(3):
        for _ in range(2):
            await rig.update("a", plus(1))
        record = await rig.pending("a")
        folded = Entry(record.entries[0].first, record.entries[-1].last, plus(2))
        assert await rig.queue.fold(b"a", record.at, record.entries, [folded])
        before = stage.memory.records.get("a")
        stage.store("a", 99, record.entries[0].last)
        await stage.flush()
        if before is None:
            del stage.memory.records["a"]
        else:
            stage.memory.records["a"] = before
        await stage.flush()
        assert stage.memory.values == {"a": 2 * (round_ + 1)}


async def test_load_that_fails_for_one_key_holds_up_no_other(rig: Rig) -> None:
    stage = Stage(rig, max_attempts=2)
    for key in ("a", "b", "bad", "c"):
        await rig.update(key, plus(1))
    load = stage.memory.load

    async def picky(keys: Sequence[str]) -> dict[str, Record]:
        if "bad" in keys:
            raise ValueError("a damaged row")
        return await load(keys)

    stage.memory.load = picky  # type: ignore[method-assign]
    await stage.flush()
    assert stage.memory.values == {"a": 1, "b": 1, "c": 1}
    assert await rig.where("bad") == {"dirty"}
    stage.memory.load = load  # type: ignore[method-assign]
    await stage.saved_again()
    assert stage.memory.values["bad"] == 1


async def test_loads_that_fail_for_every_key_are_an_outage_although_the_probe_passes(rig: Rig) -> None:
    """Nobody may read the table, say: not a single record is to blame."""
    stage = Stage(rig, max_attempts=1)
    keys = [f"k{number}" for number in range(30)]
    for key in keys:
        await rig.update(key, plus(1))
    load = stage.memory.load

    async def forbidden(keys: Sequence[str]) -> dict[str, Record]:
        raise PermissionError("no SELECT here")

    stage.memory.load = forbidden  # type: ignore[method-assign]
    for _ in range(3):
        await stage.bench.flush()
    dead = (await rig.queue.stats()).dead
    assert dead < 16, "until so many have failed, each may be to blame by itself"
    stage.memory.load = load  # type: ignore[method-assign]
    await stage.saved_again()
    assert len(stage.memory.values) == 30 - dead


async def test_loads_that_fail_in_an_outage_count_no_attempt(rig: Rig) -> None:
    stage = Stage(rig, max_attempts=1)
    await rig.put("opens the backend", b"1")
    await stage.flush()
    await rig.update("a", plus(1))
    await rig.update("b", plus(1))
    stage.backend.fail_with = OSError("away")
    await stage.bench.flush()
    for key in ("a", "b"):
        assert await rig.where(key) == {"dirty"}
    stage.backend.fail_with = None
    await stage.saved_again()
    assert stage.memory.values == {"a": 1, "b": 1, "opens the backend": 1}


@BOTH
async def test_save_whose_answer_was_lost_is_not_applied_again(rig: Rig, commit: Commit) -> None:
    stage = Stage(rig, commit=commit)
    await rig.put("a", b"10")
    last = await rig.update("a", plus(1))
    stage.backend.fail_saves_after = 1
    await stage.bench.epochs.join()
    await stage.bench.flush()
    await stage.saved_again()
    assert stage.stored("a") == (last, 11)


@BOTH
async def test_record_refused_for_good_is_a_dead_letter_that_an_update_revives(rig: Rig, commit: Commit) -> None:
    stage = Stage(rig, commit=commit, max_attempts=1)
    await rig.update("a", plus(1))
    await rig.update("b", plus(1))
    stage.backend.poison["a"] = ValueError("no such team")
    await stage.flush()
    assert await rig.where("a") == {"dead"}
    assert stage.memory.values == {"b": 1}
    stage.backend.poison.clear()
    await rig.update("a", plus(1))
    await stage.flush()
    assert stage.memory.values == {"a": 2, "b": 1}


@BOTH
async def test_updates_below_a_foreign_version_are_applied_to_its_value(rig: Rig, commit: Commit) -> None:
    """A table was restored with versions that no history here has made: the record is moved above them."""
    stage = Stage(rig, commit=commit)
    await stage.bench.guarded.open()
    await stage.memory.new_epoch(1)
    stage.store("a", 100, make_version(40, 7))
    stage.store("based", 100, make_version(40, 8))
    await rig.update("a", plus(1))
    await rig.update("a", plus(2))
    await rig.put("based", b"20")
    await rig.update("based", plus(1))
    await stage.flush()
    assert [type(event) for event in stage.bench.events if isinstance(event, ForeignVersions)]
    await stage.saved_again()
    assert stage.memory.values == {"a": 103, "based": 21}
    assert {epoch_of(record.version) for record in stage.memory.records.values()} == {41}


async def test_put_that_comes_while_its_updates_are_saved_stays(rig: Rig) -> None:
    stage = Stage(rig)
    await rig.update("a", plus(1))
    stage.backend.before_save.clear()
    flush = asyncio.create_task(stage.flush())
    await asyncio.wait_for(stage.backend.save_started.wait(), 5)
    await rig.put("a", b"50")
    last = await rig.update("a", plus(5))
    stage.backend.before_save.set()
    await flush
    assert isinstance(await rig.record("a"), PendingRecord)
    await stage.flush()
    assert stage.stored("a") == (last, 55)


@BOTH
async def test_callers_are_told_of_each_epoch_what_was_in_the_record(rig: Rig, commit: Commit) -> None:
    stage = Stage(rig, commit=commit)
    await stage.memory.new_epoch(1)
    kept = await rig.update("a", plus(1))
    waits = {version: stage.wait_for("a", version) for version in (kept - 1, kept, kept + 1)}
    await rig.prepare(await stage.memory.new_epoch(2))
    last = await rig.update("a", plus(1))
    later = stage.wait_for("a", last + 1)
    waits[last] = stage.wait_for("a", last)
    plain = await rig.put("plain", b"1")
    earlier = stage.wait_for("plain", kept)
    await stage.flush()
    assert stage.stored("a") == (last, 2)
    assert plain
    assert {version: wait.done() for version, wait in waits.items()} == {
        kept - 1: False, kept: True, kept + 1: False, last: True,
    }, "of an earlier one the backend is asked: it may have been dropped"  # fmt: skip
    assert not later.done()
    assert earlier.done(), "a put replaces whatever was there"


@BOTH
async def test_nobody_is_told_of_a_record_that_the_backend_has_overtaken_in_a_later_epoch(
    rig: Rig, commit: Commit
) -> None:
    """A history that has begun without it may have led to that."""
    stage = Stage(rig, commit=commit)
    await stage.memory.new_epoch(2)
    old = await rig.update("a", plus(1))
    await rig.prepare(2)
    stage.store("a", 50, make_version(2, 40))
    await rig.link.command("HSET", rig.keys.meta, "seq", 50)
    wait = stage.wait_for("a", old)
    await stage.flush()
    assert stage.stored("a") == (make_version(2, 40), 50)
    assert await rig.record("a") is None
    assert not wait.done()
