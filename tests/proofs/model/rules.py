"""What is explored: a configuration bounds everybody, and a mutant drops sentences of the design."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tests.proofs.model.left import Left
from tests.proofs.model.records import NOTHING
from tests.proofs.model.states import FOREIGN_SEQ, Backend, Client, Flusher, Key, Label, Reader, Server, State, Writer

LARGEST_SEQ: Final = FOREIGN_SEQ - 1
"""What a version of the model has room for."""

LETTERS: Final = {
    "p": "a put",
    "d": "a delete",
    "b": "two puts of one key, by two callers, of which the later is stored",
    "u": "an update",
    "f": "two updates, folded before they are sent",
    "x": "an update that can't be applied to anything",
    "c": "a put that expects a version",
    "e": "an update that expects a version",
}
"""What a request may be."""

UPDATING: Final = frozenset("ufxe")
CONDITIONAL: Final = frozenset("ce")

Out = list[tuple[Label, State]]
Steps = Callable[[State, "Rules", Out], None]


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Who takes part, and how often each misfortune may happen. Everything else may happen in any order, at any time.

    Attributes:
        name: on the command line.
        keys, flushers, readers: how many.
        writes: for each writer what it writes, to any key: a letter for each request, see `LETTERS`.
        watch: the commit strategy.
        dead: what fails may be dead-lettered, and retried.
        drops: what is dead may be dropped, or what can't be applied of it left out; not with updates and failovers,
            which might bring it back.
        late_saves: a save that has failed for its caller may yet be applied, later.
        write_through: writers may bypass Redis, as at a limit.
        pipelined: writers have two requests under way at once; not with `write_through`
            (see asyncwb/core/partition.py), nor with conditional writes.
        registered: writers and epochs are known from the start.
        most: the highest seq.
        attempts: after so many failures a record is dead-lettered, 0 if it may be after any.
        left: the misfortunes.
    """

    name: str
    keys: int = 1
    flushers: int = 2
    readers: int = 0
    writes: tuple[str, ...] = ("pp",)
    watch: bool = False
    dead: bool = False
    drops: bool = False
    late_saves: bool = False
    write_through: bool = False
    pipelined: bool = False
    registered: bool = True
    most: int = LARGEST_SEQ
    attempts: int = 0
    left: Left = field(default_factory=lambda: Left(claims=3))

    @property
    def updates(self) -> bool:
        """Whether somebody updates, so that contents have to be told apart."""
        return any(letter in UPDATING for letters in self.writes for letter in letters)


@dataclass(frozen=True)
class Rules:
    """A configuration and the sentences dropped; `handshakes`: whether epochs can change at all."""

    configuration: Configuration
    drops: frozenset[str] = frozenset()
    zeros: tuple[int, ...] = ()
    handshakes: bool = False

    @property
    def gap(self) -> int:
        """How far above what was allotted foreign epochs are: so far that nobody is allotted one of them by chance."""
        left = self.configuration.left
        begun = left.failovers + left.restarts + left.returns + left.checks + (left.claims if left.plants > 1 else 0)
        return 2 + 3 * begun

    @classmethod
    def of(cls, configuration: Configuration, drops: frozenset[str] = frozenset()) -> "Rules":
        left = configuration.left
        moves = bool(left.failovers or left.restarts or left.plants) or configuration.most < LARGEST_SEQ
        return cls(configuration, drops, (0,) * configuration.keys, moves or not configuration.registered)

    def first_state(self) -> State:
        """Nothing is written yet."""
        bounds = self.configuration
        known = 1 if bounds.registered else 0
        memory = (0,) * (4 if bounds.pipelined else 2)
        keys, writers = bounds.keys, len(bounds.writes)
        server = Server(
            identity=1,
            meta=known,
            epoch=known,
            seq=0,
            returned=0,
            keys=(Key(),) * keys,
            claims=(0,) * bounds.left.claims,
            memory=((memory,) if known else (),) * writers,
            foreign=(),
        )
        epochs = known + 3 + bounds.left.failovers + bounds.left.restarts + bounds.left.returns
        most = 4 * epochs + (bounds.left.plants and bounds.left.plants * (self.gap + 3) + 4 * bounds.left.claims)
        return State(
            server=server,
            backend=Backend(known, self.zeros, self.zeros, (NOTHING,) * keys if bounds.updates else ()),
            flushers=(Flusher(),) * bounds.flushers,
            writers=(Writer(),) * writers,
            clients=(Client(known),) * writers,
            readers=(Reader(),) * bounds.readers,
            late=(),
            left=bounds.left,
            replica=(),
            old=(),
            floor=self.zeros,
            lost=self.zeros,
            tops=(0,) * most,
            applied=(0,) * writers,
            broken="",
            owed=(NOTHING,) * keys if bounds.updates else (),
            gone=((),) * keys if bounds.updates else (),
            failed=self.zeros if bounds.attempts else (),
        )
