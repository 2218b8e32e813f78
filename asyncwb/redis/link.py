"""The interface to Redis: all other code sends commands through a `Link`, so that a simulator can take its place."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from asyncwb.redis.script import Script

Argument = bytes | str | int


class Session(Protocol):
    """Exclusive use of one connection: for WATCH / MULTI / EXEC, and for reads that have to reach the same server."""

    async def commands(self, *commands: Sequence[Argument]) -> list[Any]:
        """Sends commands together and returns their replies; raises what `Link.command` raises if any of them fails.

        All calls of a session use the connection of the first one: if it is lost, they raise `RedisUnavailable`.
        """
        ...

    async def script(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """Runs a script like `Link.script`, on the session's connection."""
        ...


class Link(Protocol):
    """Commands to one server. A link never sends a command twice: retrying is up to callers, who know if it is safe."""

    @property
    def where(self) -> str:
        """How messages call the server, without credentials."""
        ...

    def unsafe(self) -> str:
        """Why the server is unsafe to write to, for reasons that it can't report itself; "" if there are none."""
        ...

    async def command(self, *args: Argument, block_seconds: float = 0.0) -> Any:
        """Sends one command and returns its reply, in bytes and integers.

        Args:
            args: the command and its arguments.
            block_seconds: how long the command itself may block on the server, on top of the usual timeout.

        Raises:
            RedisUnavailable: it was certainly not executed.
            OutcomeUnknown: it was sent, and its reply was lost or came too late.
            RedisOutOfMemory: the server is at maxmemory; it was not executed.
            RedisError: the server answered with another error.
        """
        ...

    async def script(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """Runs a script by its SHA-1, and sends its source if the server doesn't know it. Raises as `command`."""
        ...

    async def script_then(
        self,
        script: Script,
        keys: Sequence[bytes],
        args: Sequence[Argument],
        then: Sequence[Argument],
        *,
        block_seconds: float,
    ) -> list[Any]:
        """Runs a script and a command on one connection, and returns both replies. Raises as `command` if either fails.

        Args:
            script, keys, args: as in `script`.
            then: the command and its arguments, such as WAITAOF, which waits for writes of its own connection only.
            block_seconds: how long this command may block on the server, on top of the usual timeout.
        """
        ...

    def session(self) -> AbstractAsyncContextManager[Session]:
        """Exclusive use of a connection; if an exception leaves the block, the connection is cut instead of reused."""
        ...

    async def reset(self) -> None:
        """Closes the idle connections, because they may lead to a former primary."""
        ...

    async def close(self) -> None:
        """Closes all connections at once, also those in use."""
        ...
