"""What becomes of records that were written when the type was another: the table of docs/values.md."""

from pathlib import Path
from typing import Any

import msgspec
import pydantic
import pytest

from asyncwb import Buffer, DecodeError, PartialFailure


class First(msgspec.Struct):
    name: str
    visits: int


class Added(msgspec.Struct):
    name: str
    visits: int
    note: str = "none"


class Removed(msgspec.Struct):
    name: str


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class Renamed(msgspec.Struct):
    name: str
    count: int = msgspec.field(name="visits")


class Required(msgspec.Struct):
    name: str
    visits: int
    email: str


class AsFloat(msgspec.Struct):
    name: str
    visits: float


class AsText(msgspec.Struct):
    name: str
    visits: str


class Model(pydantic.BaseModel):
    name: str
    count: int = pydantic.Field(alias="visits")
    note: str = "none"


PLACES = ["in Redis", "in a store of values"]


class SuccessiveTypes:
    """Opens buffers of one namespace over one file, one after the other, each with a type of its own."""

    def __init__(self, url: str, folder: Path, place: str) -> None:
        self._url, self._backend, self._place = url, f"sqlite:///{folder}/app.db", place

    def buffer(self, type_: Any) -> Buffer[Any]:
        flushers = 0 if self._place == "in Redis" else 2
        return Buffer(self._url, backend=self._backend, namespace="evolving", type=type_, flushers=flushers)

    async def written(self, *values: Any) -> None:
        async with self.buffer(type(values[0])) as buffer:
            await buffer.set_many({str(number): value for number, value in enumerate(values)})

    async def read(self, type_: Any, key: str = "0") -> Any:
        async with self.buffer(type_) as buffer:
            return await buffer.get(key)


@pytest.fixture(params=PLACES)
def evolving(redis_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> SuccessiveTypes:
    return SuccessiveTypes(redis_url, tmp_path, request.param)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (Added, Added("Ada", 3, "none")),
        (Removed, Removed("Ada")),
        (Renamed, Renamed("Ada", 3)),
        (AsFloat, AsFloat("Ada", 3.0)),
        (Model, Model(name="Ada", visits=3)),
        (Any, {"name": "Ada", "visits": 3}),
    ],
    ids=str,
)
async def test_old_record_is_read_under_the_new_type(evolving: SuccessiveTypes, type_: Any, value: Any) -> None:
    await evolving.written(First("Ada", 3))
    assert await evolving.read(type_) == value


@pytest.mark.parametrize(
    ("type_", "reason"), [(Strict, "visits"), (Required, "email"), (AsText, r"\$\.visits")], ids=str
)
async def test_old_record_that_the_new_type_excludes_is_named(
    evolving: SuccessiveTypes, type_: Any, reason: str
) -> None:
    await evolving.written(First("Ada", 3))
    with pytest.raises(DecodeError, match=f"key '0': .*{reason}"):
        await evolving.read(type_)


async def test_other_records_are_read_beside_one_that_the_type_excludes(evolving: SuccessiveTypes) -> None:
    await evolving.written(First("Ada", 3))
    async with evolving.buffer(Required) as buffer:
        await buffer.set("1", Required("Bob", 1, "bob@x"))
        with pytest.raises(PartialFailure) as caught:
            await buffer.get_many(["0", "1"])
    assert caught.value.values == {"1": Required("Bob", 1, "bob@x")}
    assert isinstance(caught.value.failed["0"], DecodeError)


async def test_record_that_the_type_excludes_is_saved_all_the_same(redis_url: str, tmp_path: Path) -> None:
    await SuccessiveTypes(redis_url, tmp_path, "in Redis").written(First("Ada", 3))
    saving = SuccessiveTypes(redis_url, tmp_path, "in a store of values")
    async with saving.buffer(Required) as buffer:
        await buffer.flush("0", timeout=30)
        assert buffer.totals.dead == 0
    assert await saving.read(First) == First("Ada", 3)


async def test_next_write_drops_a_removed_field(evolving: SuccessiveTypes) -> None:
    await evolving.written(First("Ada", 3))
    async with evolving.buffer(Removed) as buffer:
        value = await buffer.get("0")
        assert value is not None
        await buffer.set("0", value)
    assert await evolving.read(Any) == {"name": "Ada"}
