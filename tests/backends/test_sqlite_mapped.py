"""SQLite tables that users have already: the contract, what the rows look like, and which records are refused."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from asyncwb import BackendUnavailable, Buffer, DeadLettered, Record, RecordRejected, SaveError
from asyncwb.backend import Backend
from asyncwb.testing.contract import BackendContract, tombstone, version
from asyncwb.testing.contract import put as record
from asyncwb.testing.contract.records import on
from asyncwb_backends.sqlite import MappedTable, SQLiteBackend
from tests.harness.sqlite import execute, refusals

WRITER = "SQLite has one writer at a time, and one that is frozen keeps the file's lock"
ROWS = "a row of the users' own table has the columns that it has"


@pytest.mark.long
class TestTextKeys(BackendContract):
    cannot = {"progress": WRITER, "any_value": ROWS}

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        execute(tmp_path / "a.db", "CREATE TABLE users (id TEXT PRIMARY KEY, n INTEGER NOT NULL, text TEXT)")
        return f"sqlite:///{tmp_path}/a.db?table=users&key=id&columns=n,text&add_version=1"

    async def let_time_pass(self, backend: Backend, url: str, seconds: float) -> None:
        assert isinstance(backend, SQLiteBackend)
        wall, monotonic = backend._clock._wall, backend._clock._monotonic
        backend._clock._wall = lambda: wall() + seconds
        backend._clock._monotonic = lambda: monotonic() + seconds
        backend._purge_timer.again()

    async def add_unversioned(self, backend: Backend, url: str, key: str) -> None:
        path = Path(url.removeprefix("sqlite://").partition("?")[0])
        execute(path, f"INSERT INTO users (id, n, text) VALUES ({key}, 1, 'theirs')")

    def poison(self) -> list[Record]:
        values: Sequence[object] = (
            {"text": ""}, {"n": 1, "text": "", "more": 1}, {"n": "1", "text": ""}, {"n": None, "text": ""},
            {"n": 1.5, "text": ""}, {"n": [1], "text": ""}, {"n": 2**63, "text": ""}, {"n": 1, "text": 1}, [1], "text",
        )  # fmt: skip
        broken = [Record("poison", version(1), b'{"n"'), Record("poison", version(1), b"1", codec="bytes")]
        return [*broken, *(Record("poison", version(1), msgspec.json.encode(value)) for value in values)]


class TestIntegerKeys(TestTextKeys):
    cannot = {"progress": WRITER, "any_value": ROWS, "any_key": "the key column is INTEGER"}
    kill_points = 2

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        execute(
            tmp_path / "a.db",
            "CREATE TABLE users (text TEXT, n INTEGER NOT NULL, v INTEGER DEFAULT 0, id INTEGER PRIMARY KEY)",
        )
        return f"sqlite:///{tmp_path}/a.db?table=users&key=id&columns=n,text&version=v"

    def poison(self) -> list[Record]:
        return [self.put(key, 1) for key in ("x", "01", "+1", " 1", "1 ", "1_0", "1.0", "٣", str(2**63), "")]


Opening = Callable[..., AbstractAsyncContextManager[SQLiteBackend]]


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """A database with a table of users, as an application has it."""
    path = tmp_path / "app.db"
    execute(
        path,
        "CREATE TABLE users (id TEXT PRIMARY KEY, name TEXT NOT NULL, visits INTEGER, email TEXT UNIQUE, "
        "note TEXT DEFAULT 'none')",
        "INSERT INTO users (id, name, visits, email) VALUES ('7', 'Eve', 3, 'eve@x')",
    )
    return path


@pytest.fixture
def opened(users: Path) -> Opening:
    """`async with opened() as backend`, with other options than the usual where given."""

    @asynccontextmanager
    async def opening(**options: Any) -> Any:
        usual: dict[str, Any] = {"key": "id", "columns": ["name", "visits", "email"], "add_version": True}
        seconds = options.pop("tombstone_seconds", 3600)
        backend = SQLiteBackend(users, table=MappedTable("users", **(usual | options)), tombstone_seconds=seconds)
        try:
            await backend.open(namespace="one")
            yield backend
        finally:
            await backend.close()

    return opening


def user(key: str, seq: int, **fields: Any) -> Record:
    return record(key, seq, msgspec.json.encode({"name": f"user {key}", "visits": seq, "email": None} | fields))


async def test_fields_are_columns(opened: Opening, users: Path) -> None:
    async with opened() as backend:
        assert await backend.save([user("42", 1, name="Ada", email="ada@x"), user("43", 2)]) == 0
    rows = execute(users, "SELECT id, name, visits, email, note FROM users ORDER BY id")
    assert rows == [
        ("42", "Ada", 1, "ada@x", "none"),
        ("43", "user 43", 2, None, "none"),
        ("7", "Eve", 3, "eve@x", "none"),
    ]


class User(msgspec.Struct):
    name: str
    visits: int | None
    email: str | None = None


async def test_structs_go_through_a_buffer(users: Path, valkey_url: str) -> None:
    table = MappedTable("users", key="id", columns=["name", "visits", "email"], add_version=True)
    buffer = Buffer(
        valkey_url, backend=SQLiteBackend(users, table=table), namespace="users", type=User, backoff_max_seconds=0.05
    )
    async with buffer:
        assert await buffer.get("7") == User("Eve", 3, "eve@x"), "a row from before"
        # Whichever of these is saved first: the address is free in the end.
        await buffer.set_many({"42": User("Ada", 1), "43": User("Bob", 2, "eve@x")})
        await buffer.delete("7")
        await buffer.drain()
        assert await buffer.get_many(["7", "42", "43"]) == {"42": User("Ada", 1), "43": User("Bob", 2, "eve@x")}
        await buffer.set("44", User("Zoë", 2**63))
        with pytest.raises(DeadLettered, match=r"column 'visits' .INTEGER. takes whole numbers of 64 bits"):
            await buffer.flush("44", timeout=5)
        assert await buffer.get("44") == User("Zoë", 2**63), "still readable"
    assert execute(users, "SELECT id, name FROM users ORDER BY id") == [("42", "Ada"), ("43", "Bob")]


async def test_rows_from_before_are_read_and_replaced_with_their_other_columns_kept(
    opened: Opening, users: Path
) -> None:
    execute(users, "UPDATE users SET note = 'kept'")
    async with opened() as backend:
        (found,) = (await backend.load(["7"])).values()
        assert (found.version, found.value) == (0, {"name": "Eve", "visits": 3, "email": "eve@x"})
        assert await backend.save([user("7", 1)]) == 0
    assert execute(users, "SELECT name, note FROM users") == [("user 7", "kept")]


async def test_deleted_key_deletes_its_row_and_leaves_a_tombstone_aside(opened: Opening, users: Path) -> None:
    async with opened() as backend:
        assert await backend.save([tombstone("7", 5), tombstone("never", 6)]) == 0
        assert execute(users, "SELECT * FROM users") == []
        assert await backend.save([user("7", 4)]) == 1
        assert await backend.load(["7", "never"]) == {"7": tombstone("7", 5), "never": tombstone("never", 6)}
        assert await backend.save([user("7", 6)]) == 0
    assert execute(users, "SELECT key FROM users_asyncwb_tombstones") == [("never",)]


async def test_tombstones_are_purged_after_their_time(opened: Opening, users: Path) -> None:
    async with opened(tombstone_seconds=0.0) as backend:
        await backend.save([tombstone("7", 1)])
        await asyncio.sleep(1.1)  # tombstones are dated in whole seconds
        backend._purge_timer.again()
        await backend.save([user("1", 2)])
    assert execute(users, "SELECT * FROM users_asyncwb_tombstones") == []


async def test_row_that_somebody_inserts_after_a_deletion_is_seen(opened: Opening, users: Path) -> None:
    async with opened() as backend:
        await backend.save([tombstone("7", 5)])
        execute(users, "INSERT INTO users (id, name) VALUES ('7', 'again')")
        (found,) = (await backend.load(["7"])).values()
        assert (found.version, found.value["name"]) == (version(5), "again")
        assert await backend.save([tombstone("7", 4), user("8", 1)]) == 1, "an old deletion doesn't take it away"
        assert execute(users, "SELECT name FROM users WHERE id = '7'") == [("again",)]
        assert await backend.save([user("7", 6)]) == 0


async def test_each_bad_record_is_reported_with_what_is_wrong(opened: Opening) -> None:
    async with opened() as backend:
        bad = [
            user("null", 1, name=None),
            user("type", 1, visits="3"),
            user("extra", 1, age=3),
            record("missing", 1, b'{"visits":1}'),
            user("unique", 1, email="eve@x"),
            record("array", 1, b"[]"),
        ]
        failed = await refusals(backend, [user("good", 1), *bad, tombstone("7", 2), user("better", 1)])
        assert set(await backend.load(["good", "better", *failed])) == {"good", "better"}
    assert "NOT NULL constraint failed: users.name" in failed["null"]
    assert "column 'visits' (INTEGER) takes whole numbers of 64 bits, not a str" in failed["type"]
    assert "no mapped column for 'age'" in failed["extra"]
    assert "NOT NULL constraint failed: users.name" in failed["missing"]
    assert "object" in failed["array"]
    assert "unique" not in failed, "the row that had its e-mail address was deleted by the same batch"


async def test_value_of_a_unique_column_that_is_taken_may_be_free_later(opened: Opening) -> None:
    async with opened() as backend:
        with pytest.raises(SaveError) as caught:
            await backend.save([user("1", 1, email="eve@x"), user("2", 1)])
        (reason,) = caught.value.failed.values()
        assert "UNIQUE constraint failed: users.email" in str(reason)
        assert not isinstance(reason, RecordRejected), "it is tried again"
        assert await backend.save([tombstone("7", 2)]) == 0
        assert await backend.save([user("1", 1, email="eve@x")]) == 0


async def test_key_may_be_a_field_of_the_value(opened: Opening) -> None:
    async with opened(columns=["visits", "id", "name"]) as backend:
        good, bad = (record("1", 1, b'{"visits":1,"id":"%s","name":"x"}' % key) for key in (b"1", b"2"))
        assert await backend.save([good]) == 0
        assert await backend.load(["1"]) == {"1": good}
        assert await refusals(backend, [bad]) == {"1": "its field 'id' isn't its key"}


async def test_trigger_that_rolls_back_harms_no_other_record(opened: Opening, users: Path) -> None:
    execute(
        users,
        "CREATE TRIGGER strict BEFORE INSERT ON users WHEN NEW.name = 'bad' BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
    )
    async with opened() as backend:
        records = [user("1", 1), user("2", 1, name="bad"), user("3", 1), user("4", 1, name="bad"), user("5", 1)]
        assert set(await refusals(backend, records)) == {"2", "4"}
        assert set(await backend.load([each.key for each in records])) == {"1", "3", "5"}


async def test_trigger_that_rolls_back_leaves_records_with_a_base_conditional_and_no_lock(
    opened: Opening, users: Path
) -> None:
    execute(
        users,
        "CREATE TRIGGER strict BEFORE INSERT ON users WHEN NEW.name = 'bad' BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
        "CREATE TRIGGER odd BEFORE INSERT ON users WHEN NEW.name = 'odd' BEGIN SELECT RAISE(ABORT, 'odd'); END",
    )
    async with opened() as backend:
        await backend.save([user("1", 1), user("3", 1)])
        records = [on(1, user("1", 2)), user("2", 2, name="bad"), on(0, user("3", 2)), on(0, user("4", 2, name="odd"))]
        with pytest.raises(SaveError) as caught:
            await backend.save(records)
        assert (set(caught.value.failed), caught.value.stale) == ({"2", "4"}, 1)
        assert {key: each.version for key, each in (await backend.load(["1", "3", "4"])).items()} == {
            "1": version(2),
            "3": version(1),
        }
        with closing(sqlite3.connect(users, timeout=0)) as other, other:
            other.execute("UPDATE users SET visits = 9")  # the file isn't locked


async def test_row_that_others_insert_after_a_delete_counts_with_the_version_of_the_tombstone(
    opened: Opening, users: Path
) -> None:
    insert = "INSERT INTO users (id, name) VALUES ('8', 'theirs')"
    async with opened() as backend:
        await backend.save([tombstone("8", 2)])
        execute(users, insert)
        assert (await backend.load(["8"]))["8"].version == version(2)
        assert await backend.save([on(0, user("8", 3))]) == 1
        assert await backend.save([on(2, tombstone("8", 3))]) == 0
        assert (await backend.load(["8"]))["8"].deleted
        execute(users, insert)
        assert await backend.save([on(2, tombstone("8", 3))]) == 1
        assert not (await backend.load(["8"]))["8"].deleted, "the save that was repeated deleted what came since"
        assert await backend.save([on(3, user("8", 4))]) == 0
        assert (await backend.load(["8"]))["8"] == user("8", 4)


async def test_row_that_a_trigger_keeps_from_being_deleted_has_no_tombstone(opened: Opening, users: Path) -> None:
    execute(users, "CREATE TRIGGER keep BEFORE DELETE ON users BEGIN SELECT RAISE(ABORT, 'kept'); END")
    async with opened() as backend:
        assert "kept" in (await refusals(backend, [tombstone("7", 1), user("8", 1)]))["7"]
        assert {key: each.deleted for key, each in (await backend.load(["7", "8"])).items()} == {"7": False, "8": False}


async def test_version_column_is_added_once_by_processes_that_open_together(opened: Opening) -> None:
    async with opened(), opened(), opened() as backend:
        assert await backend.save([user("7", 1)]) == 0


async def test_table_that_is_changed_meanwhile_is_an_outage(opened: Opening, users: Path) -> None:
    async with opened() as backend:
        execute(users, "ALTER TABLE users RENAME COLUMN visits TO calls")
        with pytest.raises(BackendUnavailable, match="visits"):
            await backend.save([user("1", 1)])
        with pytest.raises(BackendUnavailable, match="visits"):
            await backend.load(["7"])


async def test_large_batches_and_pages(opened: Opening) -> None:
    async with opened() as backend:
        records = [user(str(number), number + 1) for number in range(100, 3100)]
        records += [tombstone(f"d{number}", number + 1) for number in range(3000)]
        started = time.monotonic()
        assert await backend.save(records) == 0
        assert await backend.load([each.key for each in records]) == {each.key: each for each in records}
        assert await backend.save(records) == len(records)
        assert time.monotonic() - started < 30
