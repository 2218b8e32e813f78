"""What may happen in a simulated world besides faults of the network and the backend."""

import random
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from asyncwb.protocol.keys import namespace_key
from asyncwb.protocol.wire import unpack_record
from asyncwb.records import Record, epoch_of, make_version
from tests.proofs.simulation.commands import ServerError
from tests.proofs.simulation.loop import OWNER, Process

if TYPE_CHECKING:
    from tests.proofs.simulation.world import SimulatedWorld

_REFUSALS = (
    "NOREPLICAS Not enough good replicas to write. script: 0123, on @user_script:1.",
    "ERR NOREPLICAS Not enough good replicas to write. script: 0123, on @user_script:1.",
    "ERR Error running script (call to f_0123): @user_script:1: @user_script: 1: -MISCONF Errors writing to the AOF",
)


class Misfortunes:
    """Happen to one world when they are called, if they can; most end by themselves after a while."""

    def __init__(self, world: "SimulatedWorld") -> None:
        self._world = world
        self._rng: random.Random = world.rng

    def some(self) -> list[Callable[[], None]]:
        """Some of all that may happen besides faults of the network and the backend."""
        rng = self._rng
        kinds = [
            self.kill, self.freeze, self.restart, self.away, self.outage, self.memory, self.clock, self.busy,
            self.refuse_writes, self.misconfigure, self.plant,
        ]  # fmt: skip
        if self._world.durability != "fsync":
            kinds.append(self.promote)
        if self._world.durability == "replicated":
            kinds.remove(self.restart)  # what a restart keeps isn't what a replica has
        if self._world.updating:
            kinds.remove(self.plant)  # what is planted is no document
        chosen = rng.sample(kinds, rng.randint(0, 3))
        if self.plant in chosen:
            # What a server notes of foreign epochs it can lose with its latest writes.
            chosen = [kind for kind in chosen if kind not in (self.restart, self.promote)]
        return chosen

    def _alive(self) -> list[Process]:
        return [process for process, task in self._world.services.items() if not (process.dead or task.done())]

    def kill(self) -> None:
        if alive := self._alive():
            process = self._rng.choice(alive)
            process.dead, self._world.orderly = True, False
            self._world.note(f"{process.name} killed", "process killed")
            if len(self._world.services) < 6:
                self._world.start_service(flushes=True)

    def die(self) -> None:
        """The process that is running now ends in the save of a record, and its supervisor starts another."""
        process = OWNER.get()
        process.dead, self._world.orderly = True, False
        self._world.note(f"{process.name} killed by a record", "process killed by a record")
        if len(self._world.services) < 12:
            self._world.network.later(0.01, lambda: self._world.start_service(flushes=True))

    def freeze(self) -> None:
        if awake := [process for process in self._alive() if not process.frozen]:
            process = self._rng.choice(awake)
            process.frozen = True
            self._world.note(f"{process.name} frozen", "process frozen")
            self._world.network.later(self._rng.uniform(0.05, 2.0), self._wake, process)

    def _wake(self, process: Process) -> None:
        process.frozen = False

    def restart(self) -> None:
        """The server is killed; after its restart it has what was fsynced, and perhaps more."""
        if self._world.network.server is not None:
            self._replace(self._cut(self._world.network.fsynced), "server restarted")

    def promote(self) -> None:
        """A replica takes over; it has what was confirmed, and perhaps more."""
        if self._world.network.server is not None:
            self._world.network.lagging = self._rng.random() < 0.3
            self._replace(self._cut(self._world.network.replicated), "replica promoted")

    def _cut(self, safe: int) -> int:
        possible = [length for length in self._world.server.boundaries if length >= safe]
        return self._rng.choice(possible[-20:]) if possible else len(self._world.server.log)

    def _replace(self, kept: int, what: str) -> None:
        lost = len(self._world.server.log) - kept
        self._world.orderly = self._world.orderly and not lost  # what had been removed may be there again
        self._world.note(f"{what}, {lost} commands lost", what if not lost else f"{what}, with losses")
        self._world.oracle.restarted(self._world.server, kept)
        self._world.server = self._world.server.successor(kept, self._world.identity())
        self._world.network.fsynced = min(self._world.network.fsynced, kept)
        self._world.network.replicated = min(self._world.network.replicated, kept)
        self._world.network.server = None
        self._world.network.later(self._rng.random() * 0.3, self._up)

    def _up(self) -> None:
        self._world.network.server = self._world.server

    def away(self) -> None:
        """The network is cut; the server lives on."""
        if self._world.network.server is not None:
            self._world.note("server out of reach")
            self._world.network.server = None
            self._world.network.later(self._rng.random() * 0.6, self._up)

    def outage(self) -> None:
        if not self._world.storage.down:
            self._world.note("backend away")
            self._world.storage.down = True
            self._world.network.later(self._rng.random(), self._backend_up)

    def _backend_up(self) -> None:
        self._world.storage.down = False

    def plant(self) -> None:
        """Somebody copies rows of another history into the storage, over keys that have unsaved writes."""
        self._world.storage.sync()  # what such a copy meets is durable, or it isn't there
        for keys in self._world.oracle.partitions:
            for raw, packed in list(self._world.server.data.items()):
                if not raw.startswith(keys.record_prefix):
                    continue
                record = unpack_record(raw[len(keys.record_prefix) :].decode(), packed)
                if (
                    self._world.storage.version(record.key) >= record.version
                    or record.key in self._world.storage.planted
                ):
                    continue
                # Not the very next ones: who has just looked would be given one of them.
                known = max(self._world.storage.new_epoch(0), epoch_of(self._world.storage.highest() or 0))
                epoch = known + self._rng.choice((10, 30, 1000))
                version = make_version(max(epoch, epoch_of(record.version) + 1), self._rng.randint(1, 9))
                planted = Record(record.key, version, b"%d" % -next(self._world.values))
                self._world.storage.plant(planted)
                self._world.oracle.planted(planted, record.version)
                self._world.note(f"{record.key} planted at {version:x}", "foreign version planted")
                return

    def lose_namespace(self) -> None:
        """Another program deletes the namespace's key."""
        self._world.note("namespace's key deleted")
        with suppress(ServerError):  # it is busy
            self._world.server.command([b"DEL", namespace_key(self._world.settings["namespace"])])

    def memory(self) -> None:
        if not self._world.server.full:
            self._world.note("server at maxmemory")
            self._world.server.full = True
            self._world.network.later(self._rng.random() * 0.5, self._memory_free)

    def _memory_free(self) -> None:
        self._world.server.full = False

    def busy(self) -> None:
        """Somebody's script takes long."""
        if not self._world.server.busy:
            self._world.orderly = False  # a claim that was to be given back stays until it expires, say
            self._world.note("server busy with a script")
            self._world.server.busy = (
                "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
            )
            self._world.network.later(self._rng.random(), self.answering)

    def refuse_writes(self) -> None:
        """The replicas are gone, or the disk is full; as the servers say it of what a script calls."""
        if not self._world.server.refuses_writes:
            self._world.orderly = False
            self._world.note("server refuses writes")
            self._world.server.refuses_writes = self._rng.choice(_REFUSALS)
            self._world.network.later(self._rng.random(), self.answering)

    def misconfigure(self) -> None:
        """An administrator lets it evict keys, and takes that back when writes are refused."""
        if not self._world.server.evicts:
            self._world.note("server may evict")
            self._world.server.evicts = True
            self._world.network.later(self._rng.uniform(0.5, 3.0), self.configured)

    def configured(self) -> None:
        self._world.server.evicts = False

    def answering(self) -> None:
        self._world.server.busy = self._world.server.refuses_writes = ""

    def clock(self) -> None:
        self._world.clock_ahead_ms += self._rng.choice((-3_600_000, -180_000, -500, 500, 180_000, 3_600_000))
        self._world.note("server clock set")
