"""Backends and observers that break their contract: each is told by name, loses nothing and stops nothing."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from asyncwb import (
    BackendUnavailable,
    BrokenContract,
    Buffer,
    DeadLetter,
    Limits,
    OutcomeUnknown,
    Record,
    RecordRejected,
    SaveError,
    TaskCrashed,
)
from asyncwb.core.heartbeat import Heartbeat
from asyncwb.events import FlusherCrashed
from asyncwb.flushing.pool import FlusherPool
from asyncwb.testing import MemoryBackend
from tests.harness.flushing import Bench
from tests.harness.rig import open_rig
from tests.harness.servers import Server


class Answering(MemoryBackend):
    """A backend that saves nothing, and returns what a test gives it."""

    def __init__(self, save: Callable[[Sequence[Record]], Any]) -> None:
        super().__init__()
        self.answer = save

    async def save(self, records: Sequence[Record]) -> Any:
        answer = self.answer(records)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def save_error(failed: Any, stale: Any = 0) -> SaveError:
    error = SaveError({})
    error.failed, error.stale = failed, stale
    return error


SAVES: dict[str, tuple[Any, str]] = {
    "nothing": (None, "save of 2 record.s. returned None: it has to return how many were stale"),
    "a bool": (True, "returned True"),
    "a negative number": (-1, "returned -1"),
    "too many": (3, "returned 3"),
    "a float": (0.0, "returned 0.0"),
    "text": ("0", "returned '0'"),
    "a list": ([], "returned a list"),
    "an unknown name": (SaveError({"nobody": OSError()}), "for key 'nobody', which isn't one of its records"),
    "one unknown name of two": (SaveError({"a": OSError(), "nobody": OSError()}), "for key 'nobody'"),
    "a name that is bytes": (SaveError({b"a": OSError()}), "for key a bytes"),  # type: ignore[dict-item]
    "no name": (SaveError({}), "names no record"),
    "no mapping": (save_error(["a"]), "names no record"),
    "a reason that is text": (SaveError({"a": "disk full"}), "with 'disk full' as a reason"),  # type: ignore[dict-item]
    "more stale than did not fail": (save_error({"a": OSError()}, 2), "stale=2, but 1 of its records did not fail"),
    "a bool for stale": (save_error({"a": OSError()}, True), "stale=True"),
}


@pytest.mark.parametrize(("answer", "told"), SAVES.values(), ids=SAVES)
async def test_nothing_is_taken_for_saved_by_an_answer_that_no_save_may_give(
    valkey_server: Server, caplog: pytest.LogCaptureFixture, answer: Any, told: str
) -> None:
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, Answering(save=lambda records: answer if len(records) == 2 else OSError("one by one")))
        await rig.request([("a", b"1"), ("b", b"1")])
        await bench.flush()
        assert [await rig.where(key) for key in ("a", "b")] == [{"dirty"}] * 2
        assert bench.totals.saved == 0
        await asyncio.sleep(0.06)
        await rig.request([("a", b"2"), ("b", b"2")])
        bench.saves._suspects.clear()
        await bench.flush()
        with pytest.raises(BrokenContract, match=told):
            await bench.guarded.save([Record("a", 1, b"1"), Record("b", 1, b"1")])
    (said,) = [record for record in caplog.records if "broke the contract" in record.message and record.levelno >= 40]
    assert said.message.startswith("backend memory broke the contract of asyncwb.Backend: save ")


async def test_record_whose_saves_are_answered_with_nonsense_ends_alone_as_a_dead_letter(valkey_server: Server) -> None:
    """One cause is a plugin that reports the record under another key; its neighbours are saved."""

    class Renaming(MemoryBackend):
        async def save(self, records: Sequence[Record]) -> int:
            odd = [record.key for record in records if record.key == "ODD"]
            stale = await super().save([record for record in records if record.key != "ODD"])
            if odd:
                raise SaveError({key.lower(): RecordRejected("upper case") for key in odd}, stale=stale)
            return stale

    memory = Renaming()
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, memory, max_attempts=2)
        await rig.request([(key, b"1") for key in ("a", "ODD", "b", "c")])
        async with asyncio.timeout(5):
            while await rig.where("ODD") != {"dead"}:
                await bench.flush()
        assert set(memory.records) == {"a", "b", "c"}
        (dead,) = [event for event in bench.events if isinstance(event, DeadLetter)]
        assert "broke the contract" in dead.reason
        assert "'odd'" in dead.reason


@pytest.mark.parametrize(
    "limits",
    [
        None,
        {},
        *({"max_batch": number} for number in (0, -1, None, True)),
        {"preferred_batch": -1},
        {"concurrent_saves": 0},
        {"concurrent_saves": 1.5},
        {"max_value_bytes": 0},
    ],
    ids=str,
)
async def test_limits_that_nobody_can_keep_are_refused_at_open(valkey_url: str, namespace: str, limits: Any) -> None:
    backend = MemoryBackend()
    backend.limits = Limits(**limits) if limits else limits
    buffer = Buffer[int](valkey_url, backend=backend, namespace=namespace)
    with pytest.raises(BrokenContract, match="limits"):
        await buffer.open()


# What is raised though nobody has cancelled anything.

STRAY: dict[str, Callable[[], BaseException]] = {
    "CancelledError": asyncio.CancelledError,
    "GeneratorExit": GeneratorExit,
    "a group of them": lambda: BaseExceptionGroup("", [asyncio.CancelledError()]),
    "another error": lambda: OSError("disk"),
}
stray = pytest.mark.parametrize("stray", STRAY.values(), ids=STRAY)


class Straying(MemoryBackend):
    """A backend whose next calls raise given errors."""

    def __init__(self, error: Callable[[], BaseException]) -> None:
        super().__init__()
        self.error = error
        self.fails = dict.fromkeys(("open", "close", "new_epoch", "save", "load"), 0)

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        await self._fail("open")
        await super().open(namespace=namespace, former=former)

    async def close(self) -> None:
        await self._fail("close")

    async def new_epoch(self, at_least: int) -> int:
        await self._fail("new_epoch")
        return await super().new_epoch(at_least)

    async def save(self, records: Sequence[Record]) -> int:
        await self._fail("save")
        return await super().save(records)

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        await self._fail("load")
        return await super().load(keys)

    async def _fail(self, call: str) -> None:
        await asyncio.sleep(0)
        if self.fails[call]:
            self.fails[call] -= 1
            raise self.error()


@stray
async def test_whatever_a_backend_raises_fails_the_call_and_nothing_else(
    valkey_url: str, namespace: str, stray: Callable[[], BaseException]
) -> None:
    backend = Straying(stray)
    events: list[Any] = []
    options: Any = {"namespace": namespace, "retry_initial_seconds": 0.01, "flushers": 2}
    async with Buffer[int](valkey_url, backend=backend, observer=events.append, **options) as buffer:
        for number in range(3):
            backend.fails.update(save=2, new_epoch=2)
            await buffer.set("a", number)
            await buffer.flush("a", timeout=5)
        for key in ("x", "y"):
            backend.fails["load"] = 1
            with pytest.raises(BackendUnavailable, match="load of backend Straying"):
                await buffer.get(key)
            assert await buffer.get(key) is None
        assert buffer._engine.pool is not None
        assert buffer._engine.pool.condition()["living"] == 2
        assert buffer.totals.crashes == 0
        backend.fails["close"] = 1
    assert backend.values == {"a": 2}
    assert not [event for event in events if isinstance(event, FlusherCrashed | TaskCrashed)]


@stray
async def test_backend_that_raises_in_open_is_away_for_now(
    valkey_url: str, namespace: str, stray: Callable[[], BaseException]
) -> None:
    backend = Straying(stray)
    async with Buffer[int](valkey_url, backend=backend, namespace=namespace) as buffer:
        await buffer.set("a", 1)
    backend.fails.update(open=1, close=1)
    async with Buffer[int](valkey_url, backend=backend, namespace=namespace) as buffer:
        await buffer.set("b", 2)
        await buffer.flush("b", timeout=5)


async def test_record_whose_save_always_cancels_itself_is_isolated_and_dead_lettered(valkey_server: Server) -> None:
    class Cancelling(MemoryBackend):
        async def save(self, records: Sequence[Record]) -> int:
            if any(record.key == "bad" for record in records):
                inner = asyncio.ensure_future(asyncio.sleep(10))
                asyncio.get_running_loop().call_soon(inner.cancel)  # as a driver whose connection is lost
                await inner
            return await super().save(records)

    memory = Cancelling()
    async with open_rig(valkey_server) as rig:
        bench = Bench(rig, memory, max_attempts=2)
        await rig.request([(key, b"1") for key in ("a", "bad", "b")])
        async with asyncio.timeout(5):
            while await rig.where("bad") != {"dead"}:
                await bench.flush()
        assert set(memory.records) == {"a", "b"}
        (dead,) = [event for event in bench.events if isinstance(event, DeadLetter)]
        assert "CancelledError from within the called code" in dead.reason


@stray
async def test_whatever_an_observer_raises_stops_nothing(
    valkey_url: str, namespace: str, stray: Callable[[], BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def observe(_event: Any) -> None:
        raise stray()

    memory = MemoryBackend()
    async with Buffer[int](valkey_url, backend=memory, namespace=namespace, observer=observe) as buffer:
        for number in range(3):
            await buffer.set("a", number)
            await buffer.flush("a", timeout=5)
        assert buffer.totals.crashes == 0
    assert memory.values == {"a": 2}
    assert "the observer failed on" in caplog.text


# Supervision.

ENDS: dict[str, Callable[[], Any]] = {"returns": lambda: None, "is cancelled from within": asyncio.CancelledError}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize(
    ("owner", "method", "told"),
    [
        (FlusherPool, "run", "the pool of flushers"),
        (FlusherPool, "_listen", "listening for wake-ups"),
        (FlusherPool, "_recover", "recovery of leases"),
        (FlusherPool, "_flush", "flusher"),
        (Heartbeat, "run", "the heartbeat"),
    ],
)
async def test_background_work_that_ends_is_told_and_started_again(
    valkey_url: str,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    owner: Any,
    method: str,
    told: str,
    end: Callable[[], Any],
) -> None:
    original, calls = getattr(owner, method), 0

    async def ending(self: Any, *args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 2:
            await original(self, *args)
        elif error := end():
            raise error

    monkeypatch.setattr(owner, method, ending)
    events: list[Any] = []
    memory = MemoryBackend()
    options: Any = {"namespace": namespace, "flushers": 1, "backoff_initial_seconds": 0.01}
    async with Buffer[int](valkey_url, backend=memory, observer=events.append, **options) as buffer:
        await buffer.set("a", 1)
        await buffer.flush("a", timeout=5)
        async with asyncio.timeout(5):
            while calls < 3:
                await asyncio.sleep(0.01)
        assert buffer.totals.crashes == 2
    crashed = [event for event in events if isinstance(event, FlusherCrashed | TaskCrashed)]
    assert len(crashed) == 2
    assert f"{told}" in caplog.text
    assert [each.levelno for each in caplog.records if "crashed, starting it again" in each.message] == [
        logging.ERROR
    ] * 2


async def test_process_whose_flushers_are_all_gone_says_so(valkey_url: str, namespace: str) -> None:
    buffer = Buffer[int](
        valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=2, backoff_initial_seconds=60,
        backoff_max_seconds=60,
    )  # fmt: skip
    async with buffer:
        pool = buffer._engine.pool
        assert pool is not None
        assert pool.condition()["living"] == 2

        async def crash() -> None:
            raise asyncio.CancelledError

        for flusher in pool._flushers:
            flusher._round = crash  # type: ignore[method-assign,assignment]
        await buffer.set("a", 1)
        async with asyncio.timeout(5):
            while pool.condition()["living"]:
                pool.bell.ring()
                await asyncio.sleep(0.01)
        await buffer.aclose(drain=False)


@pytest.mark.parametrize("batcher", ["puts", "gets", "waiter"])
async def test_calls_are_served_again_after_what_serves_them_has_crashed(
    valkey_url: str, namespace: str, batcher: str
) -> None:
    """Calls that were under way when it crashed end as well, with their result or with an error."""
    options: Any = {"namespace": namespace, "backoff_initial_seconds": 0.01, "flushers": 1}
    async with Buffer[int](valkey_url, backend=MemoryBackend(), **options) as buffer:
        (partition,) = buffer._engine.partitions
        served: Any = getattr(partition, batcher)
        name = "_due" if batcher == "waiter" else "_take"
        original, crashed = getattr(served, name), 0

        def crash() -> Any:
            nonlocal crashed
            crashed += 1
            if crashed == 1:
                raise ZeroDivisionError("a bug")
            return original()

        setattr(served, name, crash)

        async def use() -> None:
            version = await buffer.set("a", 1)
            await buffer.flush("a", version=version, timeout=5)
            assert await buffer.get("a") == 1

        async with asyncio.timeout(10):
            for outcome in await asyncio.gather(*(use() for _ in range(5)), return_exceptions=True):
                assert outcome is None or isinstance(outcome, OutcomeUnknown)
            await use()
        assert crashed
        assert buffer.totals.crashes == 1
