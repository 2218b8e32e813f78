"""The messages between the contract's tests and their child processes, as JSON lines."""

from collections.abc import Sequence
from enum import Enum
from typing import Literal

import msgspec

from asyncwb.records import CodecName, Record


class Freeze(Enum):
    """What a child does to itself at a step."""

    STOP = "SIGSTOP"
    KILL = "SIGKILL"


class WireRecord(msgspec.Struct):
    """A record."""

    key: str
    version: int
    payload: bytes
    codec: CodecName
    deleted: bool
    based_on: int | None = None


class Request(msgspec.Struct):
    """What a child is to do; it freezes or dies before step `at`, counted from 1.

    "save" and "count" use `records`, "load" the key of a single record, and so does "count_up", which saves `number`
    records of it, each based on the one before. Otherwise `number` is `at_least` for "new_epoch", and
    for "clock" how many seconds the child's wall clock is to be ahead. With `die_after`, the child kills itself in the
    statement right after "save" or "new_epoch", before anything else can run.
    """

    do: Literal["save", "load", "count", "count_up", "new_epoch", "clock"]
    records: list[WireRecord] = []
    number: int = 0
    at: int | None = None
    freeze: Freeze = Freeze.STOP
    die_after: bool = False


class Reply(msgspec.Struct):
    """What a child answers: a number, or an error.

    `frozen` is the line of the backend's code before which it freezes or dies; if it freezes, another reply follows
    after the thaw.
    """

    number: int = 0
    error: str = ""
    frozen: str = ""


def to_wire(records: Sequence[Record]) -> list[WireRecord]:
    """Converts records for a request."""
    return [
        WireRecord(each.key, each.version, each.payload, each.codec, each.deleted, each.based_on) for each in records
    ]


def from_wire(records: Sequence[WireRecord]) -> list[Record]:
    """Converts a request's records back."""
    return [
        Record(each.key, each.version, each.payload, codec=each.codec, deleted=each.deleted, based_on=each.based_on)
        for each in records
    ]
