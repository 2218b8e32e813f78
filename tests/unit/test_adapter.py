"""BackendAdapter: every call bounded, every answer judged, and every failure an error of asyncwb's tree."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest

from asyncwb import BackendError, BackendUnavailable, BrokenContract, Record, RecordRejected, SaveError
from asyncwb.errors import BackendTimeout, RedisUnavailable
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness.adapters import RECORDS, Answering, guard


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
    "what a save was based on": ({"a": record(based_on=0)}, "key 'a' with based_on"),
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


# What a plugin doesn't know


async def test_record_with_a_base_is_not_given_to_a_plugin_that_does_not_declare_to_know_it() -> None:
    """A plugin that ignores the base would overwrite what it isn't based on."""
    assert guard(MemoryBackend()).supports_based_on
    assert await guard(Answering()).save([Record("a", 2, b"2", based_on=0)]) == 0
    asked = Answering()
    asked.supports_based_on = False
    backend = guard(asked)
    assert not backend.supports_based_on
    with pytest.raises(BackendUnavailable, match="can't save updates, such as that of key 'c': its plugin doesn't"):
        await backend.save([*RECORDS, Record("c", 2, b"2", based_on=0)])
    assert "save" not in asked.asked, "nothing of that batch was given to it"
    assert await backend.save(RECORDS) == 0


def test_wrapper_for_faults_knows_what_the_backend_inside_knows() -> None:
    inner = MemoryBackend()
    assert guard(FaultyBackend(inner)).supports_based_on
    inner.supports_based_on = False
    assert not guard(FaultyBackend(inner)).supports_based_on


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
