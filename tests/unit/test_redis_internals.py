"""What asyncwb relies on in redis-py beyond its documentation is there, part by part, and behaves as is relied upon."""

import ast
import asyncio
import inspect
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any

import pytest
import redis.asyncio
import redis.exceptions
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool

from asyncwb.errors import EmbeddedServerError
from asyncwb.redis import internals
from tests.harness.servers import Server

REDIS_PY = f"redis-py {version('redis')}"
URL = "redis://ada:hunter2@buffer.example:7000/3"

CLASSES = {
    "redis.asyncio.connection": (
        "AbstractConnection", "ConnectionPool", "SSLConnection", "UnixDomainSocketConnection", "parse_url",
    ),
    "redis.asyncio.retry": ("Retry",),
    "redis.asyncio.sentinel": (
        "Sentinel", "SentinelConnectionPool", "SentinelManagedConnection", "SentinelManagedSSLConnection",
    ),
    "redis.backoff": ("NoBackoff",),
    "redis.driver_info": ("DriverInfo",),
    "redis.exceptions": ("AuthenticationError", "ConnectionError", "RedisError", "ResponseError"),
    "redis.maint_notifications": ("MaintNotificationsConfig",),
}  # fmt: skip


def connection() -> Any:
    return internals.new_connection(internals.make_pool(internals.options_of_url(URL)))


def found_connection() -> Any:
    async def find() -> str:
        return ""

    return internals.new_connection(internals.make_pool({"find": find}, internals.FoundConnection))


def pool() -> Any:
    return redis.asyncio.Redis.from_url(URL).connection_pool


def sentinel() -> Any:
    return Sentinel([("h", 1), ("h", 2)])  # type: ignore[no-untyped-call] # redis-py


def service_pool() -> Any:
    return SentinelConnectionPool("wb", sentinel())  # type: ignore[no-untyped-call] # redis-py


def error() -> Any:
    return redis.exceptions.ResponseError("no", status_code="ERR")


OBJECTS: dict[Callable[[], Any], tuple[str, ...]] = {
    connection: ("_connect", "_reader", "_writer", "connect", "disconnect"),
    found_connection: ("_connect", "path"),
    pool: ("connection_class", "connection_kwargs", "make_connection"),
    service_pool: ("connection_class", "connection_kwargs", "make_connection", "sentinel_manager", "service_name"),
    sentinel: ("sentinels",),
    error: ("status_code",),
}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in CLASSES.items() for name in names])
def test_class_exists(module: str, name: str) -> None:
    assert hasattr(import_module(module), name), f"{REDIS_PY} has no {module}.{name}, which asyncwb relies on"


@pytest.mark.parametrize(("make", "name"), [(make, name) for make, names in OBJECTS.items() for name in names])
async def test_attribute_exists(make: Callable[[], Any], name: str) -> None:
    each = make()
    kind = type(each).__qualname__
    assert hasattr(each, name), f"{REDIS_PY}: {kind} has no attribute {name}, which asyncwb relies on"


def test_everything_that_is_relied_upon_is_checked() -> None:
    checked = {name for names in OBJECTS.values() for name in names}
    tree = ast.parse(inspect.getsource(internals))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "redis":
            assert node.module is not None
            assert {alias.name for alias in node.names} <= {*CLASSES[node.module]}, node.module
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and node.attr[1] != "_":
            own = isinstance(node.value, ast.Name) and node.value.id == "self" and node.attr == "_find"
            assert own or node.attr in checked, node.attr


def test_constructors_take_the_options_that_are_set() -> None:
    wanted = {"decode_responses", "driver_info", "health_check_interval", "maint_notifications_config", "protocol",
              "retry", "socket_connect_timeout", "socket_timeout"}  # fmt: skip
    missing = wanted - {*inspect.signature(AbstractConnection.__init__).parameters}
    assert not missing, f"{REDIS_PY}: connections take no {', '.join(sorted(missing))}"


