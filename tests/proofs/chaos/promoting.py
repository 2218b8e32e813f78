"""The world in which a replica that lags is promoted, and acknowledged writes are lost by design, and told.

What linearizability means here. A promotion takes the server back to what its replica had: writes that were
acknowledged under durability="memory" may be gone, while those confirmed as "replicated" may not. So a history is cut
into rounds, one for each primary. Within a round all is as anywhere else. Between two rounds, while nobody writes, an
audit asks `flush` for the last acknowledged write of each key, and for all others where that one is lost, and reads all
keys. Then:

- a write that was confirmed as "replicated" is never lost;
- a write is lost only if `flush` says so, and what it calls saved is in the backend;
- what a key has then is its newest write that isn't lost (or one of unknown outcome): with that the next round begins;
- lost writes stay lost, and the backend never goes back: as everywhere.

Reads that were on their way while the primary died are left out: they may have been answered by either server. And a
save that was on its way then may end later: what it carries is gone at first, and comes back, as long as nothing newer
is saved. So the first look at a new primary has to show no more than what the replica had or a save had brought before,
and nothing is asked of what an unfinished save carries during an audit.
"""

import asyncio
import contextlib
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Final

import redis

from asyncwb import OutcomeUnknown, WriteLost
from asyncwb.protocol.keys import PartitionKeys
from asyncwb.records import epoch_of
from tests.harness.pipe import Pipe
from tests.harness.replication import ask, is_synchronised
from tests.harness.servers import Server
from tests.proofs.chaos.checker import Held, Violation, account, compare, linearize, place, told
from tests.proofs.chaos.evidence import Evidence, Span, acknowledged
from tests.proofs.chaos.history import NEVER, History, Operation, read_history
from tests.proofs.chaos.sums import check_conditions, check_sums
from tests.proofs.chaos.tallies import is_register
from tests.proofs.chaos.world import ChaosWorld

_PROMOTIONS: Final = 11
_META: Final = PartitionKeys("chaos", 0, 1).meta
_FLUSH_SECONDS: Final = 30.0


def _last_epoch(server: Server) -> int:
    """The epoch of a primary that is about to be killed; none begins behind it, for nothing is written any more."""
    with redis.Redis.from_url(server.url, protocol=2) as client:
        client.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
        return int(client.hget(_META, "epoch") or 0)


@dataclass(slots=True)
class Round:
    """The time of one primary.

    Attributes:
        killed: when it was.
        audited: when the next round began.
        initial: what each key had then; None if that was not settled.
        lacked: how many writes it had acknowledged that its replica did not have.
    """

    killed: int
    audited: int
    initial: dict[str, Held | None]
    lacked: int


