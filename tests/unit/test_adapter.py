"""BackendAdapter: every call bounded, every answer judged, and every failure an error of asyncwb's tree."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest

from asyncwb import (
    BackendError,
    BackendUnavailable,
    BrokenContract,
    ConfigurationError,
    Limits,
    Record,
    RecordRejected,
    SaveError,
    UsageError,
)
from asyncwb.errors import BackendReplaced, BackendTimeout, RedisUnavailable
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.records import make_version
from asyncwb.support.stopwatch import Stopwatch
from asyncwb.testing import FaultyBackend, MemoryBackend

RECORDS = [Record("a", 1, b"1"), Record("b", 1, b"1")]


def guard(backend: Any, *, connect: float = 5.0, save: float = 5.0) -> BackendAdapter:
    return BackendAdapter(
        backend, name="broken://it", namespace="broken", connect_timeout_seconds=connect, save_timeout_seconds=save
    )


class Answering(MemoryBackend):
    """Keeps what it is asked, and answers what a test gives it."""

    def __init__(self, **answers: Any) -> None:
        super().__init__()
        self.answers = answers
        self.asked: list[str] = []

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        self._answer("open", namespace)
        await super().open(namespace=namespace, former=former)

    async def close(self) -> None:
        self._answer("close", None)

    async def save(self, records: Sequence[Record]) -> Any:
        return self._answer("save", records)

    async def load(self, keys: Sequence[str]) -> Any:
        return self._answer("load", keys)

    async def new_epoch(self, at_least: int) -> Any:
        return self._answer("new_epoch", at_least)

    def _answer(self, call: str, argument: Any) -> Any:
        self.asked.append(call)
        answer = self.answers.get(call, {"save": 0, "load": {}, "new_epoch": 0}.get(call))
        if callable(answer):
            answer = answer(argument)
        if isinstance(answer, BaseException):
            raise answer
        return answer


# Answers


def record(**fields: Any) -> Record:
    made = Record("a", 1, b"1")
    for name, value in fields.items():
        setattr(made, name, value)
    return made


LOADS: dict[str, tuple[Any, str]] = {
    "nothing": (None, "load returned None"),
    "a list": ([record()], "load returned a list"),
    "another key": ({"b": record(key="b")}, "key 'b', which wasn't asked for"),
    "no text for a key": ({1: record()}, "key 1, which wasn't asked for"),
    "another record": ({"a": record(key="b")}, "the record of key 'b' for key 'a'"),
    "a value": ({"a": {"n": 1}}, "returned a dict for key 'a'"),
    "None for what is absent": ({"a": None}, "returned None for key 'a'"),
    "a negative version": ({"a": record(version=-1)}, "version -1"),
    "too high a version": ({"a": record(version=2**63)}, "version 9223372036854775808"),
    "no version": ({"a": record(version=None)}, "version None"),
    "a version that is a float": ({"a": record(version=1.0)}, "version 1.0"),
    "a payload that is text": ({"a": record(payload="1")}, "as the payload of key 'a'"),
    "an unknown codec": ({"a": record(codec="xml")}, "codec 'xml'"),
    "a codec that can't be compared": ({"a": record(codec=[])}, "codec a list"),
    "a mark of deletion that is a number": ({"a": record(deleted=1)}, "deleted=1"),
}


@pytest.mark.parametrize(("answer", "told"), LOADS.values(), ids=LOADS)
async def test_load_that_answers_nonsense_is_refused_with_what_was_wrong(answer: Any, told: str) -> None:
    backend = guard(Answering(load=answer))
    with pytest.raises(BrokenContract, match=told):
        await backend.load(["a"])


@pytest.mark.parametrize(
    ("at_least", "answer"), [(0, None), (0, True), (0, -1), (0, "1"), (0, 2**31), (5, 4), (5, 0), (1, 1.0)]
)
async def test_epoch_that_is_none_is_refused(at_least: int, answer: Any) -> None:
    with pytest.raises(BrokenContract, match="new_epoch"):
        await guard(Answering(new_epoch=answer)).new_epoch(at_least)


async def test_save_error_that_names_no_record_of_the_save_is_refused() -> None:
    """What it doesn't name would count as saved."""
    backend = guard(Answering(save=SaveError({"nobody": OSError()})))
    with pytest.raises(BrokenContract, match="'nobody', which isn't one of its records"):
        await backend.save(RECORDS)


