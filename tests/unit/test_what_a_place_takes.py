"""What a backend says about the values that its place accepts: asked without opening it, checked, and optional."""

from collections.abc import Sequence
from typing import Any

import pytest

from asyncwb import BackendUnavailable, BrokenContract, ConfigurationError, Record
from asyncwb.backend import COLUMN_TYPES
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.testing import MemoryBackend
from asyncwb.testing.contract import put

RECORDS = [put("a", 1), put("b", 2)]


class Telling(MemoryBackend):
    """A backend that returns what a test gives it, and fails the test if it is opened."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        raise AssertionError("nobody has asked it to open")

    async def column_types(self) -> Any:
        return self._told()

    async def refused(self, records: Sequence[Record], *, namespace: str) -> Any:
        assert namespace == "ns"
        return self._told()

    def _told(self) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def guard(backend: Any) -> BackendAdapter:
    return BackendAdapter(
        backend, name="broken://it", namespace="ns", connect_timeout_seconds=5.0, save_timeout_seconds=5.0
    )


async def test_place_that_says_nothing_takes_anything() -> None:
    assert await guard(MemoryBackend()).column_types() == {}
    assert await guard(MemoryBackend()).refused(RECORDS) is None


async def test_every_type_of_the_contract_is_taken() -> None:
    types = {name: name for name in COLUMN_TYPES} | {f"nullable {name}": f"{name}?" for name in COLUMN_TYPES}
    assert await guard(Telling(types)).column_types() == types
    assert await guard(Telling(("why", None))).refused(RECORDS) == ["why", None]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, "returned None"),
        (["int"], "returned a list"),
        ({"a": "integer"}, "returned 'integer' for field 'a'"),
        ({"a": "int??"}, "returned 'int\\?\\?' for field 'a'"),
        ({"a": None}, "returned None for field 'a'"),
        ({1: "int"}, "returned 'int' for field 1"),
    ],
)
async def test_types_that_do_not_exist_are_the_plugins_mistake(answer: Any, told: str) -> None:
    with pytest.raises(BrokenContract, match=told):
        await guard(Telling(answer)).column_types()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, "returned None"),
        ("no", "returned 'no'"),
        ([None], "returned a list: it has to return a reason or None for each"),
        ([None, None, None], "returned a list"),
        ({"a": "why"}, "returned a dict"),
        ([None, ValueError()], "returned a ValueError as a reason"),
    ],
)
async def test_reasons_have_to_be_one_for_each_record(answer: Any, told: str) -> None:
    with pytest.raises(BrokenContract, match=told):
        await guard(Telling(answer)).refused(RECORDS)


async def test_what_a_plugin_raises_is_told_as_anywhere_else() -> None:
    for ask in (
        guard(Telling(OSError("no route"))).column_types,
        lambda: guard(Telling(OSError("no route"))).refused(RECORDS),
    ):
        with pytest.raises(BackendUnavailable, match="of backend broken://it failed: OSError: no route"):
            await ask()
    for ask in (
        guard(Telling(ConfigurationError("wrong"))).column_types,
        lambda: guard(Telling(ConfigurationError("wrong"))).refused(RECORDS),
    ):
        with pytest.raises(ConfigurationError, match=r"^wrong$"):
            await ask()
