"""fold.lua: takes the place of exactly the bytes that were read, behind what any flusher has read, or does nothing."""

from collections.abc import Sequence

from asyncwb.protocol.pending import Entry, PendingRecord, foldable, pack_entries
from asyncwb.records import make_version
from tests.harness.rig import Rig


def place_of(record: PendingRecord, entries: Sequence[Entry]) -> int:
    return record.at + len(pack_entries(record.entries[: len(record.entries) - len(entries)]))


async def fold(rig: Rig, record: PendingRecord, entries: Sequence[Entry], payload: bytes = b"+9") -> int:
    """Folds the last entries of a record, as they were read, into one."""
    folded = Entry(entries[0].first, entries[-1].last, payload)
    return await rig.queue.fold(record.key.encode(), place_of(record, entries), entries, [folded])


async def test_entries_become_one_with_the_first_and_the_last_of_their_versions(rig: Rig) -> None:
    await rig.put("a", b"7")
    versions = [await rig.update("a", b"+%d" % number) for number in range(1, 5)]
    record = await rig.pending("a")
    size = await rig.link.command("STRLEN", rig.keys.record(b"a"))
    assert foldable(record) == record.entries
    assert await fold(rig, record, record.entries) == 3 * 22
    folded = await rig.pending("a")
    assert folded.entries == (Entry(versions[0], versions[-1], b"+9"),)
    assert (folded.version, folded.base, folded.origin) == (record.version, record.base, record.origin)
    assert await rig.link.command("STRLEN", rig.keys.record(b"a")) == size - 66 == (await rig.queue.stats()).bytes
    assert await rig.where("a") == {"dirty"}


async def test_fold_behind_a_fold_and_a_note(rig: Rig) -> None:
    read = await rig.update("a", b"+1")
    await rig.claim()
    for _ in range(2):
        for _ in range(3):
            await rig.update("a", b"+1")
        record = await rig.pending("a")
        entries = foldable(record)
        assert await fold(rig, record, entries) > 0
        record = await rig.pending("a")
        assert [each.payload for each in record.entries] == [b"+1", b"+9"]
        assert record.note == read
        assert await rig.where("a") == {"leased"}


async def test_what_a_flusher_has_read_is_not_folded_with_what_it_has_not(rig: Rig) -> None:
    await rig.update("a")
    read = await rig.update("a")
    before = await rig.pending("a")
    await rig.claim()
    await rig.update("a")
    record = await rig.pending("a")
    assert [each.first for each in foldable(record)] == [record.version]
    assert await fold(rig, record, record.entries) == 0
    assert await fold(rig, record, record.entries[1:]) == 0
    assert await fold(rig, before, before.entries) == 0, "it was read since the writer has looked"
    assert await rig.pending("a") == record
    assert record.note == read


async def test_anything_that_became_of_the_entries_is_left_alone(rig: Rig) -> None:
    async def entries_of(key: str) -> PendingRecord:
        for payload in (b"+1", b"+2", b"+3"):
            await rig.update(key, payload)
        return await rig.pending(key)

    record = await entries_of("put")
    await rig.put("put", b"1")
    assert await fold(rig, record, record.entries) == 0
    assert (await rig.read("put") or (0, b""))[1] == b"1"

    record = await entries_of("put and update")
    await rig.put("put and update", b"1")
    await rig.update("put and update")
    assert await fold(rig, record, record.entries) == 0

    record = await entries_of("folded")
    assert await fold(rig, record, record.entries) > 0
    assert await fold(rig, record, record.entries) == 0
    assert len((await rig.pending("folded")).entries) == 1

    record = await entries_of("gone")
    await rig.link.command("DEL", rig.keys.record(b"gone"))
    assert await fold(rig, record, record.entries) == 0
    assert await rig.record("gone") is None

    record = await entries_of("list")
    await rig.link.command("DEL", rig.keys.record(b"list"))
    await rig.link.command("LPUSH", rig.keys.record(b"list"), "x")
    assert await fold(rig, record, record.entries) == 0

    record = await entries_of("shortened")
    claim = await rig.claim()
    await rig.update("shortened")
    versions = {each.key: each.version for each in claim.pending}
    await rig.queue.ack(claim, updated=versions)
    assert await fold(rig, record, record.entries) == 0
    assert len((await rig.pending("shortened")).entries) == 1


async def test_entries_that_were_added_since_stay_behind_the_folded_one(rig: Rig) -> None:
    for _ in range(3):
        await rig.update("a", b"+1")
    record = await rig.pending("a")
    last = await rig.update("a", b"+4")
    assert await fold(rig, record, record.entries) > 0
    folded = await rig.pending("a")
    assert [each.payload for each in folded.entries] == [b"+9", b"+4"]
    assert folded.version == last


async def test_mark_and_token_stay(rig: Rig) -> None:
    """Nothing is written by a fold."""
    await rig.update("a")
    await rig.claim()
    for _ in range(3):
        await rig.update("a")
    taken = await rig.queue.take_token(b"a", epoch=1)
    assert taken is not None
    record = await rig.pending("a")
    assert await fold(rig, record, foldable(record)) > 0
    assert await rig.link.command("SMISMEMBER", rig.keys.changed, "a") == [1]
    assert await rig.queue.take_token(b"a", epoch=1) == (1, taken[1], await rig.queue.packed(b"a"))


async def test_updates_of_two_epochs_are_not_folded_together(rig: Rig) -> None:
    """A history that was lost may have saved a version in between."""
    await rig.update("a", b"+1")
    await rig.update("a", b"+2")
    await rig.prepare(2)
    first = await rig.update("a", b"+3")
    await rig.update("a", b"+4")
    record = await rig.pending("a")
    assert first == make_version(2, 1)
    assert [each.payload for each in foldable(record)] == [b"+3", b"+4"]
    assert await fold(rig, record, foldable(record)) > 0
    assert [each.payload for each in (await rig.pending("a")).entries] == [b"+1", b"+2", b"+9"]


async def test_folding_works_at_maxmemory(rig: Rig) -> None:
    for _ in range(3):
        await rig.update("a")
    record = await rig.pending("a")
    await rig.fill_memory()
    assert await fold(rig, record, record.entries) > 0