async def test_save_error_that_names_some_records_is_passed_on() -> None:
    error = SaveError({"a": RecordRejected("odd")}, stale=1)
    with pytest.raises(SaveError) as caught:
        await guard(Answering(save=error)).save(RECORDS)
    assert caught.value is error


# Failures

RAISED: dict[str, tuple[Callable[[], BaseException], type[BackendError]]] = {
    "an error of a driver": (lambda: OSError("disk"), BackendUnavailable),
    "no such method": (lambda: AttributeError("save"), BackendUnavailable),
    "CancelledError": (asyncio.CancelledError, BackendUnavailable),
    "GeneratorExit": (GeneratorExit, BackendUnavailable),
    "a group of them": (lambda: BaseExceptionGroup("", [asyncio.CancelledError()]), BackendUnavailable),
    "an error of another part of the tree": (lambda: RedisUnavailable("?"), BackendUnavailable),
    "a time limit of its own": (TimeoutError, BackendTimeout),
}


@pytest.mark.parametrize(("raised", "becomes"), RAISED.values(), ids=RAISED)
@pytest.mark.parametrize("call", ["open", "close", "new_epoch", "save", "load"])
async def test_whatever_a_plugin_raises_is_a_failure_of_that_call(
    call: str, raised: Callable[[], BaseException], becomes: type[BackendError]
) -> None:
    adapter = guard(Answering(**{call: lambda _: raised()}))
    calls: dict[str, Callable[[], Any]] = {
        "open": adapter.open,
        "close": adapter.close,
        "new_epoch": lambda: adapter.new_epoch(0),
        "save": lambda: adapter.save(RECORDS),
        "load": lambda: adapter.load(["a"]),
    }
    with pytest.raises(becomes, match=f"{call} of backend broken://it") as caught:
        await calls[call]()
    assert type(caught.value) is becomes
    assert caught.value.__cause__ is not None, "what the driver said"


async def test_error_of_the_tree_is_passed_on_as_it_is() -> None:
    error = BackendUnavailable("the disk is away")
    with pytest.raises(BackendUnavailable) as caught:
        await guard(Answering(load=error)).load(["a"])
    assert caught.value is error


async def test_call_that_takes_too_long_is_cancelled_and_the_next_one_works() -> None:
    backend = FaultyBackend(MemoryBackend())
    adapter = guard(backend, save=0.02)
    await adapter.open()
    before = asyncio.all_tasks()
    backend.before_save.clear()
    with pytest.raises(BackendTimeout, match=r"save of backend broken://it took longer than 0\.02 s"):
        await adapter.save(RECORDS)
    backend.before_load.clear()
    with pytest.raises(BackendTimeout, match="load of backend"):
        await adapter.load(["a"])
    assert asyncio.all_tasks() == before
    backend.before_save.set()
    backend.before_load.set()
    assert await adapter.save(RECORDS, seconds=5.0) == 0
    assert {*await adapter.load(["a", "c"])} == {"a"}


async def test_cancellation_of_the_caller_is_no_failure_and_reaches_the_backend() -> None:
    backend = FaultyBackend(MemoryBackend())
    guarded = guard(backend)
    await guarded.load([])
    backend.before_load.clear()
    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await guarded.load(["a"])
    with anyio.move_on_after(0.02) as scope:
        await guarded.load(["a"])
    assert scope.cancelled_caught
    task = asyncio.create_task(guarded.load(["a"]))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before, "no call goes on behind its caller"


