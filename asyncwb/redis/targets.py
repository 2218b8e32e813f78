"""Makes asyncwb's own connections from what a user names: a URL, a Sentinel service, a client, an embedded server."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote

import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from asyncwb.errors import ConfigurationError
from asyncwb.redis.internals import (
    FoundConnection,
    close_sentinels,
    make_pool,
    make_service_pool,
    new_connection,
    options_of_pool,
    options_of_url,
    pool_like,
    service_connection,
    service_of,
)
from asyncwb.support.redaction import keep_secret, redact

_SCHEMES: Final = {"redis": "redis", "rediss": "rediss", "unix": "unix", "valkey": "redis", "valkeys": "rediss"}
_SENTINEL_SCHEMES: Final = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
_SENTINEL: Final = re.compile(
    r"(?:(?P<credentials>[^@/?#]*)@)?(?P<hosts>[^/?#@]+)/(?P<service>[^/?#]+)(?:/(?P<database>\d+))?(?:\?(?P<options>[^#]*))?"
)
_SENTINEL_PORT: Final = 26379
_SENTINEL_SECONDS: Final = 1.0
"""How long a sentinel may take to answer before the next one is asked."""

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

    pool: redis.asyncio.ConnectionPool
    where: str
    sentinel: Sentinel | None = None
    unsafe: Callable[[], str] = str

    async def close(self) -> None:
        """Closes the connections to sentinels, if asyncwb opened them."""
        if self.sentinel is not None:
            await close_sentinels(self.sentinel)


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
            target = _target_of_service(_SENTINEL_SCHEMES[scheme], rest, shown)
            new_connection(target.pool)  # only to check the options
            return target
        if scheme != "unix" and not re.fullmatch(r"[^/?#]+(/\d*)?(\?[^#]*)?", rest):
            hint = "; write /, ?, # and @ in user and password as %2F, %3F, %23 and %40" if "@" in rest else ""
            raise ConfigurationError(
                f"Redis URL {shown!r} is malformed: write {scheme}://host:port/database-number{hint}"
            )
        pool = make_pool(options_of_url(f"{_SCHEMES[scheme]}://{rest}"))
        new_connection(pool)
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
    return Target(make_pool({"find": find}, FoundConnection), where, unsafe=unsafe)


def target_of_client(client: RedisClient) -> Target:
    """The target of a client: takes over where and how it connects, but never uses or closes the client itself."""
    theirs = client.connection_pool
    options = options_of_pool(theirs)
    user, password = (str(options.get(name) or "") for name in ("username", "password"))
    keep_secret(f"redis://{quote(user, safe='')}:{quote(password, safe='')}@_")
    if (service := service_of(theirs)) is not None:
        return Target(pool_like(theirs), f"sentinel service {service!r}")
    where = str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")
    return Target(pool_like(theirs), where)


def _target_of_service(scheme: str, rest: str, shown: str) -> Target:
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
    connection = options_of_url(
        f"{scheme}://{match['credentials'] + '@' if match['credentials'] else ''}_/{match['database'] or 0}?{query}"
    )
    for name in ("host", "port"):
        connection.pop(name, None)
    kind = service_connection(connection)
    hosts = [_host_and_port(text) for text in match["hosts"].split(",")]
    sentinel = Sentinel(  # type: ignore[no-untyped-call] # redis-py
        hosts,
        sentinel_kwargs={
            **theirs,
            # Sentinels are run with the server, so its CA and the client's certificate apply to them as well.
            **{name: value for name, value in connection.items() if name.startswith("ssl_")},
            "ssl": scheme == "rediss",
            "socket_timeout": _SENTINEL_SECONDS,
            "socket_connect_timeout": _SENTINEL_SECONDS,
            "retry": Retry(NoBackoff(), 0),
        },
    )
    return Target(make_service_pool(unquote(match["service"]), sentinel, connection, kind), shown, sentinel)


def _host_and_port(text: str) -> tuple[str, int]:
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        return host, int(port.removeprefix(":") or _SENTINEL_PORT)
    host, _, port = text.partition(":")
    if not host:
        raise ConfigurationError("a Sentinel URL names no host")
    return host, int(port or _SENTINEL_PORT)
