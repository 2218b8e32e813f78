"""Makes asyncwb's own connections from what a user names: a URL, a Sentinel service, a client, an embedded server."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote

import redis.asyncio
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

from asyncwb.errors import ConfigurationError
from asyncwb.support.redaction import keep_secret, redact

_SCHEMES: Final = {"redis": "redis", "rediss": "rediss", "unix": "unix", "valkey": "redis", "valkeys": "rediss"}
_SENTINEL_SCHEMES: Final = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
_SENTINEL: Final = re.compile(
    r"(?:(?P<credentials>[^@/?#]*)@)?(?P<hosts>[^/?#@]+)/(?P<service>[^/?#]+)(?:/(?P<database>\d+))?(?:\?(?P<options>[^#]*))?"
)
_SENTINEL_PORT: Final = 26379
_SENTINEL_SECONDS: Final = 1.0
"""How long a sentinel may take to answer before the next one is asked."""

_DRIVER: Final = DriverInfo()
"""Made once: redis-py would read its version from a file for each connection, and fail if too many files are open."""

RedisClient = redis.asyncio.Redis


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect.

    Attributes:
        pool: makes connections; nothing else of it is used.
        where: how messages call the server, without credentials.
        sentinel: the sentinels, if asyncwb opened the connections to them.
        unsafe: returns why the server is unsafe to write to, for reasons that it can't report itself; "" for none.
    """

    pool: ConnectionPool
    where: str
    sentinel: Sentinel | None = None
    unsafe: Callable[[], str] = str

    def new_connection(self) -> AbstractConnection:
        """A connection that isn't connected yet."""
        connection: AbstractConnection = self.pool.make_connection()  # type: ignore[no-untyped-call] # redis-py
        return connection

    async def close(self) -> None:
        """Closes the connections to sentinels, if asyncwb opened them."""
        if self.sentinel is not None:
            for client in self.sentinel.sentinels:
                await client.aclose()


def is_client(target: object) -> bool:
    """Whether this is a redis-py asyncio client of a single server.

    Raises:
        ConfigurationError: it is a cluster client or a blocking client, which can't be used.
    """
    if isinstance(target, redis.asyncio.RedisCluster):
        raise ConfigurationError("cluster clients aren't supported yet: pass the URL or client of a single primary")
    if isinstance(target, redis.Redis):
        raise ConfigurationError("this is redis-py's blocking client: pass a redis.asyncio.Redis or a URL")
    return isinstance(target, redis.asyncio.Redis)


def target_of_url(url: str) -> Target:
    """The target of a URL.

    Args:
        url: `redis://`, `rediss://`, `unix://`, `valkey://`, `valkeys://`, `redis+sentinel://` or `rediss+sentinel://`.

    Raises:
        ConfigurationError: the URL is malformed, or has an option that doesn't exist or fit.
    """
    keep_secret(url)
    shown = redact(url)
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in {**_SCHEMES, **_SENTINEL_SCHEMES}:
        raise ConfigurationError(
            f"Redis URL {shown!r}: write redis://, rediss://, valkey://, unix:// or redis+sentinel://"
        )
    try:
        if scheme in _SENTINEL_SCHEMES:
            service = _sentinel_pool(_SENTINEL_SCHEMES[scheme], rest)
            service.make_connection()  # type: ignore[no-untyped-call] # redis-py; only to check the options
            return Target(service, shown, service.sentinel_manager)
        if scheme != "unix" and not re.fullmatch(r"[^/?#]+(/\d*)?(\?[^#]*)?", rest):
            hint = "; write /, ?, # and @ in user and password as %2F, %3F, %23 and %40" if "@" in rest else ""
            raise ConfigurationError(
                f"Redis URL {shown!r} is malformed: write {scheme}://host:port/database-number{hint}"
            )
        options: dict[str, Any] = dict(parse_url(f"{_SCHEMES[scheme]}://{rest}"))
        pool: ConnectionPool = _own_pool(ConnectionPool, options)
        pool.make_connection()  # type: ignore[no-untyped-call] # redis-py
        return Target(pool, shown)
    except ConfigurationError:
        raise
    except (ValueError, TypeError, redis.exceptions.RedisError):
        pass
    # Raised outside of the handler, so that the driver's message, which may quote the URL, isn't the context.
    raise ConfigurationError(f"Redis URL {shown!r} is malformed, or has an option that doesn't exist or fit")


