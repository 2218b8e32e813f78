"""What a state of the model is: tuples of small integers all the way down."""

from typing import Any, Final, NamedTuple

from tests.proofs.model.left import Left
from tests.proofs.model.records import Content, Entries, Pending

DELETED: Final = 1
RETRY: Final = 1
DEAD: Final = 2
UNFIT: Final = 3
COUNTED: Final = 4
"""What becomes of a record that isn't saved: it is given back; dead-lettered because the backend refuses it, or because
nobody can work it out; or its attempts are counted, and decide."""
FOREIGN_SEQ: Final = 127
"""Of versions that somebody has planted into the backend: no history gives it out."""


def version_of(epoch: int, seq: int, deleted: int) -> int:
    """Versions order as integers. The lowest bit says whether it is a tombstone: no two have the same epoch and seq."""
    return epoch << 8 | seq << 1 | deleted


def epoch_of(version: int) -> int:
    return version >> 8


def is_planted(version: int) -> bool:
    """Whether nobody's history has made it; the protocol itself can't see that."""
    return version >> 1 & 127 == FOREIGN_SEQ


class Key(NamedTuple):
    """One user's key in Redis: its record and its places in the sets.

    Attributes:
        record: its version, that of its last entry if it has some, 0 without one.
        dirty: 1 if a member.
        lease: the deadline that is its score, 0 if it isn't a member.
        dead: the version that is dead-lettered, 0 if none.
        marked: 1 if the record was changed while it was leased.
        pending: the record if it has entries.
        unfit: 1 if it is dead because it can't be worked out.
        tried: how many of its attempts are counted.
        token: which one conditional writes of the key have taken, 0 for none; as a version.
    """

    record: int = 0
    dirty: int = 0
    lease: int = 0
    dead: int = 0
    marked: int = 0
    pending: Pending | tuple[()] = ()
    unfit: int = 0
    tried: int = 0
    token: int = 0

    def without_record(self) -> "Key":
        """Nothing of the record is left, in no set; the token of the key stays."""
        return Key(token=self.token) if self.token else Key()

    @property
    def base(self) -> int:
        """The put or delete that the record began with, 0 if it isn't in Redis."""
        return self.pending.base if self.pending else self.record


class Server(NamedTuple):
    """One Redis.

    Attributes:
        identity: of the server. meta: the identity in meta, 0 without meta. epoch, seq: in meta.
        returned: 1 for a former primary that came back, until a client has compared epochs.
        keys: one `Key` each.
        claims: for each claim id the deadline of its leases, 0 if it is unknown.
        memory: for each writer what is remembered of it under each of its names, () where nothing is: (last request,
            version in its reply), and, where two may be under way, the same of the one before.
        foreign: the epochs noted in meta as nobody's, first and last of each range.
        mode: which kind of write has been first, `THROUGH` or `UPDATES`, 0 while there was neither.
        dropped: the newest version that somebody has dropped or left out.
    """

    identity: int
    meta: int
    epoch: int
    seq: int
    returned: int
    keys: tuple[Key, ...]
    claims: tuple[int, ...]
    memory: tuple[tuple[tuple[int, ...], ...], ...]
    foreign: tuple[tuple[int, int], ...]
    mode: int = 0
    dropped: int = 0

    def closed(self, epoch: int) -> bool:
        """Whether nothing may be put or read: a former primary in this epoch, before anybody has compared epochs."""
        return bool(self.returned) and self.epoch == epoch


THROUGH, UPDATES = 1, 2
"""What a namespace may have besides puts and deletes: one of these, not both."""


class Flusher(NamedTuple):
    """`doing` and what it knows of its claim.

    Attributes:
        claim: its id, 0 when idle.
        keys: per key, 1 if it is in the claim; `WITH_ENTRIES` if its record had entries then or when it was read.
        versions: as read, per key, 0 without a record.
        fates: per key, what becomes of it if it isn't saved: 0, RETRY or DEAD.
        at: with `watch`, the key that it works on.
        watched: with `watch`, the version that was read.
        connection: the identity of the server that has answered the claim; with `watch`, that holds the WATCH.
        deadline: of the claim; known to a mutant alone.
        met: after a save that met something newer, that of each key, 0 where there is nothing of the kind.
        allotted: the highest epoch that was allotted when it asked, or that is known to have begun.
        spare: the epoch that its records get versions of.
        read: per key the record with entries that was read, () for any other.
        found: per key what the backend had of those: version and content.
    """

    doing: int = 0
    claim: int = 0
    keys: tuple[int, ...] = ()
    versions: tuple[int, ...] = ()
    fates: tuple[int, ...] = ()
    at: int = 0
    watched: int = 0
    connection: int = 0
    deadline: int = 0
    met: tuple[int, ...] = ()
    allotted: int = 0
    spare: int = 0
    read: tuple[Pending | tuple[()], ...] = ()
    found: tuple[tuple[int, Content] | tuple[()], ...] = ()


