"""Connections to a real server, over redis-py's connection classes: a `Link` that never retries on its own."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

import hiredis
import redis.asyncio
import redis.exceptions
from redis.asyncio.connection import AbstractConnection, ConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from asyncwb.errors import (
    ConfigurationError,
    OutcomeUnknown,
    RedisError,
    RedisOutOfMemory,
    RedisUnavailable,
    UnsuitableServer,
)
from asyncwb.redis.link import Argument
from asyncwb.redis.scripts import Script
from asyncwb.urls import redact

_SCHEMES: Final = {"redis": "redis", "rediss": "rediss", "unix": "unix", "valkey": "redis", "valkeys": "rediss"}

RedisClient = redis.asyncio.Redis


def is_client(target: object) -> bool:
    """Whether this is a redis-py asyncio client of a single server.

    Raises:
        ConfigurationError: it is a client, but of a kind that can't work.
    """
    if isinstance(target, redis.asyncio.RedisCluster):
        raise ConfigurationError("cluster clients aren't supported yet: pass the URL or client of a single primary")
    if isinstance(target, redis.Redis):
        raise ConfigurationError("this is redis-py's blocking client: pass a redis.asyncio.Redis or a URL")
    return isinstance(target, redis.asyncio.Redis)


class RedisLink:
    """A `Link` with a small pool of its own.

    redis-py retries commands by default, EXEC and scripts included, and a reply that was lost then counts twice; here
    retries are off and every command is sent once. A connection goes back to the pool only after its reply was read.

    Args:
        pool: makes the connections; nothing else of it is used.
        where: the server as it may be shown, without credentials.
        timeout_seconds: for one command, connecting included.
    """

    def __init__(self, pool: ConnectionPool, *, where: str, timeout_seconds: float) -> None:
        self._pool = pool
        self._idle: list[AbstractConnection] = []
        self._borrowed: set[AbstractConnection] = set()
        self._timeout_seconds = timeout_seconds
        self._closed = False
        self.where = where

    @classmethod
    def from_url(cls, url: str, *, timeout_seconds: float) -> "RedisLink":
        """Args: url: `redis://`, `rediss://`, `unix://` or `valkey://`. Raises: ConfigurationError."""
        shown = redact(url)
        scheme, separator, rest = url.partition("://")
        if not separator or scheme.lower() not in _SCHEMES:
            raise ConfigurationError(f"Redis URL {shown!r}: write redis://, rediss://, valkey:// or unix://")
        if scheme.lower() != "unix" and not re.fullmatch(r"[^/?#]+(/\d*)?(\?[^#]*)?", rest):
            raise ConfigurationError(f"Redis URL {shown!r} is malformed: write {scheme}://host:port/database-number")
        try:
            options: dict[str, Any] = dict(parse_url(f"{_SCHEMES[scheme.lower()]}://{rest}"))
            pool = _own_pool(ConnectionPool, options)
        except (ValueError, TypeError, redis.exceptions.RedisError) as error:
            # The driver's message may quote the URL, so it is not shown.
            raise ConfigurationError(f"Redis URL {shown!r} is malformed") from error.with_traceback(None)
        return cls(pool, where=shown, timeout_seconds=timeout_seconds)

    @classmethod
    def from_client(cls, client: RedisClient, *, timeout_seconds: float) -> "RedisLink":
        """Takes over where and how a client connects; the client itself is neither used nor closed."""
        theirs = client.connection_pool
        options = {name: value for name, value in theirs.connection_kwargs.items() if name not in _POOL_OPTIONS}
        if isinstance(theirs, SentinelConnectionPool):
            options["is_master"] = True
            pool = _own_pool(
                SentinelConnectionPool,
                options,
                service_name=theirs.service_name,
                sentinel_manager=theirs.sentinel_manager,
            )
            where = f"sentinel service {theirs.service_name!r}"
        else:
            pool = _own_pool(ConnectionPool, options, connection_class=theirs.connection_class)
            where = str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")
        return cls(pool, where=where, timeout_seconds=timeout_seconds)

    async def command(self, *args: Argument, block_seconds: float = 0.0) -> Any:
        async with self._connection() as connection:
            return await self._exchange(connection, args, block_seconds)

    async def script(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        async with self._connection() as connection:
            try:
                return await self._exchange(connection, ("EVALSHA", script.sha, len(keys), *keys, *args))
            except _UnknownScript:
                # Scripts vanish at a restart or a failover; EVAL runs it and has it cached again.
                return await self._exchange(connection, ("EVAL", script.source, len(keys), *keys, *args))

    async def script_then(
        self,
        script: Script,
        keys: Sequence[bytes],
        args: Sequence[Argument],
        then: Sequence[Argument],
        *,
        block_seconds: float,
    ) -> list[Any]:
        async with self._connection() as connection:
            try:
                first = ("EVALSHA", script.sha, len(keys), *keys, *args)
                return await self._pipeline(connection, (first, then), block_seconds)
            except _UnknownScript:
                first = ("EVAL", script.source, len(keys), *keys, *args)
                return await self._pipeline(connection, (first, then), block_seconds)

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator["_Session"]:
        async with self._connection() as connection:
            try:
                yield _Session(self, connection)
            except BaseException:
                # It may be WATCHing or in MULTI: no state like that goes back to the pool.
                await connection.disconnect(nowait=True)
                raise

    async def reset(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        self._closed = True
        for connection in list(self._borrowed):
            await connection.disconnect(nowait=True)
        await self.reset()

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[AbstractConnection]:
        connection = self._idle.pop() if self._idle else self._new()
        self._borrowed.add(connection)
        try:
            yield connection
        finally:
            self._borrowed.discard(connection)
            if not self._closed:
                self._idle.append(connection)
            else:
                await connection.disconnect(nowait=True)

    def _new(self) -> AbstractConnection:
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call] # redis-py
        return connection

    async def _exchange(
        self, connection: AbstractConnection, args: Sequence[Argument], block_seconds: float = 0.0
    ) -> Any:
        (reply,) = await self._pipeline(connection, (args,), block_seconds)
        return reply

    async def _pipeline(
        self, connection: AbstractConnection, commands: Sequence[Sequence[Argument]], block_seconds: float = 0.0
    ) -> list[Any]:
        request = [hiredis.pack_command(tuple[Any, ...](command)) for command in commands]
        sent = False
        try:
            async with asyncio.timeout(self._timeout_seconds + block_seconds):
                await self._ready(connection)
                sent = True
                await connection.send_packed_command(request, check_health=False)
                return [await connection.read_response() for _ in commands]
        except redis.exceptions.RedisError as error:
            if len(commands) > 1:
                await connection.disconnect(nowait=True)  # with replies still to come
            raise await self._mapped(connection, error, sent=sent) from error
        except (OSError, TimeoutError) as error:
            await connection.disconnect(nowait=True)
            raise self._lost(sent, error) from error
        except BaseException:
            # Cancelled between request and reply: the next user must not read this reply as its own.
            await connection.disconnect(nowait=True)
            raise

    async def _ready(self, connection: AbstractConnection) -> None:
        if connection.is_connected:
            try:
                # A server that has restarted since closed the connection: notice that before anything is sent,
                # or a write that certainly was not applied would count as unknown.
                if not await connection.can_read():
                    return
            except (redis.exceptions.RedisError, OSError):
                pass
            await connection.disconnect(nowait=True)
        await connection.connect()  # type: ignore[no-untyped-call] # redis-py

    async def _mapped(self, connection: AbstractConnection, error: Exception, *, sent: bool) -> Exception:
        text = str(error)
        if isinstance(error, redis.exceptions.NoScriptError):
            return _UnknownScript(text)
        if isinstance(error, redis.exceptions.OutOfMemoryError) or "OOM command not allowed" in text:
            return RedisOutOfMemory(f"{self.where} is at maxmemory and takes no new writes; it has to be drained first")
        if isinstance(error, redis.exceptions.AuthenticationError | redis.exceptions.NoPermissionError):
            return RedisError(f"{self.where} refused the credentials or permissions: {text}")
        if isinstance(error, redis.exceptions.BusyLoadingError | redis.exceptions.ReadOnlyError) or text.startswith(
            ("LOADING", "MASTERDOWN", "READONLY")
        ):
            # Not executed. A former primary answers so as well: connect anew, maybe somewhere else.
            await connection.disconnect(nowait=True)
            await self.reset()
            return RedisUnavailable(f"{self.where} takes no commands now: {text}")
        if isinstance(error, redis.exceptions.ConnectionError | redis.exceptions.TimeoutError):
            await connection.disconnect(nowait=True)
            return self._lost(sent, error)
        if not isinstance(error, redis.exceptions.ResponseError):
            await connection.disconnect(nowait=True)
        return RedisError(f"{self.where} answered: {text}")

    def _lost(self, sent: bool, error: Exception) -> Exception:
        reason = str(error) or f"no answer within {self._timeout_seconds:g} s"
        if sent:
            return OutcomeUnknown(f"the answer of {self.where} was lost: {reason}")
        return RedisUnavailable(f"{self.where} can't be reached: {reason}")


class _Session:
    def __init__(self, link: RedisLink, connection: AbstractConnection) -> None:
        self._link = link
        self._connection = connection

    async def commands(self, *commands: Sequence[Argument]) -> list[Any]:
        return await self._link._pipeline(self._connection, commands)  # noqa: SLF001 - its other half


class _UnknownScript(RedisError):
    """NOSCRIPT: certainly not executed."""


# Of a pool, not of its connections; or set by us below.
_POOL_OPTIONS: Final = frozenset(
    {
        "connection_pool", "decode_responses", "event_dispatcher", "health_check_interval", "himport_registry",
        "maint_notifications_config", "maint_notifications_pool_handler", "max_connections", "parser_class", "protocol",
        "retry", "retry_on_error", "retry_on_timeout", "socket_connect_timeout", "socket_timeout",
    }
)  # fmt: skip


def _own_pool(kind: Any, options: dict[str, Any], **pool_options: Any) -> Any:
    kept = {name: value for name, value in options.items() if name not in _POOL_OPTIONS}
    return kind(
        **pool_options,
        **kept,
        decode_responses=False,
        health_check_interval=0,
        # Pushed notifications would switch off the check for unread data.
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        # Time limits are ours, one for each command; redis-py's would nest a second timer in each.
        socket_connect_timeout=None,
        socket_timeout=None,
    )


async def check_server(link: RedisLink) -> None:
    """Refuses servers that are unsafe as a write buffer.

    Raises:
        UnsuitableServer: it evicts keys, is a replica, or is a cluster node.
        RedisError: it can't be asked.
    """
    info = await server_info(link)
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise UnsuitableServer(
            f"{link.where} has maxmemory-policy {policy}: it could evict writes that were acknowledged; "
            "set maxmemory-policy noeviction"
        )
    if info.get("role", "master") != "master":
        raise UnsuitableServer(f"{link.where} is a replica: connect to its primary")
    if info.get("cluster_enabled", "0") == "1":
        raise UnsuitableServer(f"{link.where} is a cluster node: clusters aren't supported yet")


async def server_info(link: RedisLink) -> dict[str, str]:
    """What INFO says. Raises RedisError."""
    return dict(_fields(await link.command("INFO")))


def _fields(info: bytes) -> Iterator[tuple[str, str]]:
    for line in info.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            yield name, value.strip()
