"""Tombstones in a collection of the users' own: beside their unique indexes and validation rules."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from pymongo import ASCENDING, DESCENDING, MongoClient
from pymongo.collation import Collation
from pymongo.errors import DuplicateKeyError

from asyncwb import BackendError, Buffer, Codec, ConfigurationError, Record, SaveError
from asyncwb.testing.contract import put, tombstone
from asyncwb_backends.mongodb import MongoDBBackend
from asyncwb_backends.mongodb.tombstones import own_values
from asyncwb_backends.mongodb.url import from_url
from tests.harness.databases import Mongod

CODEC: Codec[Any] = Codec("json")
STRICT = {"$jsonSchema": {"required": ["mail"], "properties": {"mail": {"bsonType": "string"}}}}


@pytest.fixture
def users(mongodb_url: str) -> Iterator[Any]:
    """The collection, as a user sees it."""
    client: MongoClient[Any]
    with MongoClient(mongodb_url.partition("?")[0], directConnection=True) as client:
        yield client.get_default_database()["users"]


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[MongoDBBackend]:
    backend = from_url(url, codec=CODEC)
    await backend.open(namespace="asyncwb")
    try:
        yield backend
    finally:
        await backend.close()


def person(key: str, seq: int, mail: str) -> Record:
    return put(key, seq, b'{"mail":"%s","address":{"city":"x"},"tags":["a","b"]}' % mail.encode())


INDEXES: dict[str, dict[str, Any]] = {
    "one field": {"keys": "mail"},
    "descending": {"keys": [("mail", DESCENDING)]},
    "nested": {"keys": "address.mail"},
    "compound": {"keys": [("tenant", ASCENDING), ("mail", ASCENDING)]},
    "sparse": {"keys": "mail", "sparse": True},
    "collation": {"keys": "mail", "collation": Collation(locale="en", strength=2)},
    "partial that knows no tombstone": {"keys": "mail", "partialFilterExpression": {"mail": {"$exists": True}}},
    "partial that knows tombstones": {"keys": "mail", "partialFilterExpression": {"closed": None}},
    "array index": {"keys": "contacts.0.mail"},
    "hash beside it": {"keys": [("mail", ASCENDING)]},
}


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES)
async def test_unique_index_of_the_users_stops_no_delete(mongodb_url: str, users: Any, index: dict[str, Any]) -> None:
    options = dict(index)
    users.create_index(options.pop("keys"), unique=True, **options)
    users.create_index([("mail", "hashed")])
    users.create_index("tags")
    async with opened(mongodb_url) as backend:
        keys = [str(number) for number in range(5)]
        for key in keys:  # one after the other, since in some of these only one can be there
            await backend.save([person(key, 1, f"mail{key}")])
            assert await backend.save([tombstone(key, 2)]) == 0
        assert await backend.save([person(key, 1, f"mail{key}") for key in keys]) == 5, "they stop late saves"
        assert all(record.deleted for record in (await backend.load(keys)).values())
        for query in (
            {"mail": "mail1"},
            {"mail": None, "_asyncwb": None},
            {"mail": {"$gte": ""}},
            {"mail": {"$gt": 0}},
        ):
            assert users.count_documents(query) == 0
        assert await backend.save([person("1", 3, "mail0")]) == 0, "what a deleted one had is free"
        assert set(users.find_one({"_id": "1"})) == {"_id", "mail", "address", "tags", "_asyncwb"}


async def test_indexes_that_depend_on_each_other_are_all_seen_to(mongodb_url: str, users: Any) -> None:
    users.create_index("a", unique=True)
    users.create_index("a.b", unique=True)
    users.create_index("name", unique=True, partialFilterExpression={"a": {"$exists": True}})
    users.create_index([("other", 1), ("a.b", 1)], unique=True)
    async with opened(mongodb_url) as backend:
        assert await backend.save([tombstone(str(number), 1) for number in range(10)]) == 0


async def test_index_that_is_made_while_the_backend_is_open_is_seen_to(mongodb_url: str, users: Any) -> None:
    async with opened(mongodb_url) as backend:
        await backend.save([person(key, 1, key) for key in "abc"])
        users.create_index("mail", unique=True)
        assert await backend.save([tombstone(key, 2) for key in "abc"]) == 0
        users.drop_index("mail_1")
        backend._tombstones._next_look = 0.0
        await backend.save([tombstone("a", 3)])
        assert set(users.find_one({"_id": "a"})) == {"_id", "_asyncwb"}


async def test_values_that_collide_are_an_ordinary_failure_and_a_delete_lets_go_of_its_own(
    mongodb_url: str, users: Any
) -> None:
    users.create_index("mail", unique=True)
    users.database.command("collMod", "users", validator=STRICT)
    async with opened(mongodb_url) as backend:
        with pytest.raises(SaveError, match="mail_1") as caught:
            await backend.save([person("1", 1, "a"), person("2", 1, "a")])
        assert set(caught.value.failed) == {"2"}
        assert await backend.save([person("2", 2, "a"), tombstone("1", 2)]) == 0
        with pytest.raises(DuplicateKeyError):
            users.insert_one({"_id": "3", "mail": "a"})


async def test_rule_that_refuses_tombstones_is_bypassed_by_them_alone(mongodb_url: str, users: Any) -> None:
    users.database.create_collection("users", validator=STRICT)
    async with opened(mongodb_url) as backend:
        await backend.save([person(key, 1, key) for key in "ab"])
        assert await backend.save([tombstone("a", 2), person("b", 2, "c"), tombstone("c", 1)]) == 0
        with pytest.raises(SaveError, match="validation"):
            await backend.save([put("d", 1, b'{"name":"without mail"}'), tombstone("b", 3)])
        assert set(await backend.load(list("abcd"))) == {"a", "b", "c"}
        assert users.count_documents({"mail": {"$type": "string"}}) == 0


async def test_rule_that_is_made_while_the_backend_is_open_is_bypassed(mongodb_url: str, users: Any) -> None:
    async with opened(mongodb_url) as backend:
        await backend.save([person("a", 1, "a")])
        users.database.command("collMod", "users", validator=STRICT)
        assert await backend.save([tombstone("a", 2)]) == 0


async def test_index_that_removes_tombstones_is_made_again_after_the_collection_was_dropped(
    mongodb_url: str, users: Any
) -> None:
    async with opened(mongodb_url) as backend:
        await backend.save([tombstone("a", 1)])
        users.drop()
        backend._tombstones._next_look = 0.0
        await backend.save([tombstone("a", 1)])
        assert "asyncwb_tombstones" in users.index_information()


async def test_buffer_deletes_what_a_unique_index_and_a_rule_stand_by(
    mongodb_url: str, users: Any, valkey_url: str, namespace: str
) -> None:
    users.database.create_collection("users", validator=STRICT)
    users.create_index("mail", unique=True)
    async with Buffer(valkey_url, backend=mongodb_url, namespace=namespace, max_attempts=3) as buffer:
        await buffer.set_many({"1": {"mail": "a"}, "2": {"mail": "b"}})
        await buffer.drain(timeout=20)
        await buffer.delete_many(["1", "2"])
        await buffer.drain(timeout=20)
        assert buffer.totals.dead == 0
        assert await buffer.get_many(["1", "2"]) == {}
    assert users.count_documents({"mail": {"$in": ["a", "b", None]}}) == 0


class WithUsers(Mongod):
    """A server that requires users to authenticate."""

    def __init__(self) -> None:
        self._known = False
        super().__init__(authorization=True)
        with self.client() as client:  # the first user may be made by anybody on this machine
            client.admin.command("createUser", "root", pwd="secret", roles=["root"])
        self._known = True

    def client(self) -> "MongoClient[Any]":
        root: dict[str, Any] = {"username": "root", "password": "secret"} if self._known else {}
        return MongoClient(self.hosts, directConnection=True, **root)

    def url_of(self, user: str, database: str) -> str:
        return f"mongodb://{user}:secret@127.0.0.1:{self.port}/{database}?collection=users&authSource=admin"


@pytest.fixture(scope="module")
def with_users(mongods: Callable[[bool], Mongod]) -> Iterator[WithUsers]:
    mongods(False)  # skips, or fails, where there is none
    server = WithUsers()
    yield server
    server.stop()


@pytest.mark.parametrize(("role", "permitted"), [("readWrite", False), ("dbAdmin", True)])
async def test_user_who_may_not_bypass_a_rule_is_told_at_open_what_to_do(
    with_users: WithUsers, role: str, permitted: bool
) -> None:
    database = f"app_{role}"
    with with_users.client() as client:
        roles = [{"role": each, "db": database} for each in {"readWrite", role}]
        client.admin.command("createUser", role, pwd="secret", roles=roles)
        users = client[database].create_collection("users", validator={"visits": {"$not": {"$lt": 0}}})
        async with opened(with_users.url_of(role, database)) as backend:
            await backend.save([person("a", 1, "a"), tombstone("b", 1)])
            client[database].command("collMod", "users", validator=STRICT)
            if permitted:
                assert await backend.save([tombstone("a", 2)]) == 0
            else:
                with pytest.raises(SaveError, match="grant the action bypassDocumentValidation") as caught:
                    await backend.save([tombstone("a", 2), person("c", 1, "c")])
                assert type(caught.value.failed["a"]) is BackendError, "it may be permitted later"
                assert users.find_one({"_id": "c"})
        if not permitted:
            with pytest.raises(ConfigurationError, match="dbAdmin") as refused:
                await from_url(with_users.url_of(role, database), codec=CODEC).open(namespace="asyncwb")
            assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("index", "paths"),
    [
        ({"key": [("mail", 1)]}, []),
        ({"key": [("mail", 1)], "unique": True}, ["mail"]),
        ({"key": [("mail", 1.0)], "unique": True}, ["mail"]),
        ({"key": [("_id", 1), ("mail", 1)], "unique": True}, []),
        ({"key": [("mail", 1)], "unique": True, "sparse": True}, []),
        ({"key": [("place", "2dsphere"), ("mail", 1)], "unique": True}, ["mail"]),
        ({"key": [("m", 1)], "unique": True, "partialFilterExpression": {"m": {"$type": "string"}}}, []),
        ({"key": [("m", 1)], "unique": True, "partialFilterExpression": {"n": {"$gt": 5}}}, []),
        ({"key": [("m", 1)], "unique": True, "partialFilterExpression": {"n": 5, "o": None}}, []),
        ({"key": [("m", 1)], "unique": True, "partialFilterExpression": {"n": {"$lte": None}}}, ["m"]),
        ({"key": [("m", 1)], "unique": True, "partialFilterExpression": {"$or": [{"n": 1}]}}, ["m"]),
        ({"key": [("m", 1)], "unique": True, "partialFilterExpression": {"$and": [{"n": 1}]}}, []),
        ({"key": [("m", 1)], "unique": True, "partialFilterExpression": {"_id": {"$gt": ""}}}, ["m"]),
    ],
)
def test_own_values_are_for_indexes_that_know_tombstones(index: dict[str, Any], paths: list[str]) -> None:
    assert own_values([{"key": [("_id", 1)]}, index]) == paths
