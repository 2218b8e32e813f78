"""Garbage in Redis under running buffers: no crash, no hang, no touched neighbour, every write saved in the end."""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable
from typing import Any

from asyncwb import Add, AsyncwbError, Buffer, DeadLettered, FlushTimeout, InvalidKey, VersionMismatch
from asyncwb.admin.partition_view import Inspection, Place
from asyncwb.cli.output import value_of
from asyncwb.core.userkeys import raw_key
from asyncwb.protocol.keys import PartitionKeys
from asyncwb.protocol.overwritten import overwritten_keys, overwritten_namespace
from asyncwb.protocol.presence import Presence
from asyncwb.protocol.queue import Queue
from asyncwb.redis.connection import RedisLink
from asyncwb.settings import Settings
from asyncwb.testing import FaultyBackend, MemoryBackend
from tests.harness.servers import Server
from tests.proofs.hostile.inputs import hostile_text
from tests.proofs.hostile.plants import PLANTS, Field, Plant
from tests.proofs.runner.report import Report

_PATIENCE = 20.0
"""Seconds until something counts as hanging; ten times as long as anything takes."""
_VICTIM = "victim"


class Violation(Exception):
    """Something that must not happen has happened."""


class Scene:
    """One namespace with a writer, a flusher and a plant."""

    def __init__(self, url: str, link: RedisLink, name: str, plant: Plant, rng: random.Random) -> None:
        self.plant = plant
        self._rng = rng
        self._memory = MemoryBackend()
        self._backend = FaultyBackend(self._memory, keep_saves=False)
        self._namespace = f"planted.{name}"
        self._field = Field(link, PartitionKeys(self._namespace, 0, 1), self._namespace, _VICTIM.encode(), rng)
        queue = Queue(link, self._namespace, 0, 1)
        self._inspection = Inspection(queue)
        self._presence = Presence(queue)
        self._values: dict[str, int] = {_VICTIM: 1}
        while len(self._values) < 6:
            key = hostile_text(rng, 12)
            try:
                raw_key(key)
            except InvalidKey:
                continue
            self._values[key] = rng.randrange(10**6)
        settings = Settings(
            namespace=self._namespace,
            flushers=2,
            commit=rng.choice(("script", "watch")),
            lease_seconds=0.3,
            redis_retry_seconds=2.0,
            drain_timeout_seconds=0.0,
            retry_initial_seconds=0.01,
            backoff_max_seconds=0.1,
            max_age_seconds=rng.choice((None, 3600.0)),
            # Garbage may look old for as long as nobody has claimed it.
            on_full="wait",
        )
        self._writer = Buffer[Any](url, backend=self._backend, settings=settings, flushers=0)
        self._flusher = Buffer[Any](url, backend=self._backend, settings=settings)

    async def play(self) -> bool:
        """False if the garbage couldn't be planted where it was meant. Raises Violation."""
        try:
            async with asyncio.timeout(3 * _PATIENCE):
                await self._writer.open()
                return await self._act()
        except TimeoutError as error:
            raise Violation("something hangs") from error
        finally:
            self._backend.before_save.set()
            for buffer in (self._flusher, self._writer):
                await buffer.aclose(drain=False)

    async def _act(self) -> bool:
        await self._write()
        leased = self.plant.moment == "leased" or (self.plant.moment == "either" and self._rng.random() < 0.5)
        if leased:
            self._backend.before_save.clear()
            await self._flusher.open()
            await self._backend.save_started.wait()
        planted = await self.plant.plant(self._field)
        self._backend.before_save.set()
        if not leased:
            await self._opened()
        if not planted:
            return False
        if self.plant.harm == "namespace":
            await self._endure()
            await self._repair()
        await self._all_but_the_victim()
        await self._the_victim()
        await self._look()
        if self._flusher.totals.crashes or self._writer.totals.crashes:
            raise Violation("a flusher crashed")
        return True

    async def _write(self) -> None:
        """Values, some of them with updates that are worked out when they are saved."""
        updated = [key for key in self._values if self._rng.random() < 0.5]
        await self._writer.set_many(self._values | {key: self._values[key] - 1 for key in updated})
        await self._writer.update_many(dict.fromkeys(updated, Add(1)))

    async def _opened(self) -> None:
        """A namespace that is broken can't be opened: that is said, and is so until it is repaired."""
        try:
            await self._flusher.open()
        except AsyncwbError:
            if self.plant.harm != "namespace":
                raise

    async def _endure(self) -> None:
        """Each call fails with an error of the tree, or does its work."""
        for call in (
            self._writer.set("later", 1), self._writer.get("later"), self._writer.stats(),
            self._writer.flush("later", timeout=0.05), self._writer.delete("later"), self._writer.audit(),
        ):  # fmt: skip
            await _fails_in_words(call)

    async def _repair(self) -> None:
        """What `asyncwb doctor` says: delete what is of another type, audit."""
        broken = await overwritten_keys(self._inspection.queue)
        broken += await overwritten_namespace(self._field.link, self._namespace)
        for name, _, _ in broken:
            await self._field.do("DEL", name)
        if not broken:  # the layout, or a retyped key that asyncwb has replaced by its own since
            await self._field.do("DEL", self._field.keys.meta)
            await self._field.do("DEL", self._field.namespace_key)
        if self._flusher._life.state != "open":
            await self._flusher.open()
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                await self._writer.set("repaired", 1)
                await self._writer.audit()
            except AsyncwbError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.02)
            else:
                return

    async def _all_but_the_victim(self) -> None:
        for number in range(2):
            self._values[f"after {number}"] = number + 1
            await self._writer.set(f"after {number}", number)
        for key in self._values:
            if key.startswith("after ") or (key != _VICTIM and self._rng.random() < 0.5):
                await self._writer.add(key)
                self._values[key] += not key.startswith("after ")
        for key, value in self._values.items():
            if key == _VICTIM:
                continue
            if (got := await self._writer.get(key)) != value:
                raise Violation(f"get of neighbour {key!r} gave {got!r} instead of {value!r}")
            await self._writer.flush(key, timeout=_PATIENCE)
            if (held := self._held(key)) != value:
                raise Violation(f"neighbour {key!r} was flushed, and the backend holds {held!r} instead of {value!r}")

    async def _the_victim(self) -> None:
        if self.plant.harm == "victim":
            await _fails_in_words(self._writer.get(_VICTIM))
            await _fails_in_words(self._writer.flush(_VICTIM, timeout=_PATIENCE), except_for=FlushTimeout)
            if self._rng.random() < 0.5:
                await _fails_in_words(self._writer.add(_VICTIM))
                await _fails_in_words(self._writer.flush(_VICTIM, timeout=_PATIENCE), except_for=FlushTimeout)
        else:
            if await self._writer.get(_VICTIM) != 1:
                raise Violation("the victim's value is lost, though its record was left alone")
            # A dead letter that isn't one may be told, but its record is saved.
            await _fails_in_words(self._writer.flush(_VICTIM, timeout=_PATIENCE), except_for=FlushTimeout)
            await self._saved(_VICTIM, 1)
        await self._writer.set(_VICTIM, 2)
        await self._writer.flush(_VICTIM, timeout=_PATIENCE)
        await self._saved(_VICTIM, 2)
        value, version = await self._writer.get_versioned(_VICTIM)
        if value != 2:
            raise Violation(f"get of the victim gave {value!r} after a new write")
        # Nobody else writes it, so the condition is met, and nothing may say otherwise.
        version = await self._writer.set(_VICTIM, 3, expected=version)
        await self._writer.add(_VICTIM)
        await self._writer.flush(_VICTIM, timeout=_PATIENCE)
        await self._saved(_VICTIM, 4)
        try:
            await self._writer.set(_VICTIM, 5, expected=version)
        except VersionMismatch:
            pass
        else:
            raise Violation("a write was applied though its condition wasn't met")
        await self._drain()

    async def _drain(self) -> None:
        """A dead letter may be well forged: then it is told once, as one of a key that nobody has written."""
        try:
            await self._writer.drain(timeout=_PATIENCE)
        except DeadLettered as error:
            if error.reasons.keys() & {*self._values, "repaired"}:
                raise
            await self._writer.drain(timeout=_PATIENCE)

    async def _workers(self) -> None:
        """Something else in place of the workers is replaced at the next heartbeat."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                await self._presence.processes()
            except AsyncwbError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)
            else:
                return

    def _held(self, key: str) -> object:
        record = self._memory.records.get(key)
        return value_of(record) if record else None

    async def _saved(self, key: str, value: int) -> None:
        deadline = time.monotonic() + _PATIENCE
        while self._held(key) != value:
            if time.monotonic() > deadline:
                raise Violation(f"{key!r} is not saved: the backend holds {self._held(key)!r}")
            await asyncio.sleep(0.01)

    async def _look(self) -> None:
        """An operator's commands show something, and an audit finds nothing; what is left is dead-lettered."""
        await self._writer.audit()
        await self._drain()
        places: tuple[Place, ...] = ("dirty", "leased")
        for place in places:
            async for _ in self._inspection.listed(place):
                pass
        dead = {letter.key: letter async for letter in self._inspection.dead()}
        await self._workers()
        await self._inspection.describe(_VICTIM)
        prefix = self._field.keys.record_prefix
        left = {name[len(prefix) :].decode("utf-8", "surrogateescape") for name in await self._field.scan(b"rec:")}
        if not left <= set(dead):
            raise Violation(f"records are left in Redis, and not dead-lettered: {sorted(left - set(dead))!r}")
        await self._inspection.drop(list(dead.values()))
        if stray := [letter.key async for letter in self._inspection.dead()]:
            raise Violation(f"dead letters can't be dropped: {stray!r}")