WITH_ENTRIES: Final = 2

IDLE, RELEASING, FETCHING, SAVING, ACKING, WATCHING, SAVING_ONE, COMMITTING = range(8)
LOOKING, COUNTING, GREETING, DISOWNING, BEGINNING, LOOKING_AGAIN, RESTAMPING = range(8, 15)
"""After a save that met something newer: see asyncwb/flushing/stale.py."""
LOADING, SAVING_ON, NOTING, LOADING_ONE, SAVING_ONE_ON = range(15, 20)
"""Of records with entries: see `updating`."""


class Request(NamedTuple):
    """One of a writer. With nothing set, certainly not applied: not sent yet, or each attempt was refused.

    Attributes:
        key: 1 + the key of one whose outcome is uncertain.
        epoch, name: which it was sent with first, if it is uncertain. (With a mutant, also a name that it holds on to.)
        done: 1 if it has its outcome: answered, refused for good, or OutcomeUnknown.
        expected, token, newest: of a conditional write, see `Put`.
    """

    key: int = 0
    epoch: int = 0
    name: int = 0
    done: int = 0
    expected: int = 0
    token: int = 0
    newest: int = 0


CERTAIN: Final = Request()
DONE: Final = Request(done=1)


class Writer(NamedTuple):
    """Sends numbered requests: one outstanding at a time, or also the next one.

    Attributes:
        request: this one and all before have their outcomes.
        asked: those after it; neither is the first of them done, nor the last one certain.
        name: the id that it goes by, counted from 1.
        allotted: with write-through, the version that was allotted; its stage is `stage`.
        looking: of a conditional write, the key, what is expected, the token, and the newest version it knows of.
    """

    request: int = 0
    asked: tuple[Request, ...] = ()
    name: int = 1
    allotted: int = 0
    stage: int = 0
    looking: tuple[int, ...] = ()

    def at(self, place: int) -> Request:
        """The one that is so many after the first without an outcome."""
        return self.asked[place] if place < len(self.asked) else CERTAIN

    def having(self, place: int, request: Request) -> "Writer":
        """With that one exchanged."""
        asked = [*self.asked, *(CERTAIN,) * (place + 1 - len(self.asked))]
        asked[place] = request
        number = self.request
        while asked and asked[0] == DONE:
            del asked[0]
            number += 1
        while asked and asked[-1] == CERTAIN:
            del asked[-1]
        return Writer(number, tuple(asked), self.name)


class Put(NamedTuple):
    """A request as it is sent.

    Attributes:
        writer, request, key, epoch: whose, its number, and what it is about.
        after: the request that has to be applied before, 0 for none.
        name: of the writer.
        expected: of a conditional write, the version that has to be there, 0 for none.
        token, newest: the token that it names, 0 for none, and the newest version that was known behind that.
    """

    writer: int
    request: int
    key: int
    epoch: int
    after: int
    name: int
    expected: int = 0
    token: int = 0
    newest: int = 0


class Client(NamedTuple):
    """A process: the epoch that it knows, and its handshake.

    Attributes:
        known: the epoch. doing: the next step of the handshake, 0 outside one.
        identity, meta, epoch: as `hello` answered. mine: the number allotted, 0 for none.
        before: the one before this pass. least: the lowest epoch that it would accept.
    """

    known: int
    doing: int = 0
    identity: int = 0
    meta: int = 0
    epoch: int = 0
    mine: int = 0
    before: int = 0
    least: int = 0


ALLOT, INSTALL, AGAIN = 1, 2, 3


class Reader(NamedTuple):
    """One get.

    Attributes:
        floor: what it must not fall below. found: what Redis had.
        loaded: what the backend held, while it has to be told whether that is foreign.
        allotted: the highest epoch after that.
        owed: what its content must have. pending: what Redis had, if that has entries.
    """

    doing: int = 0
    key: int = 0
    floor: int = 0
    found: int = 0
    loaded: int = 0
    allotted: int = 0
    owed: Content = ()
    pending: Pending | tuple[()] = ()


