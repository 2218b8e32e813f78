"""Makes one request of many writes: of those of one key, only what they lead to is sent."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from asyncwb.protocol.body import (
    CODECS,
    DELETE_BODY,
    PREFIX_BYTES,
    is_conditional,
    is_plain,
    put_prefix,
)
from asyncwb.protocol.messages import Request, Write
from asyncwb.updates import UpdateFailed, apply, fold


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
    single = count == len(groups)
    sizes = () if single or not limited else [*map(len, groups)]
    if (limited and not single) or len({key for key, _ in writes}) == count:
        return Coalesced(Request(writes, count, sizes=sizes))
    joined: list[tuple[Write, list[int]]] = []
    by_key: dict[bytes, list[int]] = {}
    for place, (key, _) in enumerate(writes):
        by_key.setdefault(key, []).append(place)
    for key, places in by_key.items():
        if len(places) == 1:
            joined.append((writes[places[0]], places))
            continue
        for body, stands_for in _joined([(writes[place][1], place) for place in places]):
            joined.append(((key, body), stands_for))
    return Coalesced(
        Request(
            [write for write, _ in joined],
            count,
            [(places[0] + 1, places[-1] + 1) for _, places in joined],
        ),
        [places for _, places in joined],
    )


def _joined(bodies: Sequence[tuple[bytes, int]]) -> Iterator[tuple[bytes, list[int]]]:
    """Joins writes of one key, in their order; yields what they lead to, with the places that each stands for."""
    run: list[tuple[bytes, int]] = []
    for body, place in bodies:
        if is_conditional(body):
            yield from _run(run)
            yield body, [place]
            run = []
        else:
            run.append((body, place))
    yield from _run(run)


def _run(run: Sequence[tuple[bytes, int]]) -> Iterator[tuple[bytes, list[int]]]:
    """The same for writes without conditions."""
    if not run:
        return
    places = [place for _, place in run]
    last = max((at for at, (body, _) in enumerate(run) if is_plain(body)), default=None)
    try:
        if last is None:
            yield _folded([body for body, _ in run]), places
        else:
            yield _applied(run[last][0], [body for body, _ in run[last + 1 :]]), places
    except UpdateFailed:
        # Which one can't be applied is found out by whoever works the value out; until then they go as they are.
        yield from ((body, [place]) for body, place in run)


def _folded(updates: Sequence[bytes]) -> bytes:
    if len(updates) == 1:
        return updates[0]
    prefix = updates[0][:PREFIX_BYTES]
    folded = fold(CODECS[prefix[1:]], [body[PREFIX_BYTES:] for body in updates])
    if len(folded) > 1:
        raise UpdateFailed("they can't be folded into one")
    return prefix + folded[0]


def _applied(begin: bytes, updates: Sequence[bytes]) -> bytes:
    if not updates:
        return begin
    codec = CODECS[updates[0][1:PREFIX_BYTES]]
    value = None if begin == DELETE_BODY else begin[PREFIX_BYTES:]
    if value is not None and begin[:PREFIX_BYTES] != put_prefix(codec):
        raise UpdateFailed("the codecs differ")
    value = apply(codec, value, [body[PREFIX_BYTES:] for body in updates])
    return DELETE_BODY if value is None else put_prefix(codec) + value
