"""Constraints of types and required fields: what may break them, or can't be made, is refused at the call."""

from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pydantic
import pytest

from asyncwb import Add, Append, Codec, InvalidValue, Max, Min
from asyncwb.records import CodecName
from asyncwb.updates import Changes, apply


@pytest.mark.parametrize("library", ["msgspec", "pydantic"])
@pytest.mark.parametrize(
    ("base", "limits", "bad", "good"),
    [
        (int, {"ge": 0}, [Add(-1), Max(-1)], [Add(1), Max(1)]),
        (int, {"gt": -1}, [Add(-1)], [Add(1)]),
        (int, {"le": 9}, [Add(1), Min(10)], [Add(-1), Max(9)]),
        (int, {"lt": 9}, [Add(1)], [Add(-1)]),
        (int, {"multiple_of": 5}, [Add(3), Max(3)], [Add(10), Max(5)]),
        (list[int], {"max_length": 3}, [Append(1), Append(1, keep=4)], [Append(1, keep=3)]),
        (list[int], {"min_length": 2}, [Append(1, 2, keep=1), Append(1)], [Append(1, 2, keep=2), Append(1, 2)]),
    ],
)
def test_operation_that_may_break_a_constraint_is_refused(
    codec: CodecName, library: str, base: Any, limits: Any, bad: list[Any], good: list[Any]
) -> None:
    limit: Any = msgspec.Meta(**limits) if library == "msgspec" else pydantic.Field(**limits)
    type_: Any = Annotated[base, limit]
    holder: Any = dict[str, type_ | None]
    if library == "pydantic":
        holder = pydantic.create_model("Holder", a=(base | None, pydantic.Field(None, **limits)))
        type_ = Annotated[type_, pydantic.Field()]
    for operation in bad:
        with pytest.raises(InvalidValue, match="the value"):
            Changes(codec, type_).encode("k", operation)
        with pytest.raises(InvalidValue, match="field 'a'"):
            Changes(codec, holder).encode("k", {"a": operation})
    for operation in good:
        assert Changes(codec, type_).encode("k", operation)
        assert Changes(codec, holder).encode("k", {"a": operation})


def test_constraint_binds_what_an_absent_value_becomes_only_where_one_is_made(codec: CodecName) -> None:
    type_ = Annotated[int, msgspec.Meta(ge=10)]
    changes = Changes(codec, type_)
    assert changes.encode("k", Add(5), upsert=False)
    assert changes.encode("k", Add(5), default=10)
    with pytest.raises(InvalidValue, match=r"begin with.*default=, or upsert=False"):
        changes.encode("k", Add(5))
    required = msgspec.defstruct("Required", [("left", type_)])
    assert Changes(codec, required).encode("k", {"left": Add(5)}, upsert=False)
    with pytest.raises(InvalidValue, match="upsert=False"):
        Changes(codec, required).encode("k", {"left": Add(5)})


def test_decimal_places_are_kept(codec: CodecName) -> None:
    class Price(pydantic.BaseModel):
        price: Decimal = pydantic.Field(Decimal(0), decimal_places=2)

    changes = Changes(codec, Price)
    assert changes.encode("k", {"price": Add(Decimal("0.25"))})
    with pytest.raises(InvalidValue, match="decimal_places=2"):
        changes.encode("k", {"price": Add(Decimal("0.125"))})


class Needy(msgspec.Struct):
    name: str
    visits: int
    note: str = ""


class NeedyModel(pydantic.BaseModel):
    name: str
    visits: int
    note: str = ""


@pytest.mark.parametrize("type_", [Needy, NeedyModel])
def test_required_fields_have_to_come_from_somewhere(codec: CodecName, type_: Any) -> None:
    changes = Changes(codec, type_)
    with pytest.raises(InvalidValue, match=r"'k'.*name.*default=, or upsert=False"):
        changes.encode("k", {"visits": Add(1)})
    assert changes.encode("k", {"visits": Add(1)}, upsert=False)
    decode = Codec[Any](codec, type_).decode
    made = apply(codec, None, [changes.encode("k", {"visits": Add(1), "name": "x"})])
    assert decode(made or b"") == type_(name="x", visits=1, note="")
    made = apply(codec, None, [changes.encode("k", {"visits": Add(1)}, default=type_(name="y", visits=4))])
    assert decode(made or b"") == type_(name="y", visits=5, note="")


def test_default_is_a_value_of_the_type(codec: CodecName) -> None:
    with pytest.raises(InvalidValue, match=r"'k': default: .*int"):
        Changes(codec, int).encode("k", Add(1), default="x")
    with pytest.raises(InvalidValue, match="None can't be stored"):
        Changes(codec, int).encode("k", Add(1), default=None)
    with pytest.raises(InvalidValue, match=r"can't be applied to default=.*text"):
        Changes(codec).encode("k", Add(1), default="x")
