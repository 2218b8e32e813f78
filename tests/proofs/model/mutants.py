"""Mutants: the protocol with a sentence of its design dropped, and the smallest configuration that needs it.

Not among them, because what they drop is not what makes the protocol safe: the ack of an equal version leaves members
of dirty, lease or dead behind (members without a record are harmless: claim and recover drop them); an ack leaves its
claim behind (the versions in it are saved for good, whenever they are acked again); with `watch`, ack is told the
claimed versions instead of the saved ones, or takes a lost reply of EXEC for a failure (it saves once more); put
compares epochs before it looks for a duplicate (more requests end in OutcomeUnknown); save reports what is stale as
failed (it is tried once more, or dead-lettered though it is held); put remembers one reply only, though a later
request may have followed (a retry of the one before is told that the writer isn't known, and ends in OutcomeUnknown);
a request ahead still says what it comes after when that has its outcome (if that was never applied, it is never
applied either); it is asked for again without waiting (it is told EARLY again); restamp doesn't compare identities (a
server that is in another history begins an epoch above all that was allotted before it takes a write); a restamp is
sent though its handshake has failed (restamp looks itself whether a later epoch has begun).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from tests.proofs.model.checker import Result, explore
from tests.proofs.model.rules import Configuration
from tests.proofs.model.states import Left


@dataclass(frozen=True)
class Mutant:
    """A protocol that must fail.

    Attributes:
        name: what is done instead.
        drops: the sentences that don't hold, as the steps know them.
        configuration: where it fails.
        invariant: the one that the shortest way to a failure breaks.
        ignored: invariants that it breaks by its very making, before that.
    """

    name: str
    drops: frozenset[str]
    configuration: Configuration
    invariant: str
    ignored: str = ""

    def search(self) -> Result:
        """What the checker finds."""
        return explore(self.configuration, self.drops, ignored=self.ignored)

    @property
    def reported_as(self) -> str:
        """What such a violation is counted as, see `tests.proofs.runner.report.Report`."""
        return {"I6": "resurrected", "I3": "stale", "I4": "stale"}.get(self.invariant, "lost")


def _in(**options: Any) -> Configuration:
    """A small configuration: one key, one writer of two writes, two flushers; misfortunes by their names."""
    misfortunes = {name: options.pop(name) for name in Left._fields if name in options}
    left = Left(**{"claims": 2, **misfortunes})
    return Configuration(name="", left=left, **options)


def _mutants() -> Iterator[Mutant]:
    def mutant(name: str, drops: str | set[str], where: Configuration, invariant: str, ignored: str = "") -> Mutant:
        return Mutant(name, frozenset({drops} if isinstance(drops, str) else drops), where, invariant, ignored)

    # The algorithm of 2017, as DESIGN.md tells it: nothing is leased, every put notifies, and EXEC guards only the DEL.
    article = {"saves are conditional", "claim leases", "put leaves what is leased", "the article's loop"}
    yield mutant("the article's algorithm", article, _in(watch=True, claims=2), "I2", "I1 I3")

    # Saves.
    yield mutant("save whatever comes", "saves are conditional", _in(), "I3")
    yield mutant("save a delete by deleting", "the backend keeps tombstones", _in(deletes=True), "I6")
    yield mutant("save returns before it is durable", "a save returns when it is durable", _in(flushers=1), "I2")

    # Acks.
    yield mutant("ack without comparing versions", "ack compares versions", _in(flushers=1), "I2")
    yield mutant("ack ignoring failures", "ack keeps what failed", _in(flushers=1, failures=1), "I2")
    yield mutant(
        "ack ignoring the failure of one of two", "ack keeps what failed", _in(flushers=1, keys=2, failures=1), "I2"
    )
    yield mutant("ack leaves what changed nowhere", "ack makes dirty what changed", _in(flushers=1), "I1")
    yield mutant(
        "ack makes dirty what another claim has leased",
        "ack of a changed record looks whose the lease is",
        _in(),
        "I1",
    )
    yield mutant(
        "ack of a failure by a claim that lost its lease",
        "a failed ack looks whose the lease is",
        _in(writes=(1,), failures=1),
        "I1",
    )
    yield mutant(
        "dead-letter whatever version is there",
        "only the version that failed is dead-lettered",
        _in(flushers=1, failures=1, dead=True),
        "I1",
    )
    yield mutant(
        "release as if it were saved", "a release deletes nothing", _in(flushers=1, writes=(1,), losses=1), "I2"
    )

    # Claims and leases.
    yield mutant(
        "retry a claim under its id", "every attempt of a claim has a fresh id", _in(flushers=1, losses=1), "I2"
    )
    yield mutant("claim without a lease", "claim leases", _in(flushers=1, writes=(1,)), "I1")
    yield mutant("claim and stay dirty", "claim takes out of dirty", _in(flushers=1, writes=(1,)), "I1")
    yield mutant("lease without a deadline", "leases have a deadline", _in(flushers=1, writes=(1,), kills=1), "stuck")
    yield mutant(
        "recover drops members that have a record",
        "recover makes dirty what has a record",
        _in(flushers=1, writes=(1,)),
        "I1",
    )
    yield mutant("recover leaves the lease", "recover takes out of lease", _in(flushers=1, writes=(1,)), "I1")
    yield mutant("extend what was lost", "only leases that are held are renewed", _in(writes=(1,)), "I1")

    # Dead letters.
    yield mutant("put leaves it dead", "put clears dead", _in(flushers=1, dead=True, failures=1), "I1")
    yield mutant("put retries nothing", "put makes a dead record dirty", _in(flushers=1, dead=True, failures=1), "I1")
    yield mutant("retry into nowhere", "retry makes dirty", _in(flushers=1, writes=(1,), dead=True, failures=1), "I1")
    yield mutant("retry and stay dead", "retry clears dead", _in(flushers=1, writes=(1,), dead=True, failures=1), "I1")

    # Puts.
    yield mutant("put makes dirty what is leased", "put leaves what is leased", _in(flushers=1), "I1")
    yield mutant(
        "delete by deleting from Redis",
        "a delete keeps a tombstone in Redis",
        _in(flushers=1, deletes=True),
        "I6",
    )
    yield mutant(
        "apply whatever request comes",
        "put compares the request with the writer's last",
        _in(flushers=0, losses=1),
        "I5",
    )
    yield mutant(
        "only the last request is a duplicate",
        "lower requests are duplicates, too",
        _in(flushers=0, losses=2),
        "I5",
        "order",
    )
    yield mutant(
        "apply a request that arrives after the next one",
        "lower requests are duplicates, too",
        _in(flushers=0, losses=1),
        "order",
    )
    yield mutant(
        "put registers its writer itself",
        "writers are made by registration only",
        _in(flushers=0, writes=(1,), losses=1, forgets=1),
        "I5",
    )
    yield mutant(
        "register under the old id", "every registration has a fresh id", _in(flushers=0, losses=2, forgets=1), "I5"
    )
    yield mutant(
        "a late registration forgets the writer",
        {"every registration has a fresh id", "a late registration forgets nothing"},
        _in(flushers=0, losses=2, registered=False),
        "I5",
    )
    yield mutant(
        "acknowledge after a lost request",
        "an uncertain request is asked for again",
        _in(flushers=0, writes=(1,), losses=1),
        "I5",
    )
    yield mutant(
        "repeat an uncertain request in the new epoch",
        "an uncertain request keeps its epoch",
        _in(flushers=0, writes=(1,), losses=1, failovers=1),
        "I5",
    )
    yield mutant(
        "repeat an uncertain request under the new writer",
        "an uncertain request keeps its name",
        _in(flushers=0, writes=(1,), pipelined=True, losses=1, forgets=1),
        "I5",
    )
    yield mutant("count beyond the highest seq", "put stops at the highest seq", _in(flushers=0, most=1), "versions")

    # Two requests of a writer under way.
    yield mutant(
        "apply whichever comes first", "put waits for the request before", _in(flushers=0, pipelined=True), "order"
    )
    yield mutant(
        "send a request ahead like any other",
        "a request ahead says what it comes after",
        _in(flushers=0, pipelined=True),
        "order",
    )
    yield mutant(
        "begin a third while the first has no outcome",
        "a request begins when the one before the last has its outcome",
        _in(flushers=0, writes=(3,), pipelined=True, losses=1),
        "order",
    )
    yield mutant(
        "go by a new name after an unknown outcome",
        "an unknown outcome leaves the writer its name",
        _in(flushers=0, pipelined=True, losses=1),
        "order",
    )
    yield mutant(
        "hold on to the name that the writer had",
        "what is certain goes under the present name",
        _in(flushers=0, pipelined=True, losses=1, failovers=1, forgets=1),
        "order",
    )
    yield mutant(
        "register at a server of another epoch",
        "an unknown writer is told of the epoch first",
        _in(flushers=0, pipelined=True, registered=False, losses=1, failovers=1, returns=1),
        "order",
    )

    # Epochs.
    yield mutant(
        "put to whatever server answers", "put compares identity", _in(flushers=0, writes=(2,), failovers=1), "versions"
    )
    yield mutant(
        "put in whatever epoch",
        "put compares epoch",
        _in(flushers=0, writes=(2,), losses=1, failovers=1),
        "I5",
    )
    yield mutant(
        "go on in the old epoch after a failover",
        "a new history begins a new epoch",
        _in(flushers=0, failovers=1),
        "versions",
    )
    yield mutant("Redis allots epochs", "the backend allots epochs", _in(flushers=0, failovers=2), "versions")
    yield mutant(
        "install whatever was read",
        "install compares",
        _in(flushers=0, writes=(1, 1), losses=1, failovers=1),
        "versions",
    )
    yield mutant(
        "install an epoch a second time",
        "an epoch is installed once",
        _in(flushers=0, failovers=2),
        "versions",
    )
    yield mutant(
        "install a number that was allotted for another server",
        "a number is outdated by another server",
        _in(flushers=0, writes=(1, 1), claims=0, failovers=1, returns=1, write_through=True),
        "versions",
    )
    yield mutant(
        "trust a former primary that comes back",
        "clients compare epochs with the backend",
        _in(flushers=1, readers=1, writes=(0, 2), claims=1, failovers=1, returns=1),
        "I4",
    )

    # The transaction.
    yield mutant("watch acks what it finds", "watch acks the versions it has saved", _in(flushers=1, watch=True), "I2")
    yield mutant(
        "watch takes what is gone for saved",
        "watch acks only what it has saved",
        _in(flushers=1, writes=(1,), watch=True, claims=1, failovers=1, returns=1),
        "I2",
    )
    yield mutant("EXEC without WATCH", "EXEC is behind a WATCH", _in(flushers=1, watch=True), "I2")

    # Reads.
    yield mutant(
        "get writes back what it has loaded",
        "get writes nothing back",
        _in(flushers=1, readers=1),
        "I2",
        "I1",
    )
    yield mutant("get asks the backend first", "get asks Redis first", _in(flushers=1, readers=1), "I4")
    yield mutant(
        "get trusts a record of an older epoch",
        "get compares an older epoch with the backend",
        _in(flushers=1, readers=1, failovers=1, claims=1),
        "I4",
    )
    yield mutant(
        "get from whatever server answers",
        "get compares identity",
        _in(flushers=1, readers=1, failovers=1, claims=1),
        "I4",
    )

    # Flushes.
    yield mutant(
        "flush takes what is gone for saved, after a failover",
        "absence from Redis proves nothing",
        _in(flushers=0, writes=(1,), failovers=1, flushes=1),
        "flush",
    )
    yield mutant(
        "flush takes what is gone for saved, after a dead letter was dropped",
        "absence from Redis proves nothing",
        _in(flushers=1, writes=(1,), failures=1, dead=True, drops=True, flushes=1),
        "flush",
    )
    yield mutant(
        "flush asks the backend first", "flush asks Redis first", _in(flushers=1, writes=(1,), flushes=1), "flush"
    )
    yield mutant(
        "flush believes a server that is behind",
        "a server that is behind is asked again",
        _in(flushers=1, writes=(1, 1), failovers=1, returns=1, flushes=1),
        "flush",
    )

    # Writes that bypass Redis.
    yield mutant(
        "supersede what is newer",
        "only what is older is superseded",
        _in(flushers=0, writes=(1, 1), write_through=True),
        "I2",
    )
    yield mutant(
        "answer before Redis is superseded",
        "write-through supersedes before it answers",
        _in(flushers=0, writes=(2,), readers=1, write_through=True),
        "I4",
    )
    yield mutant(
        "write through and leave what is under way",
        "allot remembers the request",
        _in(flushers=0, writes=(2,), losses=1, write_through=True),
        "order",
    )
    yield mutant(
        "allot at whatever server answers",
        "allot compares identity and epoch",
        _in(flushers=0, writes=(2,), failovers=1, write_through=True),
        "versions",
    )

    # Foreign versions in the backend.
    yield mutant(
        "take for saved whatever met something newer",
        "stale records are looked at",
        _in(flushers=1, writes=(1,), claims=1, plants=1),
        "I2",
    )
    yield mutant(
        "ack what met a foreign version",
        "what met a foreign version is tried again",
        _in(flushers=1, writes=(1,), claims=1, losses=1, plants=1),
        "I2",
    )
    yield mutant(
        "begin an epoch above what isn't noted",
        "foreign epochs are noted before an epoch above them begins",
        _in(flushers=1, writes=(1,), losses=1, plants=1),
        "I2",
    )
    yield mutant(
        "read meta before what was allotted",
        "meta is read after what was allotted",
        _in(writes=(1,), plants=1),
        "I2",
    )
    yield mutant(
        "restamp whatever is there",
        "restamp touches the very version only",
        _in(flushers=1, claims=1, plants=1),
        "versions",
    )
    yield mutant(
        "restamp before a later epoch has begun",
        {
            "a later epoch begins before a restamp",
            "restamp needs a later epoch",
            "restamp needs the epoch of the look",
        },
        _in(flushers=1, claims=1, plants=1),
        "versions",
    )
    yield mutant(
        "restamp at a server in an earlier epoch",
        {"restamp needs a later epoch", "restamp needs the epoch of the look"},
        _in(flushers=1, claims=1, failovers=1, returns=1, plants=1),
        "versions",
    )
    yield mutant(
        "get trusts what is foreign",
        "get takes what is foreign for older",
        _in(flushers=1, readers=1, writes=(1,), claims=1, plants=1),
        "I4",
    )
    yield mutant(
        "flush trusts what is foreign",
        "what is foreign confirms nothing",
        _in(flushers=1, writes=(1,), claims=1, flushes=1, plants=1),
        "flush",
    )


MUTANTS: Final = tuple(_mutants())
