"""Makes one request of many writes: of those of one key, only what they lead to is sent."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Final, NamedTuple

from asyncwb.protocol.body import (
    CODECS,
    DELETE_BODY,
    PLAIN_KINDS,
    PREFIX_BYTES,
    Kind,
    is_conditional,
    is_plain,
    put_prefix,
)
from asyncwb.protocol.messages import Request, Write
from asyncwb.updates import UpdateFailed, apply, fold

_UPDATE: Final = frozenset((ord(Kind.UPDATE.value),))


class Coalesced(NamedTuple):
    """A request, and for each of its writes the places of all writes that it stands for; None if each stands for one.

    Attributes:
        request: what is sent.
        stands_for: places are counted over all groups, from 0.
    """

    request: Request
    stands_for: Sequence[Sequence[int]] | None = None


def coalesced(groups: Sequence[Sequence[Write]], *, limited: bool) -> Coalesced:
    """Returns the request of these groups.

    Of the writes of a key, the last put or delete stands for all before it, and updates are folded, also onto a put. A
    write with a condition stands for itself: what comes before and after it isn't joined. Each write keeps a number of
    its own, or two callers would have the same version.

    Args:
        groups: the writes, one group for each caller.
        limited: whether there are limits, which accept or refuse each group as a whole. Then writes are joined only if
            all groups have a single one, since one of a key that is refused is followed by refused ones.
    """
    if len(groups) == 1 and len(groups[0]) == 1:  # a lone write, which needs nothing of this
        return Coalesced(Request(groups[0], 1))
    writes = [*chain.from_iterable(groups)]
    count = len(writes)
    if limited and count > len(groups):
        return Coalesced(Request(writes, count, sizes=[*map(len, groups)]))
    if len(dict(writes)) == count:
        return Coalesced(Request(writes, count))
    last = {key: place for place, (key, _) in enumerate(writes)}
    kinds = {body[0] for _, body in writes}
    if kinds <= PLAIN_KINDS and not limited:  # then none is refused, and nobody asks which stands for which
        numbers = [(place + 1, place + 1) for place in last.values()]
        return Coalesced(Request([writes[place] for place in last.values()], count, numbers))
    by_key: dict[bytes, list[int]] = {key: [] for key in last}
    for place, (key, _) in enumerate(writes):
        by_key[key].append(place)
    sent: list[Write] = []
    stands_for: list[list[int]] = []
    join = _folded_all if kinds == _UPDATE else _joined
    for key, places in by_key.items():
        if len(places) == 1:
            sent.append(writes[places[0]])
            stands_for.append(places)
        else:
            for body, of in join([writes[place][1] for place in places], places):
                sent.append((key, body))
                stands_for.append(of)
    numbers = [(places[0] + 1, places[-1] + 1) for places in stands_for]
    return Coalesced(Request(sent, count, numbers), stands_for)


def _folded_all(updates: Sequence[bytes], places: list[int]) -> Iterator[tuple[bytes, list[int]]]:
    """Joins updates of one key, in their order; yields what they lead to, with the places that each stands for."""
    folded = _repeated(updates[0], len(updates)) if updates.count(updates[0]) == len(updates) else _folded(updates)
    if folded is not None:
        yield folded, places
    else:
        # Those that can't be folded into one go as they are.
        yield from ((body, [place]) for body, place in zip(updates, places, strict=True))


@lru_cache(maxsize=1000)
def _repeated(update: bytes, times: int) -> bytes | None:
    """The same update so many times; remembered, because most counters count by one."""
    return _folded([update] * times)


def _folded(updates: Sequence[bytes]) -> bytes | None:
    """One update that does the same as these, in their order; None if there isn't one."""
    prefix = updates[0][:PREFIX_BYTES]
    folded = fold(CODECS[prefix[1:]], [body[PREFIX_BYTES:] for body in updates])
    return prefix + folded[0] if len(folded) == 1 else None


def _joined(bodies: Sequence[bytes], places: list[int]) -> Iterator[tuple[bytes, list[int]]]:
    """The same for writes of any kind."""
    begin = 0
    for at, body in enumerate(bodies):
        if is_conditional(body):
            yield from _run(bodies[begin:at], places[begin:at])
            yield body, [places[at]]
            begin = at + 1
    yield from _run(bodies[begin:], places[begin:])


def _run(bodies: Sequence[bytes], places: list[int]) -> Iterator[tuple[bytes, list[int]]]:
    """The same for writes without conditions; there may be none."""
    last = max((at for at, body in enumerate(bodies) if is_plain(body)), default=None)
    if last is None:
        if bodies:
            yield from _folded_all(bodies, places)
        return
    try:
        yield _applied(bodies[last], bodies[last + 1 :]), places
    except UpdateFailed:
        # Which one can't be applied is found out by whoever works the value out; until then they go as they are.
        yield bodies[last], places[: last + 1]
        yield from _folded_all(bodies[last + 1 :], places[last + 1 :])


def _applied(begin: bytes, updates: Sequence[bytes]) -> bytes:
    if not updates:
        return begin
    codec = CODECS[updates[0][1:PREFIX_BYTES]]
    value = None if begin == DELETE_BODY else begin[PREFIX_BYTES:]
    if value is not None and begin[:PREFIX_BYTES] != put_prefix(codec):
        raise UpdateFailed("the codecs differ")
    value = apply(codec, value, [body[PREFIX_BYTES:] for body in updates])
    return DELETE_BODY if value is None else put_prefix(codec) + value
