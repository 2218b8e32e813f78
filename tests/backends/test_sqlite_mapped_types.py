"""A table of the users' own under a type: what a column makes of a value is the same value when it is read."""

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import msgspec
import pydantic
import pytest

from asyncwb import Buffer, Codec, ConfigurationError, DecodeError, Record
from asyncwb.testing.contract import version
from asyncwb_backends.sqlite import from_url
from tests.harness.sqlite import execute


class Order(msgspec.Struct):
    price: Decimal
    paid: bool
    weight: float
    day: date
    note: str = "none"


class Model(pydantic.BaseModel):
    price: Decimal
    paid: bool
    weight: float
    day: date
    note: str = "none"


class Sparse(msgspec.Struct, omit_defaults=True):
    name: str
    visits: int = 0
    tags: list[str] = []
    email: str | None = None
    note: str = "none"


class Partial(TypedDict):
    name: str
    visits: NotRequired[int]


ORDERS = (
    "CREATE TABLE orders (id TEXT PRIMARY KEY, price DECIMAL(10, 2), paid INTEGER, weight INTEGER, day TEXT, note TEXT)"
)
SPARSE = (
    "CREATE TABLE users (id TEXT PRIMARY KEY, name TEXT NOT NULL, visits INTEGER NOT NULL DEFAULT 0, "
    "tags JSON NOT NULL DEFAULT '[]', email TEXT UNIQUE, note TEXT)"
)


def url(folder: Path, table: str, columns: str) -> str:
    return f"sqlite:///{folder}/a.db?table={table}&key=id&columns={columns}&add_version=1"


@pytest.mark.parametrize("codec", ["json", "msgpack"])
@pytest.mark.parametrize("type_", [Order, Model])
async def test_values_come_back_under_their_type(redis_url: str, tmp_path: Path, type_: Any, codec: Any) -> None:
    execute(tmp_path / "a.db", ORDERS)
    values = {
        "1": type_(price=Decimal("1.50"), paid=True, weight=3.0, day=date(2024, 1, 2), note=""),
        "2": type_(price=Decimal(-(10**18)), paid=False, weight=0, day=date(1, 1, 1)),
    }
    place = url(tmp_path, "orders", "price,paid,weight,day,note")
    async with Buffer(redis_url, backend=place, type=type_, codec=codec) as orders:
        await orders.set_many(values)
        await orders.drain(timeout=30)
        assert orders.totals.dead == 0
        assert (await orders.stats()).dirty == 0
        assert await orders.get_many(["1", "2"]) == values
    stored = execute(tmp_path / "a.db", "SELECT price, paid, weight, day, note FROM orders ORDER BY id")
    assert stored == [(1.5, 1, 3, "2024-01-02", ""), (-(10**18), 0, 0, "0001-01-01", "none")]


async def test_decimal_that_sqlite_cannot_hold_is_refused(tmp_path: Path) -> None:
    execute(tmp_path / "a.db", ORDERS)
    backend = from_url(url(tmp_path, "orders", "price"), codec=Codec("json"))
    await backend.open(namespace="one")
    try:
        good = [
            Record(str(n), version(1), b'{"price":"%s"}' % text) for n, text in enumerate((b"0.1", b"1E+3", b"-0.50"))
        ]
        assert await backend.save(good) == 0
        with pytest.raises(Exception, match=r"column 'price' \(DECIMAL\(10, 2\)\) takes .*hold exactly"):
            await backend.save([Record("x", version(1), b'{"price":"0.12345678901234567"}')])
        found = await backend.load(["0", "1", "2"])
    finally:
        await backend.close()
    assert [each.value["price"] for each in found.values()] == [0.1, 1000, -0.5]


async def test_fields_that_are_left_out_are_the_defaults_again(redis_url: str, tmp_path: Path) -> None:
    execute(tmp_path / "a.db", SPARSE)
    place = url(tmp_path, "users", "name,visits,tags,email,note")
    values = {"1": Sparse("Ada"), "2": Sparse("Bob", 3, ["a"], "bob@x", ""), "3": Sparse("Eve", note="x")}
    async with Buffer(redis_url, backend=place, type=Sparse) as users:
        await users.set_many(values)
        await users.drain(timeout=30)
        assert await users.get_many(["1", "2", "3"]) == values
        await users.set("2", Sparse("Bob"))
        await users.flush("2", timeout=30)
        assert await users.get("2") == Sparse("Bob"), "what is left out now isn't what was there before"
    assert execute(tmp_path / "a.db", "SELECT visits, tags, email, note FROM users WHERE id = '2'") == [
        (0, "[]", None, None)
    ]


