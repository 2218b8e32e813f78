"""The simulation: the same seed is the same world, the code passes, and what is broken is found."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from asyncwb import AsyncwbError, PlaceTaken
from asyncwb.core import router as writing
from asyncwb.core.call_order import CallOrder, Sent
from asyncwb.flushing.stale import StaleRecords
from asyncwb.protocol import scripts
from asyncwb.protocol.messages import Failure
from asyncwb.reading.reader import PendingRead, Reader
from asyncwb.redis.script import Script
from asyncwb.settings import Durability
from tests.proofs.runner.report import Report
from tests.proofs.simulation.changes import Changes
from tests.proofs.simulation.clients import Client
from tests.proofs.simulation.lua import LUA_MISSING
from tests.proofs.simulation.proof import note
from tests.proofs.simulation.storage import SimulatedBackend, Storage
from tests.proofs.simulation.world import SimulatedWorld, run_seed

pytestmark = pytest.mark.skipif(bool(LUA_MISSING), reason=LUA_MISSING)

FIND_WITHIN = 600


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Its faults are as many as its warnings."""
    caplog.set_level(logging.CRITICAL + 1, logger="asyncwb")


def test_nothing_is_lost_stale_or_resurrected() -> None:
    report = Report()
    for seed in range(25):
        note(run_seed(seed), report)
    assert report.problems == []
    assert report.counts["operations checked in simulation"] > 200
    assert sum(count for kind, count in report.counts.items() if kind.startswith("simulated: ")) > 200


@pytest.mark.parametrize("seed", [1, 8, 77])
def test_seed_is_the_same_world_again(seed: int) -> None:
    first, second = run_seed(seed), run_seed(seed)
    assert first.steps > 500
    assert (first.digest, first.steps, first.counts) == (second.digest, second.steps, second.counts)
    assert run_seed(seed + 1).digest != first.digest


def broken(script: Script, old: str, new: str) -> Changes:
    assert old in script.source
    return Changes(scripts={script.name: script.source.replace(old, new)})


@pytest.mark.parametrize(
    ("changes", "invariant"),
    [
        pytest.param(
            broken(
                scripts.ACK,
                "if marked then\n      if settled",
                "if false then\n      if settled",
            ),
            "I2",
            id="ack without looking at marks",
        ),
        pytest.param(Changes(conditional=False), "I3", id="save without its condition"),
        pytest.param(Changes(judged=False), "I2", id="nonsense of the backend is believed"),
        pytest.param(broken(scripts.PUT, " or meta[2] ~= EPOCH", ""), "I", id="put without its epoch"),
        pytest.param(
            broken(scripts.PUT, "noted and noted == identity()", "noted"),
            "I",
            id="put without the identity",
            marks=pytest.mark.long,
        ),
        pytest.param(broken(scripts.PUT, "if REQUEST <= last then", "if false then"), "I5", id="no writer memory"),
        pytest.param(
            broken(scripts.ACK, "if failure then\n    if", "if false then\n    if"), "I2", id="failures acked"
        ),
        pytest.param(
            broken(scripts.PUT, "if no_room and is_hopeless(added, grown) then", "if false then"),
            "hang: a write",
            id="writes wait for dead letters",
            marks=pytest.mark.long,
        ),
        pytest.param(
            broken(scripts.DISOWN, "allow_at_maxmemory()\nlocal noted", "do return 1 end\nlocal noted"),
            "I",
            id="foreign epochs aren't noted",
        ),
        pytest.param(
            broken(scripts.PUT, "if NUMBERS ~= '' then number =", "if false then number ="),
            "key",
            id="a write gets another's number",
        ),
        pytest.param(broken(scripts.RECOVER, "== 1 then", "== 2 then"), "I1", id="recover loses its records"),
        pytest.param(
            broken(scripts.LEAVE, "gone + redis.call('DEL', KEYS[i])", "gone"), "litter", id="writers are not forgotten"
        ),
        pytest.param(
            broken(scripts.HEARTBEAT, "redis.call('PEXPIRE', WORKERS, SILENT_MS)", ""),
            "litter",
            id="the last of the processes that were killed stay",
        ),
    ],
)
def test_broken_protocol_is_found(changes: Changes, invariant: str) -> None:
    for seed in range(FIND_WITHIN):
        if any(problem.startswith(invariant) for problem in run_seed(seed, changes).problems):
            return
    pytest.fail(f"not found within {FIND_WITHIN} seeds")


class Copied(SimulatedWorld):
    """Rows of another history are copied into the storage all the time."""

    def misfortunes(self) -> list[Callable[[], None]]:
        return [self.possible.plant]


