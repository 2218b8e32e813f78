"""Records whose claims end in expired leases: isolated in few deliveries, and dead letters only if they were alone."""

import asyncio
import struct
from typing import Any

import pytest

from asyncwb import DeadLetter
from asyncwb.admin.partition_view import Inspection
from asyncwb.protocol.messages import Claim, Failure, Retries
from asyncwb.protocol.overwritten import overwritten_keys
from asyncwb.settings import Commit
from asyncwb.testing import MemoryBackend
from tests.harness.flushing import Bench
from tests.harness.rig import Rig, open_rig
from tests.harness.servers import Server

LEASE = 0.1
BOTH = pytest.mark.parametrize("commit", ["script", "watch"])


async def put(rig: Rig, *keys: str) -> None:
    await rig.request([(key, b"1") for key in keys])


async def expire(rig: Rig) -> None:
    """Expires all leases, as if the processes that hold them had died."""
    held = await rig.link.command("ZRANGE", rig.keys.lease, 0, -1, "WITHSCORES")
    for key, score in zip(held[::2], held[1::2], strict=True):
        # In the past, but still the leases of one claim together.
        await rig.link.command("ZADD", rig.keys.lease, int(float(score)) % 1_000_000, key)
    while await rig.queue.recover():
        pass


async def claim(rig: Rig, *, records: int = 100, alone: bool = False) -> Claim:
    return await rig.queue.claim(records=records, bytes=10**6, lease_seconds=30.0, alone=alone)


def keys_of(claim: Claim) -> list[str]:
    return [record.key for record in claim.records]


async def noted(rig: Rig) -> dict[str, tuple[int, int, int]]:
    """What Redis has noted: most records of the next claim, how often it was alone, and whether it is now."""
    found = await rig.link.command("HGETALL", rig.keys.expired)
    return {
        key.decode(): struct.unpack(">III", entry[8:])
        for key, entry in zip(found[::2], found[1::2], strict=True)
        if len(entry) == 20
    }


async def test_suspects_come_apart_from_others_and_in_ever_smaller_batches(redis_server: Server) -> None:
    async with open_rig(redis_server) as rig:

        async def claim_all() -> list[int]:
            sizes = []
            while (taken := await claim(rig)).records:
                sizes.append(len(taken.records))
                good = ["good" in key for key in keys_of(taken)]
                assert all(good) or not any(good)
                if all(good):
                    await rig.queue.ack(taken)
            return sizes

        await put(rig, *(f"s{number:02}" for number in range(42)))
        assert await claim_all() == [42]
        await put(rig, "a good one that is due before them")
        await asyncio.sleep(0.005)
        await expire(rig)
        await put(rig, "z good one that is due after them")
        assert await claim_all() == [2, 10, 10, 10, 10, 2]
        await expire(rig)
        assert await claim_all() == [2] * 20
        await expire(rig)
        assert await claim_all() == []
        assert set((await noted(rig)).values()) == {(1, 0, 0)}, "none has died alone yet"
        assert (await claim(rig)).suspect_waits
        assert len((await claim(rig, alone=True)).records) == 1


async def test_killer_among_many_is_alone_within_few_deaths_and_its_neighbours_are_saved(
    redis_server: Server,
) -> None:
    """With one process, each claim with the killer ends in an expired lease, and all others are acknowledged."""
    async with open_rig(redis_server) as rig:
        await put(rig, *(f"k{number:03}" for number in range(140)))
        deaths, saved, alone = 0, 0, False
        while not alone:
            taken = await claim(rig)
            if not taken.records:
                assert taken.suspect_waits
                taken = await claim(rig, alone=True)
                alone = keys_of(taken) == ["k077"]
            if "k077" in keys_of(taken):
                deaths += 1
                await expire(rig)
            else:
                acked = await rig.queue.ack(taken)
                assert acked is not None
                saved += acked.gone
        assert deaths <= 6
        while (taken := await claim(rig)).records or (taken := await claim(rig, alone=True)).records:
            failed = {"k077": Failure("it kills", "dead")} if "k077" in keys_of(taken) else {}
            assert not failed or len(taken.records) == 1
            acked = await rig.queue.ack(taken, failed=failed)
            assert acked is not None
            saved += acked.gone
        assert saved == 139
        assert await rig.queue.pending() == (0, 0)
        assert await noted(rig) == {}