class Promoting(ChaosWorld):
    """A primary and a replica that change places."""

    kind = "replicas"
    # A replica that loads what comes as it comes is there in 20 ms; one that stores it first looks once a second.
    server_config = {"repl-diskless-sync-delay": "0", "repl-diskless-load": "swapdb", "repl-ping-replica-period": "1"}
    writer = {"levels": ("memory", "memory", "memory", "replicated")}
    options = {"redis_timeout_seconds": 0.5, "redis_retry_seconds": 20.0}

    def __init__(self, number: int, scale: float = 1.0) -> None:
        super().__init__(number, scale)
        self.rounds: list[Round] = []
        self.told_lost: set[tuple[str, int]] = set()
        # Updates of the new history may have been made without these, or with them.
        self.told_unknown: set[tuple[str, int]] = set()
        self.found: list[Violation] = []
        self.late: set[tuple[str, int]] = set()

    async def prepare(self, stack: contextlib.AsyncExitStack) -> None:
        await super().prepare(stack)
        self._stack = stack
        self._replica = await self.start_server(stack)
        # Flushers have one of their own, so that they save what writers aren't told of.
        self._relay, self._flushers_relay = Pipe(self.server.port), Pipe(self.server.port)
        for relay in (self._relay, self._flushers_relay):
            await stack.enter_async_context(relay.open())
        await self._replicate()

    @property
    def url(self) -> str:
        return self._relay.url

    @property
    def flusher_url(self) -> str:
        return self._flushers_relay.url

    async def harm(self) -> None:
        for number in self.times(_PROMOTIONS):
            await asyncio.sleep(self.rng.uniform(0.5, 0.8))
            if number % 3 == 1:
                await self.kill_worker("flusher")
            self._pipe.hold()
            await asyncio.sleep(self.rng.uniform(0.05, 0.3))
            if number % 2:
                # What the primary still does may be saved, and nobody gets to know that it was done.
                self._relay.hold_replies()
                await asyncio.sleep(self.rng.uniform(0.0, 0.15))
            await self._promote()
            await self.crew.resume()
            await asyncio.to_thread(self._replica.start)
            self.guard(self._replica)
            await self._replicate()
        await asyncio.sleep(0.3)

    async def _replicate(self) -> None:
        self._pipe = await self._stack.enter_async_context(Pipe(self.server.port).open())
        await asyncio.to_thread(ask, self._replica, "REPLICAOF", "127.0.0.1", self._pipe.port)
        await is_synchronised(self._replica)

    async def _promote(self) -> None:
        begun = time.monotonic_ns()
        old = await asyncio.to_thread(_last_epoch, self.server)
        await asyncio.to_thread(self.server.kill)
        self.faults.server_kills.append(Span(begun, time.monotonic_ns()))
        await self.crew.hold()
        epoch, seq = await asyncio.to_thread(ask, self._replica, "HMGET", _META, "epoch", "seq")
        await asyncio.to_thread(ask, self._replica, "REPLICAOF", "NO", "ONE")
        self.server, self._replica = self._replica, self.server
        keys = self.registers
        # The first look: records of the replica that are older than what the backend holds have not been flushed yet.
        looked = time.monotonic_ns()
        async with self.buffer(redis=self.server.url, flushers=0) as auditor:
            values = await auditor.get_many(keys)
        first = {key: Held(values[key]["id"] if key in values else None) for key in keys}
        for relay in (self._relay, self._flushers_relay):
            relay.lead_to(self.server.port)
        await self.crew.held()
        # A replica that has got nothing at all yet lacks everything.
        last = int(epoch or 0) << 32 | int(seq or 0)
        await self._audit(begun, old, last, looked, first)

    async def _audit(self, killed: int, old: int, last: int, looked: int, first: dict[str, Held]) -> None:
        since = self.rounds[-1].audited if self.rounds else 0
        history = read_history(self.folder / "history")
        writes: dict[str, list[Operation]] = defaultdict(list)
        for each in history.operations:
            if each.writes and each.invoked > since and each.outcome != "failed":
                writes[each.key].append(each)
        of_old = [
            each for group in writes.values() for each in group
            if each.outcome == "ok" and epoch_of(each.version) <= old
        ]  # fmt: skip
        async with self.buffer(flushers=0) as auditor:

            async def is_saved(each: Operation) -> bool:
                try:
                    await auditor.flush(each.key, version=each.version, timeout=_FLUSH_SECONDS)
                except WriteLost:
                    self.told_lost.add((each.key, each.version))
                    return False
                except OutcomeUnknown:
                    self.told_unknown.add((each.key, each.version))
                    return False
                return True

            newest = {each.key: each for each in sorted(of_old, key=lambda each: each.version)}
            saved = dict(zip(newest, await asyncio.gather(*map(is_saved, newest.values())), strict=True))
            others = [each for each in of_old if not saved[each.key] and each is not newest[each.key]]
            others = [
                each for each, kept in zip(others, await asyncio.gather(*map(is_saved, others)), strict=True) if kept
            ]
            held = await self.reader.load(list(newest))
            for each in [*others, *(newest[key] for key, kept in saved.items() if kept)]:
                if each.key not in held or held[each.key].version < each.version:
                    self.found.append(Violation("lost", each.key, f"{told(each)} was called saved, and is not"))
            keys = self.registers
            values = await auditor.get_many(keys)
        now = {key: Held(values[key]["id"] if key in values else None) for key in keys}
        survived: dict[str, int] = defaultdict(int)  # until the first look
        for save in history.saves:
            for key, version, _ in save.records:
                if save.done and save.ended < looked:
                    survived[key] = max(survived[key], version)
                elif save.ended == NEVER and last < version < (old + 1) << 32:
                    self.late.add((key, version))
        unsettled = {key for key, _ in self.late}
        for key, group in writes.items():
            if not is_register(key):
                continue
            before = self.rounds[-1].initial[key] if self.rounds else Held(None)
            of_old_or_unknown = [each for each in group if each.outcome == "unknown" or epoch_of(each.version) <= old]
            self.check_first_look(key, of_old_or_unknown, before, first[key], max(last, survived[key]))
            if key not in unsettled:
                self.check_survivor(key, group, before, now[key])
        initial = {key: None if key in unsettled else held for key, held in now.items()}
        lacked = sum(each.version > last for each in of_old)
        self.rounds.append(Round(killed, time.monotonic_ns(), initial, lacked))

    @property
    def _told(self) -> set[tuple[str, int]]:
        """The writes that may be missing, as their callers are told."""
        return self.told_lost | self.told_unknown

    def check_first_look(
        self, key: str, writes: list[Operation], before: Held | None, now: Held, survived: int
    ) -> None:
        """What a key has at first is its newest write that has survived for certain, or a newer one."""
        if before is None:
            return
        acknowledged = sorted((each for each in writes if each.outcome == "ok"), key=lambda each: each.version)
        newest = bisect_right(acknowledged, survived, key=lambda each: each.version) - 1
        possible = {each.value for each in acknowledged[max(newest, 0) :]}
        possible |= {each.value for each in writes if each.outcome == "unknown"}
        if now.value not in possible | ({before.value} if newest < 0 else set()):
            what = told(acknowledged[newest]) if newest >= 0 else f"nothing but {before.value}"
            self.found.append(Violation("stale", key, f"{now.value} at first after a promotion, and {what} survived"))

    def check_survivor(self, key: str, writes: list[Operation], before: Held | None, now: Held) -> None:
        """What a key has after a promotion is its newest write that isn't lost, or one of unknown outcome."""
        kept = [
            each for each in writes if each.outcome == "ok" and (each.key, each.version) not in self._told
        ]  # fmt: skip
        newest = max(kept, key=lambda each: each.version, default=None)
        if newest is None and before is None:
            return
        possible = {newest.value if newest else before.value if before else None}
        possible |= {
            each.value for each in writes
            if each.outcome == "unknown" or (each.key, each.version) in self.told_unknown
        }  # fmt: skip
        if now.value not in possible:
            what = told(newest) if newest else f"nothing but {before}"
            self.found.append(Violation("stale", key, f"{now.value} after a promotion, and {what} is not lost"))

    def verdict(self, history: History, final: dict[str, Held]) -> list[Violation]:
        whole, history = history, history.of_registers()
        placing = place(history.operations, history.saves, final)
        found = [*self.found, *placing.found]
        begun = 0
        initial: dict[str, Held | None] | None = None
        for each in [*self.rounds, None]:
            killed, until = (each.killed, each.audited) if each else (2**63, 2**63)
            found += linearize(
                (
                    operation for operation in history.operations
                    if begun < operation.invoked <= until and (operation.writes or operation.told < killed)
                ),
                initial,
            )  # fmt: skip
            if each:
                begun, initial = each.audited, each.initial
        found += compare(history.operations, final, self._told)
        if not self.updates:
            found += account([*history.operations, *placing.deletes])
        # What was confirmed and is missing has to have been told; nothing may be there twice.
        found += check_sums(whole.operations, self.sums, self._told, looks=False)
        found += check_conditions(whole.operations, across_epochs=False)
        found += [
            Violation("resurrected", key, f"version {version} was called lost, and is in the backend")
            for key, version in self.told_lost - self.late
            if key in final and final[key].version == version
        ]
        found += [
            Violation("lost", each.key, f"{told(each)} was confirmed as replicated")
            for each in acknowledged(whole.operations)
            if each.level == "replicated" and (each.key, each.version) in self.told_lost
        ]
        return found

    def count(self, evidence: Evidence, counts: "Counter[str]") -> None:
        counts["promotions of a lagging replica"] += sum(each.lacked > 0 for each in self.rounds)
        counts["acknowledged writes lost by promotion, all told"] += len(self.told_lost)
        counts["SIGKILL of workers"] += evidence.kills_at_work()
