"""Values that only updates change, and which tell by themselves which updates are in them.

Each update has an id. A tally is an object: its ids in order, sums of what each id adds, and what the ids say of the
last and of the greatest. A list has ids alone. A count has nothing but a number, as counters have in practice.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from asyncwb import Add, Append, Max, Record
from asyncwb.buffer.updating import Change

REGISTER: Final = "key"
"""What the names of all other keys begin with."""

KEYS: Final = (
    *(f"tally{number}" for number in range(6)),
    *(f"list{number}" for number in range(3)),
    *(f"count{number}" for number in range(3)),
)


def is_register(key: str) -> bool:
    return key.startswith(REGISTER)


def is_tally(key: str) -> bool:
    return key.startswith("tally")


def is_count(key: str) -> bool:
    return key.startswith("count")


def amount(number: int) -> int:
    """What the update with this id adds to the sum of a tally."""
    return number % 97 + 1


def cost(number: int) -> Decimal:
    """What it adds to the sum of Decimals."""
    return Decimal(number % 1009) / 1000


def change_of(key: str, number: int) -> Change:
    """The update with this id."""
    if is_count(key):
        return Add(1)
    if is_tally(key):
        return {
            "ids": Append(number), "sum": Add(amount(number)), "cost": Add(cost(number)), "most": Max(number),
            "last": number,
        }  # fmt: skip
    return Append(number)


def changed(tally: Mapping[str, Any] | None, number: int) -> dict[str, Any]:
    """The same on a tally that was read."""
    ids = [*tally["ids"], number] if tally else [number]
    return summed(ids)


def summed(ids: list[int]) -> dict[str, Any]:
    """The tally of these updates."""
    return {
        "ids": ids, "sum": sum(map(amount, ids)), "cost": str(sum(map(cost, ids), Decimal())), "most": max(ids),
        "last": ids[-1],
    }  # fmt: skip


def contradiction(key: str, value: Any) -> str:
    """What a tally says that doesn't agree with its own ids; "" if all does."""
    if value is None or not is_tally(key):
        return ""
    right = summed(value["ids"])
    found = [name for name in right if name != "cost" and value[name] != right[name]]
    if Decimal(value["cost"]) != Decimal(right["cost"]):
        found.append("cost")
    return ", ".join(f"{name} is {value[name]}, and its ids make {right[name]}" for name in found)


def ids_in(key: str, value: Any) -> list[int]:
    """The ids that a tally or a list has."""
    if value is None:
        return []
    return list(value["ids"] if is_tally(key) else value)


def shown(key: str, value: Any) -> int | None:
    """What identifies a value: the last id in it, or its count; None if there is none."""
    if value is None:
        return None
    if is_count(key):
        return int(value)
    if is_register(key):
        return int(value["id"])
    return ids_in(key, value)[-1]


def value_id(record: Record) -> int | None:
    """The same of a record; None for a tombstone."""
    return shown(record.key, None if record.deleted else record.value)