@pytest.mark.parametrize("of_a_service", [False, True])
def test_connections_of_a_pool_neither_retry_nor_limit_their_time(of_a_service: bool) -> None:
    options = {"host": "h", "port": 7000, "db": 3, "password": "hunter2", "retry_on_timeout": True, "socket_timeout": 9}
    if of_a_service:
        kind = internals.service_connection({})
        made: Any = internals.make_service_pool("wb", sentinel(), options, kind)
        assert made.is_master, f"{REDIS_PY}: is_master isn't an option of a service's pool any more"
    else:
        made = internals.make_pool(options)
    each: Any = internals.new_connection(made)
    assert (each.host, each.port, each.db, each.password) == ("h", 7000, 3, "hunter2")
    found = {
        "retries": each.retry.get_retries(),
        "retry_on_error": each.retry_on_error,
        "socket_timeout": each.socket_timeout,
        "socket_connect_timeout": each.socket_connect_timeout,
        "health_check_interval": each.health_check_interval,
        "protocol": each.protocol,
        "maintenance notifications": bool(made.maint_notifications_enabled()),
    }
    wanted = {
        "retries": 0,
        "retry_on_error": [],
        "socket_timeout": None,
        "socket_connect_timeout": None,
        "health_check_interval": 0,
        "protocol": 2,
        "maintenance notifications": False,
    }
    assert found == wanted, f"{REDIS_PY} makes other connections than it was asked for"
    another: Any = internals.new_connection(made)
    assert another.driver_info is each.driver_info, f"{REDIS_PY} makes a DriverInfo for each connection"


def test_connection_that_is_made_connects_to_nothing_and_is_not_the_pools() -> None:
    made: Any = internals.make_pool({"max_connections": 1})
    both = [internals.new_connection(made) for _ in range(2)]
    assert both[0] is not both[1], f"{REDIS_PY}: make_connection gives the same connection twice"
    assert [internals.transport_of(each) for each in both] == [None, None], f"{REDIS_PY}: make_connection connects"


def test_options_that_do_not_exist_are_found_when_a_connection_is_made() -> None:
    with pytest.raises(TypeError):
        internals.new_connection(internals.make_pool({"tabel": "x"}))


def test_parsed_url_has_the_options_of_a_connection() -> None:
    assert internals.options_of_url(URL) == {
        "host": "buffer.example", "port": 7000, "db": 3, "username": "ada", "password": "hunter2",
    }, f"{REDIS_PY}: parse_url names options otherwise"  # fmt: skip
    assert internals.options_of_url("rediss://h")["connection_class"] is SSLConnection
    assert internals.options_of_url("unix:///run/s?db=2").items() >= {"path": "/run/s", "db": 2}.items()


@pytest.mark.parametrize(("url", "secure"), [("redis://h", False), ("rediss://h", True)])
def test_pool_like_a_clients_leads_where_the_clients_does(url: str, secure: bool) -> None:
    theirs: Any = redis.asyncio.Redis.from_url(f"{url}:7000/3?password=hunter2&max_connections=3").connection_pool
    ours: Any = internals.pool_like(theirs)
    assert ours is not theirs
    assert ours.connection_class is theirs.connection_class
    assert internals.uses_tls(ours) is secure, f"{REDIS_PY}: it can't be told whether connections use TLS"
    assert internals.service_of(ours) is None
    options = internals.options_of_pool(ours)
    assert options.items() >= {"host": "h", "port": 7000, "db": 3, "password": "hunter2"}.items()


def test_pool_like_that_of_a_service_asks_the_same_sentinels() -> None:
    theirs = sentinel().master_for("wb", password="hunter2").connection_pool
    ours: Any = internals.pool_like(theirs)
    assert isinstance(ours, SentinelConnectionPool)
    assert (internals.service_of(ours), ours.sentinel_manager) == ("wb", theirs.sentinel_manager)
    assert internals.options_of_pool(ours)["password"] == "hunter2"
    each: Any = internals.new_connection(ours)
    assert each.connection_pool.sentinel_manager is theirs.sentinel_manager, f"{REDIS_PY}: connections ask other pools"


@pytest.mark.parametrize(("url", "secure"), [("redis://_", False), ("rediss://_", True)])
def test_connections_of_a_service_use_tls_as_its_url_says(url: str, secure: bool) -> None:
    options = internals.options_of_url(url)
    kind = internals.service_connection(options)
    assert issubclass(kind, SSLConnection) is secure
    assert "connection_class" not in options


async def test_sentinels_are_closed_each(monkeypatch: pytest.MonkeyPatch) -> None:
    sentinels = sentinel()
    closed: list[Any] = []

    async def close(client: Any) -> None:
        closed.append(client)

    monkeypatch.setattr(redis.asyncio.Redis, "aclose", close)
    await internals.close_sentinels(sentinels)
    assert closed == sentinels.sentinels, f"{REDIS_PY}: Sentinel.sentinels isn't a client for each sentinel any more"
    assert len(closed) == 2


