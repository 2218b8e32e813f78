"""All that asyncwb relies on in redis-py beyond what redis-py documents, each part with what it relies on.

`tests/unit/test_redis_internals.py` checks every part against the installed redis-py, by name.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import redis.exceptions
from redis.asyncio.connection import (
    AbstractConnection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.maint_notifications import MaintNotificationsConfig

_DRIVER: Final = DriverInfo()
"""Made once: redis-py would read its version from a file for each connection, and fail if too many files are open."""

# Options of a pool, not of its connections, and options that `make_pool` sets itself.
_POOL_OPTIONS: Final = frozenset(
    {
        "connection_pool", "decode_responses", "driver_info", "event_dispatcher", "health_check_interval",
        "himport_registry",
        "maint_notifications_config", "maint_notifications_pool_handler", "max_connections", "parser_class", "protocol",
        "retry", "retry_on_error", "retry_on_timeout", "socket_connect_timeout", "socket_timeout",
    }
)  # fmt: skip


# One connection


def new_connection(pool: ConnectionPool) -> AbstractConnection:
    """A connection that isn't connected yet.

    Relies on `make_connection`, which checks the pool's options, connects to nothing, and doesn't count the connection
    as one of the pool.

    Raises:
        TypeError, ValueError, redis.exceptions.RedisError: the options don't fit.
    """
    connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call] # redis-py
    return connection


def transport_of(connection: AbstractConnection) -> asyncio.WriteTransport | None:
    """The transport of a connection, whose protocol may then be replaced; None if it isn't connected.

    Relies on `_writer`, the `asyncio.StreamWriter` of a connected connection, and None otherwise.
    """
    writer = connection._writer  # noqa: SLF001 - redis-py has no other way
    return None if writer is None else writer.transport


async def first_line(connection: AbstractConnection) -> bytes:
    """Connects without sending anything, and returns the first line that the server sends on its own.

    Relies on `_connect`, which opens the socket without the handshake that `connect` adds, and on `_reader`, the
    `asyncio.StreamReader` of it. (For a unix socket redis-py makes the handshake there as well, and raises the server's
    error.)

    Raises:
        OSError, ValueError, redis.exceptions.RedisError: it can't be connected, or the line is too long.
    """
    await connection._connect()  # type: ignore[no-untyped-call] # noqa: SLF001 - redis-py has no other way
    reader = connection._reader  # noqa: SLF001
    return b"" if reader is None else await reader.readline()


def reply_text(error: redis.exceptions.RedisError) -> str | None:
    """The text, with its code, of an error reply of the server to the handshake; None if that wasn't such a reply.

    Relies on `status_code`, the code that redis-py has removed from the text, and on `AuthenticationError` and
    `ResponseError` being its classes for errors of the server.
    """
    code = getattr(error, "status_code", None)
    if code is not None:
        return f"{code} {error}"
    if isinstance(error, redis.exceptions.AuthenticationError):
        return f"WRONGPASS {error}"
    return str(error) if isinstance(error, redis.exceptions.ResponseError) else None


class FoundConnection(UnixDomainSocketConnection):
    """A connection to a unix socket whose path is looked up each time it connects.

    Relies on `_connect` being what opens the socket, on its use of `path`, and on `connect` raising a `ConnectionError`
    whose cause is what `find` has raised.

    Args:
        find: returns the path.
    """

    def __init__(self, *, find: Callable[[], Awaitable[str]], **options: Any) -> None:
        super().__init__(**options)
        self._find = find

    async def _connect(self) -> None:
        self.path = await self._find()
        await super()._connect()  # type: ignore[no-untyped-call] # redis-py


# Pools, which make connections


def options_of_url(url: str) -> dict[str, Any]:
    """The options of a `redis://`, `rediss://` or `unix://` URL, for `make_pool`.

    Relies on `parse_url`, and on its naming a `connection_class` where that isn't TCP without TLS.

    Raises:
        ValueError, redis.exceptions.RedisError: the URL is malformed.
    """
    return dict(parse_url(url))


def make_pool(options: dict[str, Any], connection_class: type[AbstractConnection] | None = None) -> ConnectionPool:
    """A pool whose connections neither retry nor limit their time.

    Relies on the names of the options, `maint_notifications_config` and `driver_info` among them.

    Args:
        options: of the connections. Options that would be the pool's are left out.
        connection_class: of the connections; None if `options` names it, or for TCP without TLS.
    """
    chosen = {} if connection_class is None else {"connection_class": connection_class}
    pool: ConnectionPool = _make(ConnectionPool, options, chosen)
    return pool


def make_service_pool(
    service: str, sentinel: Sentinel, options: dict[str, Any], connection_class: type[AbstractConnection]
) -> SentinelConnectionPool:
    """A pool as of `make_pool`, whose connections lead to the primary that the sentinels name when they are made.

    Relies on `is_master`, and on `service_name` and `sentinel_manager` being options of the pool.
    """
    chosen = {"service_name": service, "sentinel_manager": sentinel, "connection_class": connection_class}
    pool: SentinelConnectionPool = _make(SentinelConnectionPool, {**options, "is_master": True}, chosen)
    return pool


def service_connection(options: dict[str, Any]) -> type[AbstractConnection]:
    """Takes out of the options of a URL the class of its connections, and returns that for a service's connections.

    Relies on the two classes of connections that ask sentinels for the address.
    """
    secure = options.pop("connection_class", None) is SSLConnection
    return SentinelManagedSSLConnection if secure else SentinelManagedConnection


def options_of_pool(pool: ConnectionPool) -> dict[str, Any]:
    """The options with which a pool makes its connections, credentials among them. Relies on `connection_kwargs`."""
    return dict(pool.connection_kwargs)


def pool_like(pool: ConnectionPool) -> ConnectionPool:
    """A pool as of `make_pool` or `make_service_pool`, whose connections lead where those of a user's pool lead.

    Relies on `connection_class` and `connection_kwargs`, and on `sentinel_manager` for a service.
    """
    options = options_of_pool(pool)
    if isinstance(pool, SentinelConnectionPool):
        return make_service_pool(pool.service_name, pool.sentinel_manager, options, pool.connection_class)
    return make_pool(options, pool.connection_class)


def service_of(pool: ConnectionPool) -> str | None:
    """The name of the service whose primary sentinels name to this pool; None without. Relies on `service_name`."""
    return str(pool.service_name) if isinstance(pool, SentinelConnectionPool) else None


def uses_tls(pool: ConnectionPool) -> bool:
    """Whether the connections of a pool use TLS. Relies on `connection_class`."""
    return issubclass(pool.connection_class, SSLConnection)


async def close_sentinels(sentinel: Sentinel) -> None:
    """Closes the connections to sentinels. Relies on `sentinels`, a client for each."""
    for client in sentinel.sentinels:
        await client.aclose()


def _make(kind: Any, options: dict[str, Any], chosen: dict[str, Any]) -> Any:
    kept = {name: value for name, value in options.items() if name not in _POOL_OPTIONS}
    return kind(
        **chosen,
        **kept,
        decode_responses=False,
        health_check_interval=0,
        # With push notifications on, redis-py would not check for unread data.
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        driver_info=_DRIVER,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        # `RedisLink` has one time limit for each command; redis-py's would only add a second timer.
        socket_connect_timeout=None,
        socket_timeout=None,
    )