class Setting(Client):
    """Its writes are hardly anything else."""

    def _work(self) -> list[Callable[[], Any]]:
        return [*[self._set] * 6, self._get]


class Coarse(SimulatedWorld):
    """Deadlines meet, and what is written through takes leases away before they end."""

    updating_share = 0.0

    def __init__(self, seed: int, changes: Changes | None = None) -> None:
        super().__init__(seed, changes)
        self._clock_step_ms = 1000
        self.keys = self.keys[:1]
        self.settings |= {"lease_seconds": 1.0, "max_delay_seconds": 0.0, "max_dirty": None}
        self.client = Setting
        if not self.calm:
            self.storage_faults.end()
            self.storage_faults.latency = 0.1

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {"partitions": 1, "commit": "script", "on_full": "write-through"}

    def misfortunes(self) -> list[Callable[[], None]]:
        return [self.possible.memory]


@pytest.mark.parametrize(
    ("kind", "changes", "invariant"),
    [
        pytest.param(
            Copied,
            broken(scripts.RESTAMP, "string.sub(record, 1, 8) == version and newer(newest, version)", "true"),
            "key",
            id="restamp of whatever version is there",
            marks=pytest.mark.long,
        ),
        pytest.param(
            Coarse,
            broken(scripts.CLAIM, " or (try('ZCOUNT', CLAIMS, deadline, deadline) or 0) > 0", ""),
            "I2",
            id="a deadline of another claim is given again",
        ),
    ],
)
def test_protocol_broken_for_rare_worlds_is_found(kind: type[SimulatedWorld], changes: Changes, invariant: str) -> None:
    """Of all worlds, one in thousands has what it takes; of these, one in fifty."""
    for seed in range(FIND_WITHIN):
        if any(problem.startswith(invariant) for problem in kind(seed, changes).run().problems):
            return
    pytest.fail(f"not found within {FIND_WITHIN} seeds")


async def _asks_before_it_takes_its_place(self: CallOrder, level: Durability, send: Callable[[], Sent]) -> Sent:
    if not self._given(level):
        await self._ask(level)
    return send()


def _first_failure(failed: Mapping[str, AsyncwbError], **_: Any) -> AsyncwbError:
    return next(iter(failed.values()))


@pytest.mark.parametrize(
    ("owner", "name", "instead", "problem"),
    [
        pytest.param(
            CallOrder, "send", _asks_before_it_takes_its_place, "calls of one process changed their order",
            id="a durability is asked for before the write has its place",
        ),
        pytest.param(
            writing, "failure", _first_failure, "",
            id="a call for several keys fails as its first key does", marks=pytest.mark.long,
        ),
    ],
)  # fmt: skip
def test_broken_call_is_found(
    owner: object, name: str, instead: Callable[..., Any], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, instead)
    for seed in range(FIND_WITHIN):
        if any(problem in each for each in run_seed(seed).problems):
            return
    pytest.fail(f"not found within {FIND_WITHIN} seeds")


def test_hits_that_wait_for_loads_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Reader.read

    async def until_loaded(self: Reader, groups: Sequence[Sequence[bytes]]) -> Any:
        answers = await read(self, groups)
        while any(isinstance(answer, PendingRead) and answer._left for answer in answers):
            await asyncio.sleep(0.05)  # not shorter: each look is a step, and worlds have a number of those
        return answers

    monkeypatch.setattr(Reader, "read", until_loaded)
    # One world in seven is calm, and it takes a few of those: the others needn't be run.
    for seed in range(5 * FIND_WITHIN):
        world = SimulatedWorld(seed)
        if not world.calm:
            world.loop.finish()
        elif any("which is in Redis, took" in problem for problem in world.run().problems):
            return
    pytest.fail(f"not found within the calm ones of {5 * FIND_WITHIN} seeds")


def test_stale_records_that_nobody_looks_at_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> dict[str, Failure]:
        return {}

    monkeypatch.setattr(StaleRecords, "unsaved", nothing)
    for seed in range(FIND_WITHIN):
        if any(problem.startswith("I2") for problem in run_seed(seed).problems):
            return
    pytest.fail(f"not found within {FIND_WITHIN} seeds")


@pytest.mark.long
def test_believing_what_the_backend_shows_before_it_is_durable_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedBackend, "load_durable", SimulatedBackend.load)
    for seed in range(FIND_WITHIN):
        if any(" returned, " in problem for problem in run_seed(seed).problems):
            return
    pytest.fail(f"not found within {FIND_WITHIN} seeds")


def test_second_namespace_is_refused_by_the_storage() -> None:
    storage = Storage(lambda *_: None)
    storage.opened("one", None)
    with pytest.raises(PlaceTaken):
        storage.opened("two", None)
