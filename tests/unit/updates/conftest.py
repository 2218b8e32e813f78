"""Each test of an operation runs with both codecs, and on whole values as well as on fields."""

from typing import Any

import pytest

from asyncwb.records import CodecName
from tests.harness.updates import Cell, updated


@pytest.fixture(params=["json", "msgpack"])
def codec(request: pytest.FixtureRequest) -> CodecName:
    name: CodecName = request.param
    return name


@pytest.fixture(params=["whole", "field"])
def cell(request: pytest.FixtureRequest, codec: CodecName) -> Cell:
    """Applies an operation to a present cell: a whole value, or a field beside others."""
    if request.param == "whole":
        return lambda before, operation: updated(codec, before, operation)

    def field(before: Any, operation: Any) -> Any:
        after = updated(codec, {"a": None, "cell": before, "z": [1]}, {"cell": operation})
        assert list(after) == ["a", "cell", "z"], "the others stay, in order"
        assert (after["a"], after["z"]) == (None, [1])
        return after["cell"]

    return field
