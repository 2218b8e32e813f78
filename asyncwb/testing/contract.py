"""The contract of a backend as tests: subclass `BackendContract`, give it a `backend` fixture, run pytest.

::

    class TestMyBackend(BackendContract):
        @pytest.fixture
        async def backend(self, tmp_path):
            backend = MyBackend(tmp_path)
            await backend.open()
            yield backend
            await backend.close()

The backend has to be open and empty. pytest-asyncio has to run in its auto mode.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from asyncwb.backend import Backend
from asyncwb.errors import SaveError
from asyncwb.records import Record, make_version

KEYS = (
    "a", "42", "with space", "ключ", "日本語", "🙂", "e\u0301", "\u00e9", "a/b", "../up", "a\\b", "quote'\"", "%s",
    "{x}", "$dollar",
    "dot.ted", "nul\0byte", "line\nbreak", "CON", "Case", "case", "-", "?", "*", "x" * 1024, "é" * 512,
)  # fmt: skip
"""Keys that have broken storage before; each is legal."""


def version(seq: int, epoch: int = 1) -> int:
    """A version of epoch 1, or another."""
    return make_version(epoch, seq)


def put(key: str, seq: int, payload: bytes = b'{"n":1}', *, epoch: int = 1) -> Record:
    """A record with a JSON value."""
    return Record(key, version(seq, epoch), payload)


def tombstone(key: str, seq: int, *, epoch: int = 1) -> Record:
    """A record that deletes."""
    return Record(key, version(seq, epoch), deleted=True)


class BackendContract:
    """What every backend promises; see `asyncwb.Backend`."""

    async def test_save_then_load_gives_the_record_back(self, backend: Backend) -> None:
        assert await backend.save([put("a", 1)]) == 0
        assert await backend.load(["a", "absent"]) == {"a": put("a", 1)}

    @pytest.mark.parametrize(
        "record",
        [
            Record("k", version(1), b'{"name":"Ada","visits":1}'),
            Record("k", version(1), b'"text"'),
            Record("k", version(1), b"1.5e300"),
            Record("k", version(1), '{"ü":"日本🙂\\u0000"}'.encode()),
            Record("k", version(1), b"\x81\xa1a\x01", codec="msgpack"),
            Record("k", version(1), bytes(range(256)), codec="bytes"),
            Record("k", version(1), b"", codec="bytes"),
        ],
        ids=["object", "string", "number", "unicode", "msgpack", "bytes", "empty"],
    )
    async def test_payload_and_codec_survive(self, backend: Backend, record: Record) -> None:
        await backend.save([record])
        loaded = (await backend.load(["k"]))["k"]
        assert loaded == record
        assert loaded.value == record.value

    async def test_every_legal_key_is_its_own(self, backend: Backend) -> None:
        records = [put(key, seq, b'"%d"' % seq) for seq, key in enumerate(KEYS, 1)]
        assert await backend.save(records) == 0
        assert await backend.load(KEYS) == {record.key: record for record in records}

    async def test_older_or_equal_version_is_stale_and_not_applied(self, backend: Backend) -> None:
        await backend.save([put("a", 5, b'"new"')])
        assert await backend.save([put("a", 4, b'"old"')]) == 1
        assert await backend.save([put("a", 5, b'"same"')]) == 1
        assert (await backend.load(["a"]))["a"].payload == b'"new"'

    async def test_epoch_outranks_sequence(self, backend: Backend) -> None:
        await backend.save([put("a", 4_000_000_000, b'"old"', epoch=1)])
        assert await backend.save([put("a", 1, b'"new"', epoch=2)]) == 0
        assert (await backend.load(["a"]))["a"] == put("a", 1, b'"new"', epoch=2)

    async def test_highest_possible_version_is_kept_exactly(self, backend: Backend) -> None:
        highest = put("a", 2**32 - 1, epoch=2**31 - 1)
        await backend.save([put("a", 2**32 - 2, epoch=2**31 - 1)])
        assert await backend.save([highest]) == 0
        assert await backend.load(["a"]) == {"a": highest}

    async def test_mixed_batch_counts_only_the_stale(self, backend: Backend) -> None:
        await backend.save([put("a", 5), put("b", 5)])
        assert await backend.save([put("a", 6), put("b", 4), put("c", 1)]) == 1
        loaded = await backend.load(["a", "b", "c"])
        assert {key: record.version for key, record in loaded.items()} == {
            "a": version(6), "b": version(5), "c": version(1),
        }  # fmt: skip

    async def test_repeating_a_save_changes_nothing(self, backend: Backend) -> None:
        records = [put("a", 1), tombstone("b", 2)]
        await backend.save(records)
        assert await backend.save(records) == 2
        assert await backend.load(["a", "b"]) == {"a": records[0], "b": records[1]}

    async def test_tombstone_stops_a_late_old_save(self, backend: Backend) -> None:
        await backend.save([put("a", 1)])
        assert await backend.save([tombstone("a", 3)]) == 0
        assert await backend.save([put("a", 2)]) == 1
        assert (await backend.load(["a"]))["a"].deleted

    async def test_tombstone_of_an_unknown_key_is_kept(self, backend: Backend) -> None:
        assert await backend.save([tombstone("a", 3)]) == 0
        assert await backend.save([put("a", 2)]) == 1
        loaded = (await backend.load(["a"]))["a"]
        assert (loaded.deleted, loaded.version) == (True, version(3))

    async def test_key_can_be_created_again(self, backend: Backend) -> None:
        await backend.save([put("a", 1)])
        await backend.save([tombstone("a", 2)])
        assert await backend.save([put("a", 3, b'"again"')]) == 0
        assert await backend.load(["a"]) == {"a": put("a", 3, b'"again"')}

    async def test_nothing_to_save_or_load_is_fine(self, backend: Backend) -> None:
        assert await backend.save([]) == 0
        assert await backend.load([]) == {}

    async def test_large_batch(self, backend: Backend) -> None:
        records = [put(f"key-{number}", number + 1) for number in range(min(3000, backend.limits.max_batch))]
        assert await backend.save(records) == 0
        assert await backend.load([record.key for record in records]) == {record.key: record for record in records}

    async def test_concurrent_saves_end_at_the_highest_version(self, backend: Backend) -> None:
        keys = [f"k{number}" for number in range(20)]
        batches = [[put(key, seq, b"%d" % seq) for key in keys] for seq in range(1, 31)]
        await asyncio.gather(*(backend.save(batch) for batch in reversed(batches)))
        loaded = await backend.load(keys)
        assert {(record.version, record.payload) for record in loaded.values()} == {(version(30), b"30")}

    async def test_poison_fails_alone(self, backend: Backend) -> None:
        for number, poison in enumerate(self.poison()):
            records = [put(f"before {number}", 1), poison, put(f"after {number}", 1)]
            with pytest.raises(SaveError) as caught:
                await backend.save(records)
            assert set(caught.value.failed) == {poison.key}
            assert len(await backend.load([records[0].key, records[2].key])) == 2

    def poison(self) -> Sequence[Record]:
        """Override: records that this backend can't store, if there are any."""
        return ()

    async def test_cancelled_save_leaves_the_backend_usable(self, backend: Backend) -> None:
        suspensions = 0
        for stop_at in range(1, 200):
            seq = stop_at * 10
            finished = await run_until_suspension(lambda seq=seq: backend.save([put("a", seq)]), stop_at)  # type: ignore[misc]
            assert await backend.save([put("b", seq)]) == 0
            loaded = await backend.load(["a", "b"])
            assert loaded["b"].version == version(seq)
            if finished:
                assert loaded["a"].version == version(seq)
                break
            suspensions = stop_at
        else:
            pytest.fail(f"a save was still not finished after {suspensions} suspensions")

    async def test_epochs_are_never_given_twice(self, backend: Backend) -> None:
        assert await backend.new_epoch(0) == 0
        epochs = await asyncio.gather(*(backend.new_epoch(1) for _ in range(20)))
        assert len(set(epochs)) == 20
        assert min(epochs) >= 1
        assert await backend.new_epoch(0) == max(epochs)

    async def test_epoch_is_at_least_what_is_asked(self, backend: Backend) -> None:
        assert await backend.new_epoch(7) >= 7
        assert await backend.new_epoch(3) > 7

    async def test_everything_survives_closing(self, backend: Backend) -> None:
        await backend.save([put("a", 1), tombstone("b", 2)])
        epoch = await backend.new_epoch(1)
        await backend.close()
        await backend.open()
        assert await backend.load(["a", "b"]) == {"a": put("a", 1), "b": tombstone("b", 2)}
        assert await backend.new_epoch(0) == epoch
        assert await backend.new_epoch(1) > epoch

    async def test_closing_twice_is_fine(self, backend: Backend) -> None:
        await backend.close()
        await backend.close()


class _Stepped:
    """An awaitable that cancels its task when the wrapped coroutine suspends for the nth time."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], stop_at: int) -> None:
        self._coroutine = coroutine
        self._stop_at = stop_at
        self.suspensions = 0
        self.task: asyncio.Task[Any] | None = None

    def __await__(self) -> Any:
        inner = self._coroutine.__await__()
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                waiting = inner.send(value) if error is None else inner.throw(error)
            except StopIteration as stop:
                return stop.value
            self.suspensions += 1
            if self.suspensions == self._stop_at and self.task is not None:
                asyncio.get_running_loop().call_soon(self.task.cancel)
            value, error = None, None
            try:
                value = yield waiting
            except BaseException as caught:  # noqa: BLE001 - handed on to the wrapped coroutine
                error = caught


async def run_until_suspension(make: Callable[[], Coroutine[Any, Any, Any]], stop_at: int) -> bool:
    """Runs a coroutine and cancels it at its nth suspension; True if it finished before that, or all the same."""
    stepped = _Stepped(make(), stop_at)

    async def run() -> None:
        await stepped

    stepped.task = task = asyncio.create_task(run())
    await asyncio.wait([task])
    if task.cancelled():
        return False
    task.result()
    return stepped.suspensions < stop_at