async def test_backend_that_cannot_be_cancelled_holds_nobody_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    released = asyncio.Event()

    class Stubborn(MemoryBackend):
        async def load(self, keys: Sequence[str]) -> dict[str, Record]:
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    continue
            return {}

    monkeypatch.setattr("asyncwb.support.foreign._CLEANUP_SECONDS", 0.05)
    before = asyncio.all_tasks()
    with pytest.raises(BackendTimeout, match="took longer than"):
        await guard(Stubborn(), save=0.05).load(["a"])
    (left,) = asyncio.all_tasks() - before
    released.set()
    await left


def test_exit_of_the_process_is_nobodys_failure() -> None:
    for error in (KeyboardInterrupt, SystemExit):

        async def load(error: type[BaseException] = error) -> None:
            await guard(Answering(load=error())).load(["a"])

        with pytest.raises(error):
            asyncio.run(load())


# Opening


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


# Sharing


class Turns(Stopwatch):
    """Counts how often it was started, which it is when it is made."""

    def __init__(self) -> None:
        self.starts = 0
        super().__init__()

    def start(self) -> None:
        self.starts += 1
        super().start()


async def test_save_waits_for_a_slot_and_its_time_begins_when_it_has_one() -> None:
    backend = FaultyBackend(MemoryBackend(Limits(concurrent_saves=2)))
    backend.before_save.clear()
    adapter = guard(backend)
    watches = [Turns() for _ in range(3)]
    saves = [asyncio.create_task(adapter.save(RECORDS, watch=watch)) for watch in watches]
    async with asyncio.timeout(5):
        while len(backend.saves) < 2:
            await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(backend.saves) == 2
    assert [watch.starts for watch in watches] == [2, 2, 1]
    assert adapter.progress.stalled_seconds > 0, "that is seen while they hang"
    backend.before_save.set()
    await asyncio.gather(*saves)
    assert [watch.starts for watch in watches] == [2, 2, 2]
    assert adapter.progress.stalled_seconds == 0.0


class OfOneBuffer(MemoryBackend):
    shareable = False


async def test_object_of_an_open_buffer_is_refused_to_another_until_it_is_released() -> None:
    backend = OfOneBuffer()
    first, second = guard(backend), guard(backend)
    first.reserve()
    first.reserve()
    with pytest.raises(UsageError, match="in use by another open buffer"):
        second.reserve()
    second.release()
    with pytest.raises(UsageError):
        second.reserve()
    first.release()
    second.reserve()
    second.release()


async def test_object_that_says_so_may_be_shared() -> None:
    backend = MemoryBackend()
    first, second = guard(backend), guard(backend)
    first.reserve()
    second.reserve()
    first.release()
    second.release()


def test_object_whose_event_loop_has_ended_is_free() -> None:
    """Nobody can close that buffer any more."""
    backend = OfOneBuffer()

    async def reserve(adapter: BackendAdapter, *, release: bool) -> None:
        adapter.reserve()
        if release:
            adapter.release()

    asyncio.run(reserve(guard(backend), release=False))
    asyncio.run(reserve(guard(backend), release=True))


# What a plugin may leave out


async def test_what_is_durable_is_asked_for_where_the_backend_can_tell() -> None:
    class Shows(MemoryBackend):
        async def load_durable(self, keys: Sequence[str]) -> dict[str, Record]:
            return {}

    for backend, found in ((Shows(), set()), (MemoryBackend(), {"a", "b"})):
        adapter = guard(backend)
        await adapter.save(RECORDS)
        assert {*await adapter.load(["a", "b"])} == {"a", "b"}
        assert {*await adapter.load_durable(["a", "b"])} == found


async def test_backend_that_keeps_no_servers_notes_none() -> None:
    class Forgetful:
        def __init__(self, inner: MemoryBackend) -> None:
            self.limits = inner.limits
            self.open, self.close = inner.open, inner.close
            self.new_epoch, self.save, self.load = inner.new_epoch, inner.save, inner.load

    assert await guard(Forgetful(MemoryBackend())).note_server(0, 3, "a server") == []
    assert await guard(MemoryBackend()).note_server(0, 3, "a server") == [(3, "a server")]
