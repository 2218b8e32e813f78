"""Coalescing: a request of joined writes leads to what the writes lead to one by one, and each keeps its number."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from asyncwb.protocol.body import DELETE_BODY, PREFIX_BYTES, conditional, put_prefix, update_prefix
from asyncwb.protocol.messages import Write
from asyncwb.updates import UNSET, Add, Append, Changes, Max, UpdateFailed, apply
from asyncwb.writing.coalescing import Coalesced, coalesced

_changes = Changes("json", Any)
FAILS = "can't be worked out"


def put(value: Any) -> bytes:
    return put_prefix("json") + msgspec.json.encode(value)


def update(change: Any, **options: Any) -> bytes:
    return update_prefix("json") + bytes(_changes.encode("k", change, **options))


COUNT = update(Add(1))
_plain = [
    *map(put, (1, "text", [1], {"n": 1}, {"n": "text", "m": [2]})), DELETE_BODY,
    COUNT, update(Add(2), upsert=False), update(Max(3)), update(Append(1, 2)), update(Append(3, keep=2)),
    update({"n": Add(1)}), update({"n": Max(5), "m": Append(1)}), update({"n": UNSET}),
    update({"n": "set"}, upsert=False), update(Add(1), default=10), update({"n": Add(1)}, default={"n": 7}),
]  # fmt: skip
_bodies = st.one_of(
    st.sampled_from(_plain),
    st.builds(conditional, st.sampled_from(_plain), st.one_of(st.none(), st.integers(1, 12))),
)
_writes = st.tuples(st.sampled_from([b"a", b"a", b"b"]), _bodies)
_groups = st.lists(st.lists(_writes, min_size=1, max_size=3), min_size=1, max_size=8)
_singles = st.lists(_writes.map(lambda write: [write]), min_size=1, max_size=12)


class Store:
    """What put.lua and a flusher make of writes: the value and the version of each key, after the given ones."""

    def __init__(self, state: dict[bytes, tuple[Any, int]]) -> None:
        self.state = dict(state)
        self.met: dict[int, bool] = {}

    def write(self, key: bytes, body: bytes, number: int, place: int) -> None:
        value, version = self.state.get(key, (None, 0))
        kind = body[:1]
        if kind.isupper():
            expected = body[PREFIX_BYTES : PREFIX_BYTES + 8]
            if expected == b"\xff" * 8:
                self.met[place] = value is None
            else:
                self.met[place] = int.from_bytes(expected) == version - 100
            if not self.met[place]:
                return
            body = kind.lower() + body[1:PREFIX_BYTES] + body[PREFIX_BYTES + 24 :]
        if kind in b"pP":
            value = body[PREFIX_BYTES:]
        elif kind in b"dD":
            value = None
        elif value != FAILS:
            try:
                value = apply("json", value, [body[PREFIX_BYTES:]])
            except UpdateFailed:
                value = FAILS  # until it is replaced
        self.state[key] = (value, number)

    def shown(self) -> dict[bytes, tuple[Any, int]]:
        return {
            key: (value if value is None or value == FAILS else msgspec.json.decode(value), version)
            for key, (value, version) in self.state.items()
        }


def one_by_one(writes: Sequence[Write], state: dict[bytes, tuple[Any, int]]) -> Store:
    store = Store(state)
    for place, (key, body) in enumerate(writes):
        store.write(key, body, 101 + place, place)
    return store


def as_sent(sent: Coalesced, state: dict[bytes, tuple[Any, int]]) -> Store:
    store, request = Store(state), sent.request
    for at, (key, body) in enumerate(request.writes):
        last = request.numbers[at][1] if request.numbers is not None else at + 1
        store.write(key, body, 100 + last, sent.stands_for[at][-1] if sent.stands_for is not None else at)
    return store


_states = st.dictionaries(
    st.sampled_from([b"a", b"b"]),
    st.sampled_from([(None, 50), (b"5", 50), (b'"text"', 50), (b'{"n":2}', 50), (b"[1]", 50)]),
)


def check_numbers(sent: Coalesced, writes: Sequence[Write]) -> None:
    request = sent.request
    assert request.takes == len(writes)
    if sent.stands_for is None and request.numbers is None:
        assert [*request.writes] == [*writes]
        return
    if sent.stands_for is None:  # none of them can be refused, so nobody asks
        assert {body[:1] for _, body in writes} <= {b"p", b"d"}
        newest = {key: place for place, (key, _) in enumerate(writes)}
        assert request.numbers == [(place + 1, place + 1) for place in newest.values()]
        assert [*request.writes] == [writes[place] for place in newest.values()]
        return
    assert request.numbers is not None
    assert sorted(chain.from_iterable(sent.stands_for)) == [*range(len(writes))], "each stands in one place"
    before: dict[bytes, int] = {}
    for (key, body), (first, last), places in zip(request.writes, request.numbers, sent.stands_for, strict=True):
        assert (first, last) == (places[0] + 1, places[-1] + 1)
        assert before.get(key, 0) < first, "versions of a key only grow"
        before[key] = last
        assert {writes[place][0] for place in places} == {key}
        if any(writes[place][1][:1].isupper() for place in places):
            assert [body] == [writes[place][1] for place in places], "a condition stands for itself"


@given(_groups, _states)
def test_request_leads_to_the_same_as_its_writes_one_by_one(
    groups: list[list[Write]], state: dict[bytes, tuple[Any, int]]
) -> None:
    sent = coalesced(groups, limited=False)
    writes = [*chain.from_iterable(groups)]
    check_numbers(sent, writes)
    apart, together = one_by_one(writes, state), as_sent(sent, state)
    assert together.shown() == apart.shown()
    assert together.met == apart.met


@given(_singles, _states)
def test_so_it_does_where_limits_accept_or_refuse_each_write(
    groups: list[list[Write]], state: dict[bytes, tuple[Any, int]]
) -> None:
    sent = coalesced(groups, limited=True)
    assert not sent.request.sizes, "each is a group of its own"
    writes = [*chain.from_iterable(groups)]
    check_numbers(sent, writes)
    assert as_sent(sent, state).shown() == one_by_one(writes, state).shown()


@given(_groups)
def test_groups_of_several_writes_stay_whole_where_there_are_limits(groups: list[list[Write]]) -> None:
    sent = coalesced(groups, limited=True)
    if all(len(group) == 1 for group in groups):
        return
    assert sent.stands_for is None
    assert [*sent.request.sizes] == [len(group) for group in groups]
    assert [*sent.request.writes] == [*chain.from_iterable(groups)]


def test_last_put_stands_for_all_before_it() -> None:
    sent = coalesced([[(b"a", put(1)), (b"b", put(2))], [(b"a", COUNT)], [(b"a", put(3))]], limited=False)
    assert [*sent.request.writes] == [(b"a", put(3)), (b"b", put(2))]
    assert (sent.request.numbers, sent.request.takes) == ([(1, 4), (2, 2)], 4)
    assert sent.stands_for == [[0, 2, 3], [1]]


def test_many_that_count_one_key_are_one_entry() -> None:
    sent = coalesced([[(b"a", COUNT)] for _ in range(200)], limited=False)
    ((key, body),) = sent.request.writes
    assert (key, sent.request.numbers, sent.request.takes) == (b"a", [(1, 200)], 200)
    assert apply("json", b"5", [body[PREFIX_BYTES:]]) == b"205"
    assert apply("json", None, [body[PREFIX_BYTES:]]) == b"200"


def test_updates_are_applied_to_a_put_that_waits_with_them() -> None:
    sent = coalesced([[(b"a", put(5))], [(b"a", COUNT)], [(b"a", COUNT)]], limited=False)
    assert [*sent.request.writes] == [(b"a", put(7))]
    sent = coalesced([[(b"a", DELETE_BODY)], [(b"a", COUNT)]], limited=False)
    assert [*sent.request.writes] == [(b"a", put(1))]
    nothing = update(Add(1), upsert=False)
    sent = coalesced([[(b"a", DELETE_BODY)], [(b"a", nothing)]], limited=False)
    assert [*sent.request.writes] == [(b"a", DELETE_BODY)]


def test_what_cannot_be_applied_to_a_put_stays_behind_it() -> None:
    """Whoever works the value out tells so."""
    sent = coalesced([[(b"a", body)] for body in (put(1), put("text"), COUNT, COUNT)], limited=False)
    (_, begin), (_, update_) = sent.request.writes
    assert begin == put("text")
    assert update_[:1] == b"u"
    assert sent.request.numbers == [(1, 2), (3, 4)]


def test_updates_that_do_not_fold_go_as_they_are() -> None:
    """That one of them alone can be left out."""
    bodies = [COUNT, update({"n": Add(1)}), COUNT]
    sent = coalesced([[(b"a", body)] for body in bodies], limited=False)
    assert [body for _, body in sent.request.writes] == bodies
    assert sent.request.numbers == [(1, 1), (2, 2), (3, 3)]


def test_condition_parts_what_comes_before_from_what_comes_after() -> None:
    condition = conditional(put(9), 7)
    sent = coalesced([[(b"a", body)] for body in (COUNT, COUNT, condition, COUNT, COUNT)], limited=False)
    assert sent.stands_for == [[0, 1], [2], [3, 4]]
    assert sent.request.numbers == [(1, 2), (3, 3), (4, 5)]


def test_codecs_are_not_mixed() -> None:
    packed = put_prefix("msgpack") + msgspec.msgpack.encode(5)
    sent = coalesced([[(b"a", packed)], [(b"a", COUNT)]], limited=False)
    assert [body for _, body in sent.request.writes] == [packed, COUNT]
