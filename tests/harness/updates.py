"""Applies single updates to plain values, for tests of what they do."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from asyncwb.records import CodecName
from asyncwb.updates import Changes, UpdateFailed, apply

NOTHING: Any = object()
"""Stands for a value that isn't there, before or after."""

Cell = Callable[[Any, Any], Any]
"""Applies an operation to a present value, and returns what it becomes."""


def updated(codec: CodecName, before: Any, change: Any, *, type_: Any = Any, **options: Any) -> Any:
    """A value after one update, as plain Python."""
    encoder = msgspec.json if codec == "json" else msgspec.msgpack
    entry = bytes(Changes(codec, type_).encode("k", change, **options))  # as a worker reads it
    after = apply(codec, None if before is NOTHING else encoder.encode(before), [entry])
    return NOTHING if after is None else encoder.decode(after)


def refusal(call: Callable[[], Any]) -> str:
    """The reason for which applying a single update fails."""
    with pytest.raises(UpdateFailed) as caught:
        call()
    assert caught.value.index == 0
    return caught.value.reason
