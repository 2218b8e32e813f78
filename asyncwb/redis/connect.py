"""Makes a link from what a user passes as `redis`: a URL, a client, or the URL of a private embedded server."""

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
    """The type of `connect`, or of what a simulator uses instead."""

    async def __call__(
        self, redis: str | RedisClient | None, stack: AsyncExitStack, *, timeout_seconds: float, emit: Observer
    ) -> Link: ...


def checked_target(redis: object) -> str | RedisClient | None:
    """Checks what a user passes as `redis`, and returns it, a URL as a plain str; connects to nothing.

    Raises:
        ConfigurationError: it is neither a valid URL, a redis.asyncio.Redis nor None.
    """
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
    """Makes a link; it opens connections when they are needed.

    Args:
        redis: a URL, a `redis.asyncio.Redis`, `embedded://DIR`, or None for `embedded://.asyncwb`.
        stack: on its exit, closes the link and leaves the embedded server.
        timeout_seconds: the time limit of one command.
        emit: gets a `ConnectionChanged` when the server can't be reached any more, and when it can again.

    Raises:
        ConfigurationError: the URL is malformed.
        MissingDependency, EmbeddedServerError: the embedded server isn't installed, or doesn't start.
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
        target = target_of_client(redis)  # takes over where and how the client connects, but never uses or closes it
    link = RedisLink(target, timeout_seconds=timeout_seconds, emit=emit)
    stack.push_async_callback(link.close)
    return link
