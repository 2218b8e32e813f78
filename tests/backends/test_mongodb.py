"""The MongoDB backend: the contract with both drivers, standalone and as a replica set, and the documents users see."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo import AsyncMongoClient, MongoClient, WriteConcern

from asyncwb import Backend, BackendUnavailable, Codec, ConfigurationError, Record, RecordRejected, SaveError
from asyncwb.plugins.registry import backend_from_url
from asyncwb.testing.contract import BackendContract, Outage, put, tombstone, version
from asyncwb.testing.contract.outages import OutageContract
from asyncwb_backends.mongodb import MongoDBBackend
from asyncwb_backends.mongodb import backend as mongodb_backend
from asyncwb_backends.mongodb.documents import OWN
from asyncwb_backends.mongodb.url import from_url
from tests.harness.databases import Mongod

CODEC: Codec[Any] = Codec("json")
V1 = version(1)


class Motor(BackendContract):
    """The contract with Motor, which is what a URL opens."""

    @pytest.fixture
    def url(self, mongodb_url: str) -> str:
        return f"{mongodb_url}&serverSelectionTimeoutMS=1000"

    purge_seconds = 20.0  # the server looks now and then

    async def let_time_pass(self, backend: Backend, url: str, seconds: float) -> None:
        assert isinstance(backend, MongoDBBackend)
        date = f"{OWN}.deleted_at"
        earlier = {"$subtract": [f"${date}", int(seconds * 1000)]}
        await backend._records.update_many({date: {"$exists": True}}, [{"$set": {date: earlier}}])

    async def add_unversioned(self, backend: Backend, url: str, key: str) -> None:
        assert isinstance(backend, MongoDBBackend)
        await backend._records.insert_one({"_id": key, "n": 1})

    def poison(self) -> list[Record]:
        return [
            Record("poison", V1, b"\xff is not UTF-8"),
            Record("poison", V1, b'{"unfinished":'),
            Record("\ud800", V1, b"1"),
            Record("huge", V1, b'"' + b"x" * (16 * 2**20) + b'"'),
        ]


class OfPyMongo(MongoDBBackend):
    """A collection of PyMongo's own asyncio client, passed in; somebody has to close that client."""

    def __init__(self, url: str) -> None:
        self._url = url.replace("collection=users&", "").replace("?collection=users", "")
        super().__init__(None)

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        self._theirs: AsyncMongoClient[Any] = AsyncMongoClient(self._url)
        super().__init__(self._theirs.get_default_database()["users"])
        await super().open(namespace=namespace, former=former)

    async def close(self) -> None:
        await super().close()
        if hasattr(self, "_theirs"):
            await self._theirs.close()


class PyMongo(Motor):
    def make_backend(self, url: str) -> MongoDBBackend:
        return OfPyMongo(url)


class TestMotorStandalone(Motor):
    pass


@pytest.mark.long
class TestOutages(OutageContract):
    @pytest.fixture
    def url(self, mongodb_url: str) -> str:
        return f"{mongodb_url}&serverSelectionTimeoutMS=1000"

    @pytest.fixture
    def outage(self, mongods: Callable[[bool], Mongod], monkeypatch: pytest.MonkeyPatch) -> Outage:
        monkeypatch.setattr(mongodb_backend, "_CLOSE_SECONDS", 1.0)  # to be quick
        server = mongods(False)
        return Outage(stop=server.kill, start=server.start, freeze=server.freeze, thaw=server.thaw)


@pytest.mark.long
class TestMotorReplicaSet(Motor):
    replica_set = True


@pytest.mark.long
class TestPyMongoStandalone(PyMongo):
    pass


@pytest.mark.long
class TestPyMongoReplicaSet(PyMongo):
    replica_set = True


@pytest.fixture
async def backend(mongodb_url: str) -> AsyncIterator[MongoDBBackend]:
    backend = from_url(mongodb_url, codec=CODEC)
    await backend.open(namespace="one")
    yield backend
    await backend.close()


@pytest.fixture
def users(mongodb_url: str) -> Any:
    """The collection, as a user sees it."""
    hosts, _, _ = mongodb_url.partition("?")
    client: MongoClient[Any]
    with MongoClient(hosts, directConnection=True) as client:
        yield client.get_default_database()["users"]