def target_of_server(where: str, find: Callable[[], Awaitable[str]], unsafe: Callable[[], str]) -> Target:
    """The target of an embedded server, which may be restarted with another socket.

    Args:
        where: how messages call the server.
        find: returns the path of the server's unix socket; called for each new connection.
        unsafe: see `Target`.
    """
    pool: ConnectionPool = _own_pool(ConnectionPool, {"find": find}, connection_class=_FoundConnection)
    return Target(pool, where, unsafe=unsafe)


class _FoundConnection(UnixDomainSocketConnection):
    def __init__(self, *, find: Callable[[], Awaitable[str]], **options: Any) -> None:
        super().__init__(**options)
        self._find = find

    async def _connect(self) -> None:
        self.path = await self._find()
        await super()._connect()  # type: ignore[no-untyped-call] # redis-py


def target_of_client(client: RedisClient) -> Target:
    """The target of a client: takes over where and how it connects, but never uses or closes the client itself."""
    theirs = client.connection_pool
    user, password = (str(theirs.connection_kwargs.get(name) or "") for name in ("username", "password"))
    keep_secret(f"redis://{quote(user, safe='')}:{quote(password, safe='')}@_")
    options = {name: value for name, value in theirs.connection_kwargs.items() if name not in _POOL_OPTIONS}
    if isinstance(theirs, SentinelConnectionPool):
        pool = _service_pool(theirs.service_name, theirs.sentinel_manager, options, theirs.connection_class)
        return Target(pool, f"sentinel service {theirs.service_name!r}")
    where = str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")
    return Target(_own_pool(ConnectionPool, options, connection_class=theirs.connection_class), where)


def _sentinel_pool(scheme: str, rest: str) -> SentinelConnectionPool:
    match = _SENTINEL.fullmatch(rest)
    if match is None:
        raise ConfigurationError(
            "a Sentinel URL is redis+sentinel://[user:password@]host:port[,host:port…]/service[/database-number]"
        )
    options = {name: values[-1] for name, values in parse_qs(match["options"] or "").items()}
    theirs: dict[str, Any] = {
        name: options.pop(f"sentinel_{name}") for name in ("username", "password") if f"sentinel_{name}" in options
    }
    query = "&".join(f"{name}={value}" for name, value in options.items())
    connection: dict[str, Any] = dict(
        parse_url(
            f"{scheme}://{match['credentials'] + '@' if match['credentials'] else ''}_/{match['database'] or 0}?{query}"
        )
    )
    for name in ("host", "port"):
        connection.pop(name, None)
    secure = connection.pop("connection_class", None) is SSLConnection
    hosts = [_host_and_port(text) for text in match["hosts"].split(",")]
    sentinel = Sentinel(  # type: ignore[no-untyped-call] # redis-py
        hosts,
        sentinel_kwargs={
            **theirs,
            # Sentinels are run with the server, so its CA and the client's certificate apply to them as well.
            **{name: value for name, value in connection.items() if name.startswith("ssl_")},
            "ssl": secure,
            "socket_timeout": _SENTINEL_SECONDS,
            "socket_connect_timeout": _SENTINEL_SECONDS,
            "retry": Retry(NoBackoff(), 0),
        },
    )
    kind = SentinelManagedSSLConnection if secure else SentinelManagedConnection
    return _service_pool(unquote(match["service"]), sentinel, connection, kind)


def _host_and_port(text: str) -> tuple[str, int]:
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        return host, int(port.removeprefix(":") or _SENTINEL_PORT)
    host, _, port = text.partition(":")
    if not host:
        raise ConfigurationError("a Sentinel URL names no host")
    return host, int(port or _SENTINEL_PORT)


# Options of a pool, not of its connections, and options that `_own_pool` sets itself.
_POOL_OPTIONS: Final = frozenset(
    {
        "connection_pool", "decode_responses", "driver_info", "event_dispatcher", "health_check_interval",
        "himport_registry",
        "maint_notifications_config", "maint_notifications_pool_handler", "max_connections", "parser_class", "protocol",
        "retry", "retry_on_error", "retry_on_timeout", "socket_connect_timeout", "socket_timeout",
    }
)  # fmt: skip


def _service_pool(
    service: str, sentinel: Sentinel, options: dict[str, Any], connection_class: Any
) -> SentinelConnectionPool:
    """A pool whose connections lead to the primary that the sentinels name when they are made."""
    pool: SentinelConnectionPool = _own_pool(
        SentinelConnectionPool,
        {**options, "is_master": True},
        service_name=service,
        sentinel_manager=sentinel,
        connection_class=connection_class,
    )
    return pool


def _own_pool(kind: Any, options: dict[str, Any], **pool_options: Any) -> Any:
    kept = {name: value for name, value in options.items() if name not in _POOL_OPTIONS}
    return kind(
        **pool_options,
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
