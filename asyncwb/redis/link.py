"""The seam to Redis: everything above speaks to a `Link`, so that a simulator can take its place."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from asyncwb.redis.script import Script

Argument = bytes | str | int


class Session(Protocol):
    """Exclusive use of one connection, for WATCH / MULTI / EXEC."""

    async def commands(self, *commands: Sequence[Argument]) -> list[Any]:
        """Sends commands at once and returns their replies; raises as `Link.command` if any of them fails.

        After the first call never on another connection: `RedisUnavailable` if that one was lost.
        """
        ...


class Link(Protocol):
    """Commands to one server. Nothing is ever sent twice on its own: who may retry knows how to do it safely."""

    @property
    def where(self) -> str:
        """The server as it may be shown, without credentials."""
        ...

    def unsafe(self) -> str:
        """What makes the server unsafe to write to that it doesn't know itself; "" for nothing."""
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
        """Runs a script by its SHA-1, loading it where the server doesn't know it. Raises as `command`."""
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
            then: such as WAITAOF, which speaks for the connection that wrote.
            block_seconds: how long that may block.
        """
        ...

    def session(self) -> AbstractAsyncContextManager[Session]:
        """Exclusive use of a connection; it is cut, not reused, when the block is left by an exception."""
        ...

    async def reset(self) -> None:
        """Drops the idle connections: they may lead to a former primary."""
        ...

    async def close(self) -> None:
        """Closes everything; waits for nobody."""
        ...
