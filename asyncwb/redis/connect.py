"""From what a user names as Redis to a link: a URL, a client, or a private embedded server."""

from contextlib import AsyncExitStack
from typing import Protocol, cast

from asyncwb.embedded.server import EmbeddedServer
from asyncwb.errors import ConfigurationError
from asyncwb.events import Observer, unobserved
from asyncwb.redis.connection import RedisLink
from asyncwb.redis.link import Link
from asyncwb.redis.targets import RedisClient, Target, is_client, target_of_client, target_of_server, target_of_url
from asyncwb.support.plain import excerpt, plain_str

EMBEDDED = "embedded://"


class Connect(Protocol):
    """`connect`, or what a simulator has in its place."""

    async def __call__(
        self, redis: str | RedisClient | None, stack: AsyncExitStack, *, timeout_seconds: float, emit: Observer
    ) -> Link: ...


def checked_target(redis: object) -> str | RedisClient | None:
    """What a user names as Redis, a URL as a plain str; connects to nothing. Raises ConfigurationError."""
    url = plain_str(redis)
    if url is not None:
        if not url.startswith(EMBEDDED):
            target_of_url(url)
        return url
    if redis is None or is_client(redis):
        return cast("RedisClient | None", redis)
    raise ConfigurationError(f"redis={excerpt(redis)}: pass a URL, a redis.asyncio.Redis, or None")


async def connect(
    redis: str | RedisClient | None, stack: AsyncExitStack, *, timeout_seconds: float, emit: Observer = unobserved
) -> RedisLink:
    """Makes a link; connections are made when they are needed.

    Args:
        redis: a URL, a `redis.asyncio.Redis`, `embedded://DIR`, or None for `embedded://.asyncwb`.
        stack: closes the link, and leaves the embedded server.
        timeout_seconds: for one command.
        emit: gets a `ConnectionChanged` when the server is lost, and when it is found again.

    Raises:
        ConfigurationError: the URL is malformed.
        MissingDependency, EmbeddedServerError: there is no embedded server.
    """
    if redis is None:
        redis = EMBEDDED
    if isinstance(redis, str) and redis.startswith(EMBEDDED):
        server = EmbeddedServer(redis.removeprefix(EMBEDDED) or ".asyncwb")
        await server.start()
        stack.push_async_callback(server.stop)
        target: Target = target_of_server(f"the embedded server in {server.directory}", server.find, server.unsafe)
    elif isinstance(redis, str):
        target = target_of_url(redis)
    else:
        target = target_of_client(redis)  # where and how it connects; the client itself is neither used nor closed
    link = RedisLink(target, timeout_seconds=timeout_seconds, emit=emit)
    stack.push_async_callback(link.close)
    return link