BEGUN, ASKING, COUNTS, GREETS = 1, 2, 3, 4


class Flush(NamedTuple):
    """Somebody asks whether a write is saved, and has asked Redis: what is wanted, and what Redis had and its epoch.

    `loaded`: what the backend held after that, while it has to be told whether that is foreign.
    """

    key: int
    wanted: int
    record: int
    dead: int
    epoch: int
    loaded: int = 0


class Backend(NamedTuple):
    """What is stored, per key.

    Attributes:
        epoch: the highest allotted.
        held: 0 if it holds nothing. highest: ever held, but for what somebody has planted.
        contents: what is held under these versions; () where nobody updates anything.
    """

    epoch: int
    held: tuple[int, ...]
    highest: tuple[int, ...]
    contents: tuple[Content, ...] = ()


class State(NamedTuple):
    """Everything, and what has to be remembered to judge it.

    Attributes:
        server: the Redis that clients reach. replica: its copy of some earlier moment, () if that moment is yet to
            come. old: a former primary that still runs.
        late: requests whose senders have given them up, sorted.
        left: see `Left`.
        floor: per key, the newest version applied that no failover has lost. lost: the newest that one has.
            Both as put gave them out.
        tops: per epoch, the highest seq given out.
        applied: per writer, a bit for each request that was applied.
        broken: what a step has just broken, "" as a rule.
        flush: one that has asked Redis and will ask the backend next, () without one.
        restamped: key, version and the version that its write was given by put, sorted.
        owed: where somebody updates, per key the content that there has to be: everything that was applied, no failover
            has lost, and no later put or delete has replaced. gone: per key what a failover has lost of it, sorted.
        failed: where attempts are counted, per key how many have failed since it began or was saved.
        folding: a writer that has read entries to fold: key, place, entries; () without one.
    """

    server: Server
    backend: Backend
    flushers: tuple[Flusher, ...]
    writers: tuple[Writer, ...]
    clients: tuple[Client, ...]
    readers: tuple[Reader, ...]
    late: tuple[tuple[Any, ...], ...]
    left: Left
    replica: Server | tuple[()]
    old: Server | tuple[()]
    floor: tuple[int, ...]
    lost: tuple[int, ...]
    tops: tuple[int, ...]
    applied: tuple[int, ...]
    broken: str
    flush: Flush | tuple[()] = ()
    restamped: tuple[tuple[int, int, int], ...] = ()
    owed: tuple[Content, ...] = ()
    gone: tuple[Content, ...] = ()
    failed: tuple[int, ...] = ()
    folding: tuple[()] | tuple[int, int, Entries] = ()

    def stands(self, key: int, version: int) -> int:
        """The write that a version stands for: what put gave out, and 0 for what was planted."""
        if is_planted(version):
            return 0
        for at, stamped, write in self.restamped:
            if at == key and stamped == version:
                return write
        return version

    def to(self, **changes: Any) -> "State":
        """With some fields exchanged; `_replace`, but quicker."""
        fields = list(self)
        for name, value in changes.items():
            fields[_FIELDS[name]] = value
        return tuple.__new__(State, fields)


_FIELDS: Final = {name: at for at, name in enumerate(State._fields)}

PUT, CLAIM, RELEASE, ACK, EXEC, SAVE, REGISTER, INSTALL_EPOCH, DISOWN, RESTAMP, SAVE_ON = range(11)
"""What may arrive late: the first item of a message, of integers and tuples of them alone, so that they sort."""

Label = tuple[Any, ...]
"""A step in words: a template of `Words`, then its arguments."""


def with_flusher(state: State, at: int, flusher: Flusher) -> tuple[Flusher, ...]:
    """Idle flushers are alike and busy ones differ by their claims: states that differ in order alone are one."""
    flushers = list(state.flushers)
    flushers[at] = flusher
    flushers.sort()
    return tuple(flushers)


def with_late(late: tuple[tuple[Any, ...], ...], *message: Any) -> tuple[tuple[Any, ...], ...]:
    """One more request on its way; in which order they were given up doesn't matter."""
    return tuple(sorted((*late, message))) if late else (message,)


def put_at(items: tuple[Any, ...], at: int, item: Any) -> tuple[Any, ...]:
    """A tuple with one item exchanged."""
    return (*items[:at], item, *items[at + 1 :])