async def test_objects_are_documents_that_can_be_queried_and_indexed(backend: MongoDBBackend, users: Any) -> None:
    await backend.save(
        [put("42", 1, b'{"name":"Ada","visits":30,"tags":["a","b"]}'), put("43", 2, b'{"name":"Bob","visits":3}')]
    )
    users.create_index("visits")
    assert list(users.find({"visits": {"$gt": 10}})) == [
        {"_id": "42", "name": "Ada", "visits": 30, "tags": ["a", "b"], "_asyncwb": {"v": V1, "c": "json"}}
    ]
    assert [each["_id"] for each in users.find({"tags": "b"})] == ["42"]
    await backend.save([put("42", 3, b'{"name":"Ada"}')])
    assert users.find_one({"_id": "42"}) == {"_id": "42", "name": "Ada", "_asyncwb": {"v": version(3), "c": "json"}}
    await backend.save([tombstone("42", 4)])
    assert list(users.find({"name": {"$exists": True}}, {"name": 1})) == [{"_id": "43", "name": "Bob"}]


@pytest.mark.parametrize(
    ("record", "fields"),
    [
        (Record("k", V1, b"[1,2]"), {"value": [1, 2]}),
        (Record("k", V1, b'"text"'), {"value": "text"}),
        (Record("k", V1, b'{"_id":5,"a":1}'), {"value": {"_id": 5, "a": 1}}),
        (Record("k", V1, b'{"_asyncwb":5}'), {"value": {"_asyncwb": 5}}),
        (Record("k", V1, b'{"$set":{"a.b":"$x"},"c.d":{"$inc":1}}'), {"$set": {"a.b": "$x"}, "c.d": {"$inc": 1}}),
        (Record("k", V1, b'{"n":18446744073709551615}'), {"value": '{"n":18446744073709551615}'}),
        (Record("k", V1, b'{"a":{"$ref":"x","$id":1}}'), {"value": '{"a":{"$ref":"x","$id":1}}'}),
        (Record("k", V1, b"\x00\xff", codec="bytes"), {"value": b"\x00\xff"}),
    ],
    ids=["array", "string", "own _id", "own _asyncwb", "operators", "huge number", "reference", "bytes"],
)
async def test_everything_else_has_its_place(
    backend: MongoDBBackend, users: Any, record: Record, fields: dict[str, Any]
) -> None:
    await backend.save([record])
    found = users.find_one({"_id": "k"})
    assert {name: value for name, value in found.items() if name not in ("_id", "_asyncwb")} == fields


async def test_document_from_before_is_read_and_replaced(backend: MongoDBBackend, users: Any) -> None:
    users.insert_one({"_id": "42", "name": "Ada", "visits": 2**40, "since": datetime(2020, 1, 1, tzinfo=UTC)})
    found = (await backend.load(["42"]))["42"]
    assert found.version == 0
    assert found.value == {"name": "Ada", "visits": 2**40, "since": "2020-01-01T00:00:00Z"}
    assert await backend.save([put("42", 1, b'{"name":"Bob"}')]) == 0
    assert users.find_one({"_id": "42"})["name"] == "Bob"


async def test_users_own_rules_are_kept_and_reported_for_their_key(backend: MongoDBBackend, users: Any) -> None:
    users.create_index("email", unique=True, sparse=True)
    users.database.command("collMod", "users", validator={"visits": {"$not": {"$lt": 0}}})
    records = [
        put("1", 1, b'{"email":"a@example.org"}'),
        put("2", 1, b'{"email":"a@example.org"}'),
        put("3", 1, b'{"visits":-1}'),
        put("4", 1, b'{"visits":1}'),
    ]
    with pytest.raises(SaveError, match=r"email_1|validation") as caught:
        await backend.save(records)
    assert set(caught.value.failed) == {"2", "3"}
    rejected = {key: isinstance(reason, RecordRejected) for key, reason in caught.value.failed.items()}
    assert rejected == {"2": False, "3": True}, "the address may be free later"
    assert set(await backend.load(["1", "2", "3", "4"])) == {"1", "4"}
    assert await backend.save([tombstone("1", 2), put("2", 1, b'{"email":"a@example.org"}')]) == 0


