"""read_updates.lua: what a flusher reads of a record with updates is noted in it, in the same step."""

from collections.abc import Sequence
from typing import Any

from asyncwb.protocol import scripts
from asyncwb.protocol.messages import Failure
from asyncwb.protocol.pending import is_pending
from asyncwb.redis.link import Argument
from tests.harness.rig import Rig


async def test_claim_notes_how_far_it_has_read(rig: Rig) -> None:
    await rig.put("p", b"1")
    await rig.update("a")
    read = await rig.update("a")
    assert (await rig.pending("a")).note == 0, "nobody has read it"
    claim = await rig.claim()
    (pending,) = claim.pending
    assert (pending.version, pending.note, pending.entries[-1].last) == (read, 0, read)
    assert [record.key for record in claim.records] == ["p"]
    later = await rig.update("a")
    record = await rig.pending("a")
    assert (record.note, record.version) == (read, later)


async def test_note_outlives_leases_failures_and_dead_letters(rig: Rig) -> None:
    """A frozen flusher may save what it has read at any time."""
    read = await rig.update("a")
    await rig.queue.release((await rig.claim()).id)
    await rig.update("a")
    assert (await rig.pending("a")).note == read
    claim = await rig.claim()
    read = claim.pending[0].version
    await rig.queue.ack(claim, failed={"a": Failure("odd", "dead")})
    await rig.update("a")
    assert (await rig.pending("a")).note == read


async def test_put_forgets_the_note_with_the_entries(rig: Rig) -> None:
    await rig.update("a")
    await rig.claim()
    await rig.put("a", b"1")
    await rig.update("a")
    assert (await rig.pending("a")).note == 0


async def test_key_that_gets_an_update_between_claim_and_read_is_read_with_a_note(rig: Rig) -> None:
    await rig.put("a", b"1")
    read = rig.queue._read

    async def after_an_update(session: Any, keys: Sequence[bytes]) -> list[bytes | None]:
        await rig.update("a")
        return await read(session, keys)

    rig.queue._read = after_an_update  # type: ignore[method-assign]
    claim = await rig.claim()
    assert not claim.records
    (pending,) = claim.pending
    assert (await rig.pending("a")).note == pending.version


async def test_records_with_updates_are_never_taken_as_mget_has_read_them(rig: Rig) -> None:
    """Between MGET and the script an update, a put, or an ack of somebody else may come."""
    for key in ("grows", "replaced", "gone"):
        await rig.update(key)
    script = rig.link.session

    class Late:
        """A session in which the records change behind MGET."""

        def __init__(self, session: Any) -> None:
            self._session = session
            self.commands = session.commands

        async def script(self, wanted: Any, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
            if wanted is scripts.READ_UPDATES:
                await rig.update("grows", b"+2")
                await rig.put("replaced", b"7")
                await rig.link.command("DEL", rig.keys.record(b"gone"))
            return await self._session.script(wanted, keys, args)

    async with script() as session:
        found = await rig.queue._read(Late(session), [b"grows", b"replaced", b"gone"])
    assert found[0] is not None
    assert found[0].endswith(b"+2")
    assert (await rig.pending("grows")).note == (await rig.pending("grows")).version
    assert found[1] is not None
    assert not is_pending(found[1])
    assert found[2] is None


async def test_reading_works_at_maxmemory(rig: Rig) -> None:
    read = await rig.update("a")
    await rig.fill_memory()
    claim = await rig.claim()
    assert [each.version for each in claim.pending] == [read]
    assert (await rig.pending("a")).note == read


async def test_what_another_program_has_put_there_is_told_apart(rig: Rig) -> None:
    garbage = {"list": b"", "short": b"x" * 16 + b"uj", "damaged": b"x" * 16 + b"uj" + b"y" * 60}
    await rig.put("list")
    for key, bytes_ in garbage.items():
        await rig.put(key)
        await rig.link.command("DEL", rig.keys.record(key.encode()))
        if bytes_:
            await rig.link.command("SET", rig.keys.record(key.encode()), bytes_)
        else:
            await rig.link.command("LPUSH", rig.keys.record(key.encode()), "x")
    claim = await rig.claim()
    assert set(claim.garbage) == set(garbage)
    assert not claim.records
    assert not claim.pending
    failed = {key: Failure("garbage", "dead") for key in garbage}
    acked = await rig.queue.ack(claim, failed=failed)
    assert acked is not None
    assert set(acked.dead) == set(garbage)