async def test_keys_that_are_not_required_stay_away(redis_url: str, tmp_path: Path) -> None:
    execute(tmp_path / "a.db", "CREATE TABLE users (id TEXT PRIMARY KEY, name TEXT, visits INTEGER)")
    async with Buffer(redis_url, backend=url(tmp_path, "users", "name,visits"), type=Partial) as users:
        await users.set_many({"1": {"name": "Ada"}, "2": {"name": "Bob", "visits": 0}})
        await users.drain(timeout=30)
        assert await users.get_many(["1", "2"]) == {"1": {"name": "Ada"}, "2": {"name": "Bob", "visits": 0}}


@pytest.mark.parametrize(
    ("column", "field", "reason"),
    [
        ("x TEXT", "str | None", "no DEFAULT: the NULL there would be read as None"),
        ("x TEXT DEFAULT 'other'", "str", "DEFAULT 'other' isn't what that means"),
        ("x TEXT DEFAULT CURRENT_TIMESTAMP", "str", "DEFAULT CURRENT_TIMESTAMP isn't what that means"),
    ],
)
async def test_default_that_would_be_read_as_something_else_is_refused(
    tmp_path: Path, column: str, field: str, reason: str
) -> None:
    types = {"str | None": str | None, "str": str}
    struct = msgspec.defstruct("Left", [("x", types[field], "given")], omit_defaults=True)
    execute(tmp_path / "a.db", f"CREATE TABLE users (id TEXT PRIMARY KEY, {column})")
    for type_, refused in ((struct, True), (Any, False)):
        backend = from_url(url(tmp_path, "users", "x"), codec=Codec("json", type_))
        try:
            if refused:
                with pytest.raises(ConfigurationError, match=reason):
                    await backend.open(namespace="one")
            else:
                await backend.open(namespace="one")
        finally:
            await backend.close()


async def test_null_of_a_column_that_was_added_is_the_fields_default(redis_url: str, tmp_path: Path) -> None:
    execute(
        tmp_path / "a.db",
        "CREATE TABLE users (id TEXT PRIMARY KEY, name TEXT)", "INSERT INTO users VALUES ('1', 'Ada')",
        "ALTER TABLE users ADD COLUMN note TEXT", "ALTER TABLE users ADD COLUMN needed TEXT",
    )  # fmt: skip

    class User(msgspec.Struct):
        name: str
        note: str = "none"

    class Needy(User, kw_only=True):
        needed: str

    for type_, columns in ((User, "name,note"), (Needy, "name,note,needed")):
        async with Buffer(redis_url, backend=url(tmp_path, "users", columns), type=type_) as users:
            if type_ is User:
                assert await users.get("1") == User("Ada", "none")
            else:
                with pytest.raises(DecodeError, match=r"key '1': .*needed"):
                    await users.get("1")


async def test_rows_that_swap_a_unique_value_become_dead_letters_and_take_a_third_value_first(
    redis_url: str, tmp_path: Path
) -> None:
    execute(tmp_path / "a.db", SPARSE)
    place = url(tmp_path, "users", "name,visits,tags,email,note")
    options: Any = {"max_attempts": 2, "retry_initial_seconds": 0.01, "retry_max_seconds": 0.02}
    async with Buffer(redis_url, backend=place, type=Sparse, **options) as users:
        await users.set_many({"1": Sparse("Ada", email="a@x"), "2": Sparse("Bob", email="b@x")})
        await users.drain(timeout=30)
        swapped = {"1": Sparse("Ada", email="b@x"), "2": Sparse("Bob", email="a@x")}
        await users.set_many(swapped)
        with pytest.raises(Exception, match=r"UNIQUE constraint failed: users\.email"):
            await users.drain(timeout=30)
        await users.set("1", Sparse("Ada"))
        await users.flush("1", timeout=30)
        await users.set_many(swapped)
        await users.drain(timeout=30)
    assert execute(tmp_path / "a.db", "SELECT id, email FROM users ORDER BY id") == [("1", "b@x"), ("2", "a@x")]