async def test_ordinary_claims_pass_over_a_record_that_has_to_be_alone(redis_server: Server) -> None:
    async with open_rig(redis_server) as rig:
        await put(rig, "a")
        await claim(rig)
        await expire(rig)
        await put(rig, "b", "c")
        ordinary = await claim(rig, records=2)
        assert (keys_of(ordinary), ordinary.suspect_waits) == (["b", "c"], True)
        alone = await claim(rig, alone=True)
        assert (keys_of(alone), alone.deaths, alone.suspect_waits) == (["a"], 0, False)
        assert keys_of(await claim(rig, alone=True)) == []
        assert await noted(rig) == {"a": (1, 0, 1)}


async def test_only_deliveries_in_which_it_was_alone_are_counted(redis_server: Server) -> None:
    async with open_rig(redis_server) as rig:
        await put(rig, "a", "b")
        await claim(rig)
        await expire(rig)
        assert await noted(rig) == {"a": (1, 0, 0), "b": (1, 0, 0)}
        for deaths in range(3):
            alone = await claim(rig, alone=True)
            assert (keys_of(alone), alone.deaths) == (["a"], deaths)
            await expire(rig)
            await rig.link.command("ZADD", rig.keys.dirty, 0, "a")  # its pause is over
        assert await noted(rig) == {"a": (1, 3, 0), "b": (1, 0, 0)}


async def test_release_counts_nothing_and_an_ack_of_any_kind_forgets(redis_server: Server) -> None:
    async with open_rig(redis_server) as rig:
        for settle in ("saved", "later", "retry", "changed", "release"):
            await put(rig, "a")
            await rig.link.command("ZADD", rig.keys.dirty, 0, "a")
            await claim(rig)
            await expire(rig)
            taken = await claim(rig, alone=True)
            assert keys_of(taken) == ["a"], settle
            if settle == "release":
                await rig.queue.release(taken.id)
                assert await noted(rig) == {"a": (1, 0, 1)}
                continue
            if settle == "changed":
                await rig.put("a", b"2")
            failed = {"a": Failure("x", settle)} if settle in ("later", "retry") else {}  # type: ignore[arg-type]
            await rig.queue.ack(taken, failed=failed)
            assert await noted(rig) == {}, settle


async def test_record_that_is_saved_by_the_next_claim_is_no_suspect_any_more(redis_server: Server) -> None:
    """The process was frozen, or couldn't renew its lease. Its late ack says nothing of what it holds no longer."""
    async with open_rig(redis_server) as rig:
        await put(rig, "a", "b")
        frozen = await claim(rig)
        await expire(rig)
        assert set(await noted(rig)) == {"a", "b"}
        await rig.queue.ack(frozen)
        assert set(await noted(rig)) == {"a", "b"}
        for _ in range(2):
            await rig.queue.ack(await claim(rig, alone=True))
        assert await noted(rig) == {}
        assert await rig.queue.pending() == (0, 0)


async def test_new_version_starts_from_nothing(redis_server: Server) -> None:
    async with open_rig(redis_server) as rig:
        await put(rig, "a")
        await claim(rig)
        await expire(rig)
        await claim(rig, alone=True)
        await expire(rig)
        await rig.put("a", b"2")
        await rig.link.command("ZADD", rig.keys.dirty, 0, "a")
        again = await claim(rig)
        assert (keys_of(again), again.suspect_waits) == (["a"], False)
        await expire(rig)
        assert await noted(rig) == {"a": (1, 0, 0)}


async def test_pauses_of_one_that_was_alone_grow(valkey_server: Server) -> None:
    pauses = Retries(0, 10.0, 40.0)
    async with open_rig(valkey_server) as rig:
        await put(rig, "a")
        expected = [0, 10, 20, 40, 40]
        for seconds in expected:
            await claim(rig, alone=bool(await noted(rig)))
            await rig.link.command("ZADD", rig.keys.lease, 1, "a")
            assert await rig.queue.recover(pauses) == 1
            due = (await Inspection(rig.queue).describe("a")).listed.due_in_seconds  # type: ignore[union-attr]
            assert seconds - 1 <= due <= seconds
            await rig.link.command("ZADD", rig.keys.dirty, 0, "a")


@pytest.mark.parametrize("end", ["retry", "drop", "supersede", "audit"])
async def test_whatever_ends_a_record_otherwise_forgets(redis_server: Server, end: str) -> None:
    async with open_rig(redis_server) as rig:
        version = await rig.put("a")
        await claim(rig)
        await expire(rig)
        assert set(await noted(rig)) == {"a"}
        if end == "supersede":
            await rig.queue.supersede([(b"a", version)])
        elif end == "audit":
            await rig.link.command("DEL", rig.keys.record(b"a"))
            await rig.queue.audit()
        else:
            entry = await rig.link.command("HGET", rig.keys.expired, "a")
            await rig.queue.ack((await claim(rig, alone=True)), failed={"a": Failure("x", "dead")})
            await rig.link.command("HSET", rig.keys.expired, "a", entry)
            if end == "retry":
                assert await rig.queue.retry_dead(["a"]) == 1
            else:
                assert await Inspection(rig.queue).drop([each async for each in Inspection(rig.queue).dead()]) == 1
        assert await noted(rig) == {}