async def test_value_that_grows_over_the_limit_is_kept_as_text(backend: MongoDBBackend) -> None:
    """An array of small numbers takes several times its JSON in BSON."""
    payload = b'{"a":[' + b",".join([b"1"] * 2_500_000) + b"]}"
    assert await backend.save([put("a", 1, payload), put("b", 1)]) == 0
    assert (await backend.load(["a"]))["a"].payload == payload


async def test_many_inserting_the_same_keys_at_once_lose_no_race(backend: MongoDBBackend) -> None:
    for round_ in range(10):
        keys = [f"{round_}-{number}" for number in range(50)]
        stale = await asyncio.gather(*(backend.save([put(key, seq) for key in keys]) for seq in range(1, 9)))
        assert stale[7] == 0
        assert {record.version for record in (await backend.load(keys)).values()} == {version(8)}


async def test_tombstones_are_removed_by_the_server(mongodb_url: str, users: Any) -> None:
    backend = from_url(f"{mongodb_url}&tombstone_seconds=1", codec=CODEC)
    await backend.open(namespace="one")
    try:
        await backend.save([put("live", 1), tombstone("dead", 1)])
        assert users.count_documents({}) == 2
        async with asyncio.timeout(30):
            while users.count_documents({}) == 2:
                await asyncio.sleep(0.1)
        assert set(await backend.load(["live", "dead"])) == {"live"}
    finally:
        await backend.close()


async def test_time_of_tombstones_can_be_changed(mongodb_url: str, users: Any) -> None:
    for seconds in (86_400, 600):
        backend = from_url(f"{mongodb_url}&tombstone_seconds={seconds}", codec=CODEC)
        await backend.open(namespace="one")
        await backend.close()
        assert users.index_information()["asyncwb_tombstones"]["expireAfterSeconds"] == seconds


async def test_writes_are_majority_and_journaled_and_reads_from_the_primary(backend: MongoDBBackend) -> None:
    for collection in (backend._records, backend._epochs):
        assert collection.write_concern.document == {"w": "majority", "j": True}
        assert collection.read_preference.mongos_mode == "primary"


async def test_weaker_concern_is_taken_only_if_it_is_acknowledged(mongodb_url: str) -> None:
    backend = from_url(f"{mongodb_url}&w=1", codec=CODEC)
    await backend.open(namespace="one")
    try:
        assert backend._records.write_concern.document == {"w": 1}
    finally:
        await backend.close()
    async with AsyncMongoClient[Any](mongodb_url.partition("?")[0]) as client:
        collection = client.get_default_database()["users"].with_options(write_concern=WriteConcern(w=0))
        with pytest.raises(ConfigurationError, match="unacknowledged"):
            MongoDBBackend(collection)


async def test_client_that_was_passed_in_stays_open(mongodb_url: str) -> None:
    async with AsyncMongoClient[Any](mongodb_url.partition("?")[0]) as client:
        backend = MongoDBBackend(client.get_default_database()["users"])
        for seq in range(1, 4):
            await backend.open(namespace="one")
            await backend.save([put("42", seq)])
            await backend.close()
        assert (await client.get_default_database()["users"].find_one({"_id": "42"}))["n"] == 1  # type: ignore[index]


@pytest.fixture(scope="module")
def own_server() -> Iterator[Mongod]:
    """A server that these tests may kill and freeze."""
    server = Mongod()
    yield server
    server.stop()


async def test_server_that_is_killed_and_comes_back_has_what_was_saved(own_server: Mongod) -> None:
    server = own_server
    backend = from_url(server.url("killed", serverSelectionTimeoutMS="600"), codec=CODEC)
    try:
        await backend.open(namespace="one")
        await backend.save([put("42", 1)])
        server.kill()
        with pytest.raises(BackendUnavailable, match="MongoDB"):
            await backend.save([put("42", 2)])
        with pytest.raises(BackendUnavailable, match="MongoDB"):
            await backend.new_epoch(0)
        server.start()
        assert (await backend.load(["42"]))["42"].version == V1
        assert await backend.save([put("42", 2)]) in (0, 1)
    finally:
        await backend.close()


