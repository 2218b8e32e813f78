"""Reads of one process for several keys at once: of the partition of each."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import cast

from asyncwb.core.partition import Lane
from asyncwb.errors import AsyncwbError, BackendError, DecodeError
from asyncwb.reading.reader import Found
from asyncwb.support.outcomes import failures_of

Answer = Found | AsyncwbError
"""What a key has, or why that can't be told."""


async def read_many(lane_of: Callable[[bytes], Lane], keys: Iterable[bytes]) -> Iterable[tuple[bytes, Answer]]:
    """Each key with its own answer."""
    groups: dict[Lane, list[bytes]] = {}
    for raw in keys:
        groups.setdefault(lane_of(raw), []).append(raw)
    futures = [lane.gets.submit(group, len(group)) for lane, group in groups.items()]
    answers: list[Sequence[Answer] | BaseException] = [*await asyncio.gather(*futures, return_exceptions=True)]
    if any(isinstance(answer, BaseException) for answer in answers):
        answers = [*await asyncio.gather(*map(_one_by_one, groups, groups.values(), answers))]
    # What is no sequence of answers by now was raised.
    pairs = zip(groups.values(), cast("list[Sequence[Answer]]", answers), strict=True)
    return chain.from_iterable(zip(*pair, strict=True) for pair in pairs)


async def _one_by_one(lane: Lane, group: list[bytes], answer: Sequence[Answer] | BaseException) -> Sequence[Answer]:
    """Asks again for each key by itself where one may have failed the whole group."""
    if not isinstance(answer, BaseException):
        return answer
    if len(group) == 1 or not isinstance(answer, DecodeError | BackendError):
        return list(failures_of([raw.decode() for raw in group], answer).values())
    outcomes = await asyncio.gather(*(lane.gets.submit((raw,)) for raw in group), return_exceptions=True)
    return [
        failures_of([raw.decode()], outcome)[raw.decode()] if isinstance(outcome, BaseException) else outcome[0]
        for raw, outcome in zip(group, outcomes, strict=True)
    ]