async def _fails_in_words(call: Awaitable[object], *, except_for: type[Exception] | None = None) -> None:
    """It may fail, with an error of the tree."""
    try:
        async with asyncio.timeout(2 * _PATIENCE):
            await call
    except AsyncwbError as error:
        if except_for is not None and isinstance(error, except_for):
            raise Violation(f"hangs: {error}") from error


async def play(url: str, plants: list[str], rng: random.Random, label: str) -> tuple[Counter[str], list[str]]:
    """Plants each, three at a time; a neighbouring namespace on the same server goes on all the while."""
    counts: Counter[str] = Counter()
    problems: list[str] = []
    link = RedisLink.from_url(url, timeout_seconds=10)
    memory = MemoryBackend()
    quiet = Buffer[int](url, backend=memory, namespace=f"quiet.{label}")
    waiting = list(enumerate(plants))

    async def scenes() -> None:
        while waiting:
            number, name = waiting.pop(0)
            seed = rng.getrandbits(32)
            scene = Scene(url, link, f"{label}.{number}", PLANTS[name], random.Random(seed))
            try:
                if await scene.play():
                    counts["hostile inputs"] += 1
                    counts["planted garbage"] += 1
                    counts[f"planted: {name}"] += 1
            except (AsyncwbError, Violation) as error:
                problems.append(f"{name} (seed {seed}): {type(error).__name__}: {error}")
            await quiet.set(f"k{number}", number)
            await quiet.flush(f"k{number}", timeout=_PATIENCE)
            if memory.values.get(f"k{number}") != number:
                problems.append(f"{name}: another namespace was touched")

    async with quiet:
        await asyncio.gather(*(scenes() for _ in range(3)))
        if quiet.totals.crashes or quiet.totals.dead:
            problems.append("the neighbouring namespace had crashes or dead letters")
    await link.close()
    return counts, problems


def run(number: int, rounds: int, kind: str) -> Report:
    """Each plant about as often as the others, in an order of the unit's own."""
    rng = random.Random(number)
    plants = sorted(PLANTS) * (rounds // len(PLANTS) + 1)
    rng.shuffle(plants)
    logging.getLogger("asyncwb").setLevel(logging.CRITICAL)  # it tells a lot of what is planted here
    server = Server(kind)
    report = Report()
    try:
        counts, problems = asyncio.run(play(server.url, plants[:rounds], rng, str(number)))
        report.counts.update(counts)
        report.problems += problems
    finally:
        server.stop()
    return report