async def test_what_is_shown_as_durable_outlives_the_kill_of_a_server_on_its_own(own_server: Mongod) -> None:
    """Even majority reads show what isn't in the journal yet, for instance writes of a save that is still under way."""
    backend = from_url(own_server.url("durable"), codec=CODEC)
    try:
        await backend.open(namespace="one")
        await backend.save([put("42", 1)])
        with own_server.client() as client:
            users = client["durable"].get_collection("users", write_concern=WriteConcern(1, j=False))
            users.update_one({"_id": "42"}, {"$set": {f"{OWN}.v": V1 + 1}})
            # (`load` says the same, and the kill takes it back then.)
            assert (await backend.load_durable(["42"]))["42"].version == V1 + 1
        await asyncio.to_thread(own_server.kill)
        await asyncio.to_thread(own_server.start)
        with own_server.client() as client:
            found = client["durable"]["users"].find_one({"_id": "42"})
        assert found is not None
        assert found[OWN]["v"] == V1 + 1
    finally:
        await backend.close()


async def test_server_that_was_started_again_during_a_durable_load_is_noticed(own_server: Mongod) -> None:
    server = own_server
    backend = from_url(server.url("restarted"), codec=CODEC)
    try:
        await backend.open(namespace="one")
        await backend.save([put("42", 1)])
        load = backend.load

        async def load_and_kill(keys: Sequence[str]) -> dict[str, Record]:
            found = await load(keys)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            return found

        backend.load = load_and_kill  # type: ignore[method-assign]
        with pytest.raises(BackendUnavailable, match="MongoDB"):
            await backend.load_durable(["42"])
        with pytest.raises(BackendUnavailable, match="started again"):
            await backend.load_durable(["42"])
    finally:
        await backend.close()


async def test_close_is_quick_although_the_server_hangs(own_server: Mongod, monkeypatch: pytest.MonkeyPatch) -> None:
    server = own_server
    monkeypatch.setattr("asyncwb_backends.mongodb.backend._CLOSE_SECONDS", 0.5)
    backend = from_url(server.url("frozen"), codec=CODEC)
    try:
        await backend.open(namespace="one")
        await backend.save([put("42", 1)])
        server.freeze()
        async with asyncio.timeout(3):
            await backend.close()
    finally:
        server.thaw()


async def test_unreachable_server_is_reported(mongodb_url: str) -> None:
    backend = from_url("mongodb://ada:hunter2@127.0.0.1:1/app?serverSelectionTimeoutMS=200", codec=CODEC)
    with pytest.raises(BackendUnavailable) as caught:
        await backend.open(namespace="one")
    assert "hunter2" not in str(caught.value)


async def test_use_before_open_is_an_error(mongodb_url: str) -> None:
    with pytest.raises(BackendUnavailable, match="isn't open"):
        await from_url(mongodb_url, codec=CODEC).save([put("a", 1)])


def test_url_is_opened_by_the_plugin() -> None:
    assert isinstance(backend_from_url("mongodb://localhost/app?collection=users", codec=CODEC), MongoDBBackend)
    assert isinstance(backend_from_url("mongodb+srv://db.example.org/app", codec=CODEC), MongoDBBackend)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("mongodb://localhost", "name a database"),
        ("mongodb://localhost/?collection=users", "name a database"),
        ("mongodb://localhost/app?collection=", "no collection"),
        ("mongodb://localhost/app?collection=system.users", "no collection"),
        ("mongodb://localhost/app?tombstone_seconds=soon", "whole number"),
        ("mongodb://localhost/app?w=0", "w=0"),
        ("mongodb://localhost/app?colection=x", "MongoDB's"),
        ("mongodb://ada:hunter/2@localhost/app", "percent-encoded"),
    ],
)
def test_bad_url_is_explained(url: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        from_url(url, codec=CODEC)
    assert "hunter" not in str(caught.value)


def test_backend_itself_needs_no_motor() -> None:
    """Motor's support ends in 2027; those who pass a collection of PyMongo's client need only PyMongo."""
    program = "import sys; sys.modules['motor'] = None; import asyncwb_backends.mongodb; print('fine')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "fine\n", done.stderr