# With a server


class Receiver(asyncio.Protocol):
    def __init__(self) -> None:
        self.received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.received.set_result(data)


async def test_protocol_of_a_connections_transport_can_be_replaced(valkey_server: Server) -> None:
    each = internals.new_connection(internals.make_pool(internals.options_of_url(valkey_server.url)))
    await each.connect()  # type: ignore[no-untyped-call] # redis-py
    transport = internals.transport_of(each)
    assert transport is not None, f"{REDIS_PY}: a connection that is connected has no _writer"
    transport.set_protocol(receiver := Receiver())
    transport.write(b"*1\r\n$4\r\nPING\r\n")
    async with asyncio.timeout(5):
        assert await receiver.received == b"+PONG\r\n", f"{REDIS_PY}: there is something else on the connection"
    transport.abort()
    await each.disconnect(nowait=True)
    assert internals.transport_of(each) is None, f"{REDIS_PY}: a connection that was cut keeps its _writer"


async def test_first_line_is_read_without_anything_being_sent() -> None:
    received = asyncio.get_running_loop().create_future()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"-ERR max number of clients reached\r\n")
        await writer.drain()
        received.set_result(await reader.read())
        writer.close()

    async with asyncio.timeout(5), await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        options = internals.options_of_url(f"redis://127.0.0.1:{port}/1?password=hunter2")
        each = internals.new_connection(internals.make_pool(options))
        assert await internals.first_line(each) == b"-ERR max number of clients reached\r\n"
        await each.disconnect(nowait=True)
        assert await received == b"", f"{REDIS_PY}: _connect sends something"


async def test_path_is_looked_up_at_each_connection(valkey_server: Server) -> None:
    looked = 0

    async def find() -> str:
        nonlocal looked
        looked += 1
        return valkey_server.unix_url.removeprefix("unix://")

    each = internals.new_connection(internals.make_pool({"find": find}, internals.FoundConnection))
    for _ in range(2):
        await each.connect()  # type: ignore[no-untyped-call] # redis-py
        assert internals.transport_of(each) is not None
        await each.disconnect(nowait=True)
    assert looked == 2, f"{REDIS_PY}: _connect isn't what opens the socket, once for each connection"


async def test_error_of_looking_up_the_path_is_the_cause() -> None:
    lost = EmbeddedServerError("its guardian has ended")

    async def find() -> str:
        raise lost

    each = internals.new_connection(internals.make_pool({"find": find}, internals.FoundConnection))
    with pytest.raises(redis.exceptions.ConnectionError) as caught:
        await each.connect()  # type: ignore[no-untyped-call] # redis-py
    assert caught.value.__cause__ is lost, f"{REDIS_PY}: connect hides why a connection could not be made"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://127.0.0.1:{port}/99?password=PASSWORD", "ERR DB index is out of range"),
        ("redis://127.0.0.1:{port}/0?password=wrong", "WRONGPASS invalid username-password pair"),
        ("redis://127.0.0.1:{port}/1", "NOAUTH Authentication required"),
    ],
)
async def test_error_reply_to_the_handshake_is_told_with_its_code(
    private_server: Callable[..., Server], url: str, text: str
) -> None:
    server = await asyncio.to_thread(private_server, requirepass="PASSWORD")
    options = internals.options_of_url(url.format(port=server.port))
    each = internals.new_connection(internals.make_pool(options))
    with pytest.raises(redis.exceptions.RedisError) as caught:
        await each.connect()  # type: ignore[no-untyped-call] # redis-py
    said = internals.reply_text(caught.value)
    assert said is not None, f"{REDIS_PY}: {caught.value!r} isn't told from a lost connection"
    assert said.startswith(text)


async def test_lost_connection_is_no_reply() -> None:
    each = internals.new_connection(internals.make_pool({"port": 1}))
    with pytest.raises(redis.exceptions.ConnectionError) as caught:
        await each.connect()  # type: ignore[no-untyped-call] # redis-py
    assert internals.reply_text(caught.value) is None


def test_connection_class_of_a_pool_is_tcp_by_default() -> None:
    made: Any = internals.make_pool({})
    assert made.connection_class is Connection
    assert not internals.uses_tls(made)