@pytest.mark.parametrize("garbage", [b"", b"x", b"\0" * 20, b"\xff" * 20, b"x" * 1000])
async def test_what_another_program_has_written_makes_no_suspect(redis_server: Server, garbage: bytes) -> None:
    async with open_rig(redis_server) as rig:
        await put(rig, "a", "b")
        await rig.link.command("HSET", rig.keys.expired, "a", garbage, "c", garbage)
        taken = await claim(rig)
        assert keys_of(taken) == ["a", "b"]
        await expire(rig)
        now_noted = await noted(rig)
        assert (now_noted["a"], now_noted["b"]) == ((1, 0, 0), (1, 0, 0))


async def test_key_of_another_type_stops_nothing(redis_server: Server) -> None:
    async with open_rig(redis_server) as rig:
        await put(rig, "a")
        await rig.link.command("SET", rig.keys.expired, "x")
        await claim(rig)
        await expire(rig)
        taken = await claim(rig)
        assert keys_of(taken) == ["a"]
        await rig.queue.ack(taken)
        assert await rig.queue.pending() == (0, 0)
        assert [name for name, *_ in await overwritten_keys(rig.queue)] == [rig.keys.expired.decode()]


async def test_full_server_notes_and_isolates_all_the_same(redis_server: Server) -> None:
    async with open_rig(redis_server) as rig:
        await put(rig, "a", "b")
        await rig.claim(lease=LEASE)
        await rig.fill_memory()
        await asyncio.sleep(1.5 * LEASE)
        assert await rig.queue.recover() == 2
        for key in ("a", "b"):
            alone = await claim(rig, alone=True)
            assert keys_of(alone) == [key]
            await rig.queue.ack(alone)
        assert await noted(rig) == {}


# What a flusher makes of it.


@BOTH
async def test_record_that_was_alone_at_each_death_is_a_dead_letter_that_says_so(
    valkey_server: Server, commit: Commit
) -> None:
    memory = MemoryBackend()
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, memory, commit=commit, max_attempts=3)
        await put(rig, "killer", "good")
        await claim(rig)
        for _ in range(3):
            await expire(rig)
            await rig.link.command("ZADD", rig.keys.dirty, 0, "killer")
            assert keys_of(await claim(rig, alone=True)) == ["killer"]
        await expire(rig)
        await rig.link.command("ZADD", rig.keys.dirty, 0, "killer")
        while await bench.flush():
            pass
        assert set(memory.records) == {"good"}, "and it wasn't saved once more"
        assert await rig.where("killer") == {"dead"}
        (letter,) = [event for event in bench.events if isinstance(event, DeadLetter)]
        assert letter.attempts == 3
        assert "its process died 3 times while it saved this record alone" in letter.reason
        (described,) = [each async for each in Inspection(rig.queue).dead()]
        assert described.attempts == 3
        assert await noted(rig) == {}


@BOTH
async def test_suspect_that_is_innocent_is_saved_alone(valkey_server: Server, commit: Commit) -> None:
    memory = MemoryBackend()
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, memory, commit=commit, max_attempts=2)
        await put(rig, "a", "b", "c")
        await claim(rig)
        await expire(rig)
        await put(rig, "d")
        while await bench.flush():
            pass
        assert set(memory.records) == {"a", "b", "c", "d"}
        assert await noted(rig) == {}
        assert not [event for event in bench.events if isinstance(event, DeadLetter)]


async def test_nothing_else_is_held_by_a_process_that_saves_a_record_alone(valkey_server: Server) -> None:
    """Otherwise its death would be counted against other records, too."""

    class Slow(MemoryBackend):
        leased: list[int]

        async def save(self, records: Any) -> int:
            await asyncio.sleep(0.05)
            self.leased.append((await rig.queue.pending())[1] if len(records) == 1 else 0)
            return await super().save(records)

    slow = Slow()
    slow.leased = []
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, slow, batch_size=2)
        await bench.guarded.open()
        bench._opened = True
        await put(rig, "a")
        await claim(rig)
        await expire(rig)
        await put(rig, *(f"k{number}" for number in range(8)))
        await asyncio.gather(*(bench.flush() for _ in range(5)))
        assert len(slow.records) == 9
        assert [leased for leased in slow.leased if leased] == [1]
