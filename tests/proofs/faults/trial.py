"""One run of the workload with one fault, or with none, and the judgement of all that it has left."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from asyncwb import Buffer
from asyncwb.records import MAX_SEQ, epoch_of
from asyncwb.redis.connection import RedisLink
from asyncwb.testing import FaultyBackend
from tests.harness.servers import Server
from tests.proofs.faults import updates
from tests.proofs.faults.driver import Driver
from tests.proofs.faults.history import History
from tests.proofs.faults.keyspace import Keyspace
from tests.proofs.faults.lists import ListHistory
from tests.proofs.faults.points import Point, arguments_of
from tests.proofs.faults.proxy import Fault, FaultProxy, Line
from tests.proofs.faults.updates import ListDriver
from tests.proofs.faults.variants import Variant
from tests.proofs.faults.workload import verification, verification_ends, workload

_TRIAL_SECONDS: Final = 120.0


@dataclass(slots=True)
class Trial:
    """What one run has shown.

    Attributes:
        history: every write, and a report of violations.
        fault: what was to happen, and whether it did.
        points: the commands of the workload, each with whether it was answered.
        log: all commands, for those who look into it.
        recovery_seconds: from the fault to the next success.
    """

    history: History
    fault: Fault | None
    points: dict[Point, bool]
    log: list[Line]
    recovery_seconds: float | None = None


class Bench:
    """A server, and a direct connection to it, for many trials at once."""

    def __init__(self, variant: Variant, server: Server) -> None:
        self.variant = variant
        self._server = server
        self._link = RedisLink.from_url(server.url, timeout_seconds=30.0)
        self._trials = 0

    async def close(self) -> None:
        await self._link.close()

    async def run(self, fault: Fault | None = None) -> Trial:
        """One trial in a namespace of its own."""
        self._trials += 1
        namespace = f"n{self._trials}"
        proxy = FaultProxy(self._server, fault, cold=self.variant.cold)
        history = (ListHistory if self.variant.updates else History)(
            afloat=fault is not None and fault.kind.startswith("delay request")
        )
        keyspace = Keyspace(self._link, namespace)
        with self.variant.backend() as inner:
            backend = FaultyBackend(inner)
            async with proxy.serving():
                try:
                    async with asyncio.timeout(_TRIAL_SECONDS):
                        return await self._judged(proxy, history, keyspace, backend, namespace)
                except TimeoutError:
                    history.problem(f"not over after {_TRIAL_SECONDS:g} s")
                    return Trial(history, fault, {}, proxy.log)
                finally:
                    await keyspace.clear()

    async def _judged(
        self, proxy: FaultProxy, history: History, keyspace: Keyspace, backend: FaultyBackend, namespace: str
    ) -> Trial:
        options = self.variant.options(namespace)
        fault = proxy.fault
        values = self.variant.type
        new_driver: type[Any] = ListDriver if self.variant.updates else Driver
        buffer = Buffer[Any](self.variant.target(proxy.port), backend=backend, type=values, **options)
        driver = new_driver(
            buffer, backend, keyspace, history, excused=True, fault=fault, clients=lambda: proxy.clients
        )
        if fault is not None:
            proxy.interrupt = driver.stop if fault.kind.startswith("stop") else driver.cancel
        use, check = (updates.workload, updates.verification) if self.variant.updates else (workload, verification)
        await driver.run(use)
        points = {line.point: line.answered for line in proxy.log}

        # The network heals. A successor opens, which speaks to the server directly.
        proxy.heal()
        for attribute in (backend.poison, backend.batch_poison):
            attribute.clear()
        backend.fail_saves = 0
        backend.before_save.set()
        patient = {**options, "redis_timeout_seconds": 10.0, "redis_retry_seconds": 20.0, "drain_timeout_seconds": 20.0}
        heir = new_driver(
            Buffer[Any](self.variant.target(self._server.port), backend=backend, type=values, **patient),
            backend,
            keyspace,
            history,
            excused=False,
        )

        async def ends(driver: Any) -> None:
            await check(driver)
            await proxy.delivered()  # what was held to the end comes now
            await verification_ends(driver)

        await heir.run(ends)
        await self._judge(history, keyspace, backend, namespace, proxy.log)
        trial = Trial(history, fault, points, proxy.log)
        if fault is not None and fault.first_at is not None and driver.recovered_at is not None:
            trial.recovery_seconds = driver.recovered_at - fault.first_at
        return trial

    async def _judge(
        self, history: History, keyspace: Keyspace, backend: FaultyBackend, namespace: str, log: Sequence[Line]
    ) -> None:
        await backend.inner.open(namespace=namespace)
        try:
            held = await backend.inner.load(history.keys)
        finally:
            await backend.inner.close()
        for key in history.keys:
            record = held.get(key)
            value = None if record is None else record.value
            history.saw(key, value, "the backend, in the end", None if record is None else record.version)
        for batch in backend.saves:
            for record in batch:
                history.saved(record.key, record.value)
        if left := await keyspace.left():
            history.problem(f"left in Redis after the drain: {left}")
        _judge_sequence(history, log, *await keyspace.meta())


def _judge_sequence(history: History, log: Sequence[Line], epoch: int, seq: int) -> None:
    """Each write has taken one number from the server, or none (I5); those that were written through were allotted."""
    allots = [line for line in log if line.point.name in ("allot", "EVAL allot") and line.fate != "drop request"]
    allotted: set[int] = set()
    doubtful = 0  # asked for, and nobody has seen the answer
    for line in allots:
        count = int(arguments_of(line.request)[2])
        if isinstance(line.reply, int):
            allotted.update(range(line.reply + 1, line.reply + 1 + count))
        elif not line.answered:
            doubtful += count
    versions = [write.version for write in history.all if write.version is not None]
    if any(epoch_of(version) != epoch for version in versions):
        history.problem(f"the epoch has changed to {epoch} though the server hasn't")
        return
    applied = sum(version & MAX_SEQ not in allotted for version in versions)
    perhaps = sum(write.version is None and write.may_be_applied for write in history.all)
    numbered = seq - len(allotted)
    # What isn't applied since its condition isn't met uses up numbers, too; what is applied twice, a list shows.
    perhaps += seq if isinstance(history, ListHistory) else 0
    if not applied <= numbered <= applied + perhaps + doubtful:
        history.problem(f"I5: the server has applied {numbered} writes; {applied} are acknowledged, {perhaps} unknown")
