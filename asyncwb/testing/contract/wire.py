"""What the contract's tests and their child processes say to each other: JSON lines."""

from collections.abc import Sequence
from enum import Enum
from typing import Literal

import msgspec

from asyncwb.records import CodecName, Record


class Freeze(Enum):
    """What a child does to itself at a step, or after a call."""

    STOP = "SIGSTOP"
    KILL = "SIGKILL"


class WireRecord(msgspec.Struct):
    """A record."""

    key: str
    version: int
    payload: bytes
    codec: CodecName
    deleted: bool


class Request(msgspec.Struct):
    """What a child shall do; `at` counts from 1.

    "save" and "count" take records, "load" the key of a single record, "clock" how many seconds its wall clock shall be
    ahead. With `die_after` it kills itself in the statement after "save" or "new_epoch", before anything else can run.
    """

    do: Literal["save", "load", "count", "new_epoch", "clock"]
    records: list[WireRecord] = []
    number: int = 0
    at: int | None = None
    freeze: Freeze = Freeze.STOP
    die_after: bool = False


class Reply(msgspec.Struct):
    """What it answers: a number, or why there is none.

    With `frozen`, the line of the backend's code before which it freezes or dies, another reply comes after the thaw.
    """

    number: int = 0
    error: str = ""
    frozen: str = ""


def to_wire(records: Sequence[Record]) -> list[WireRecord]:
    """For a request."""
    return [WireRecord(each.key, each.version, each.payload, each.codec, each.deleted) for each in records]


def from_wire(records: Sequence[WireRecord]) -> list[Record]:
    """As they were."""
    return [Record(each.key, each.version, each.payload, codec=each.codec, deleted=each.deleted) for each in records]
