"""Connections to a real server, over redis-py's connection classes: a `Link` that never retries on its own."""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Final

import hiredis
import redis.exceptions

from asyncwb.errors import (
    OutcomeUnknown,
    RedisError,
    RedisOutOfMemory,
    RedisRefused,
    RedisUnavailable,
    UnsuitableServer,
)
from asyncwb.redis.link import Argument, Link
from asyncwb.redis.scripts import Script
from asyncwb.redis.stream import Stream
from asyncwb.redis.targets import RedisClient, Target, target_of_client, target_of_url
from asyncwb.redis.tls import advice
from asyncwb.urls import hide_credentials

_log: Final = logging.getLogger("asyncwb")

# As the servers say it, of commands and of what a script calls.
_FORBIDDEN: Final = re.compile(r"NOPERM|ACL failure in script|[Nn]o permissions to|user executing the script can't")


class RedisLink:
    """A `Link` with a small pool of its own.

    redis-py retries commands by default, EXEC and scripts included, and a reply that was lost then counts twice; here
    retries are off and every command is sent once. A connection goes back to the pool only after its reply was read.

    Args:
        target: where to connect.
        timeout_seconds: for one command, connecting included.

    Attributes:
        where: the server as it may be shown, without credentials.
        on_change: is told when the server can't be reached any more (with the reason), and when it can be again (with
            None); once each, not for each call.
    """

    def __init__(self, target: Target, *, timeout_seconds: float) -> None:
        self._target = target
        self._idle: list[Stream] = []
        self._borrowed: set[Stream] = set()
        self._timeout_seconds = timeout_seconds
        self._closed = False
        self._lost_at: float | None = None
        self._met = False
        self.where = target.where
        self.on_change: Callable[[str | None, float], None] | None = None

    @classmethod
    def from_url(cls, url: str, *, timeout_seconds: float) -> "RedisLink":
        """Args: url: see `target_of_url`. Raises: ConfigurationError."""
        return cls(target_of_url(url), timeout_seconds=timeout_seconds)

    @classmethod
    def from_client(cls, client: RedisClient, *, timeout_seconds: float) -> "RedisLink":
        """Takes over where and how a client connects; the client itself is neither used nor closed."""
        return cls(target_of_client(client), timeout_seconds=timeout_seconds)

    async def command(self, *args: Argument, block_seconds: float = 0.0) -> Any:
        stream = self._borrow()
        try:
            (reply,) = await self._exchange(stream, (args,), block_seconds)
        finally:
            await self._give_back(stream)
        return reply

    async def script(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        stream = self._borrow()
        try:
            (reply,) = await self._evaluate(stream, script, keys, args)
        finally:
            await self._give_back(stream)
        return reply

    async def script_then(
        self,
        script: Script,
        keys: Sequence[bytes],
        args: Sequence[Argument],
        then: Sequence[Argument],
        *,
        block_seconds: float,
    ) -> list[Any]:
        stream = self._borrow()
        try:
            return await self._evaluate(stream, script, keys, args, then, block_seconds=block_seconds)
        finally:
            await self._give_back(stream)

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator["_Session"]:
        stream = self._borrow()
        try:
            yield _Session(self, stream)
        except BaseException:
            # It may be WATCHing or in MULTI: no state like that goes back to the pool.
            await stream.cut()
            raise
        finally:
            await self._give_back(stream)

    async def reset(self) -> None:
        idle, self._idle = self._idle, []
        for stream in idle:
            await stream.cut()

    async def close(self) -> None:
        self._closed = True
        for stream in list(self._borrowed):
            await stream.cut()
        await self.reset()
        await self._target.close()

    def _borrow(self) -> Stream:
        stream = self._idle.pop() if self._idle else Stream(self._target.new_connection())
        self._borrowed.add(stream)
        return stream

    async def _give_back(self, stream: Stream) -> None:
        self._borrowed.discard(stream)
        if self._closed:
            await stream.cut()
        else:
            self._idle.append(stream)

    async def _evaluate(
        self,
        stream: Stream,
        script: Script,
        keys: Sequence[bytes],
        args: Sequence[Argument],
        *then: Sequence[Argument],
        block_seconds: float = 0.0,
    ) -> list[Any]:
        try:
            return await self._exchange(
                stream, (("EVALSHA", script.sha, len(keys), *keys, *args), *then), block_seconds
            )
        except _UnknownScript:
            # Scripts vanish at a restart or a failover; EVAL runs it and has it cached again.
            return await self._exchange(
                stream, (("EVAL", script.source, len(keys), *keys, *args), *then), block_seconds
            )

    async def _exchange(
        self,
        stream: Stream,
        commands: Sequence[Sequence[Argument]],
        block_seconds: float = 0.0,
        *,
        continues: bool = False,
    ) -> list[Any]:
        request = [hiredis.pack_command(tuple[Any, ...](command)) for command in commands]
        sent, refusal = False, None
        try:
            async with asyncio.timeout(self._timeout_seconds + block_seconds):
                if not stream.usable:
                    # A server that has restarted since closed the connection: found out before anything is sent, or a
                    # write that certainly was not applied would count as unknown.
                    if continues:
                        # A new one watches nothing: an EXEC on it would remove what was written since the read.
                        raise redis.exceptions.ConnectionError(
                            "the connection was cut, and what it watched is forgotten"
                        )
                    await stream.connect()
                sent = True
                replies = await stream.ask(request, len(commands))
                for reply in replies:
                    if isinstance(reply, redis.exceptions.RedisError):
                        raise reply
        except redis.exceptions.RedisError as error:
            hide_credentials(error)  # a server that doesn't know AUTH repeats what it was asked
            mapped = await self._mapped(stream, error, sent=sent)
            if not isinstance(mapped, RedisRefused):
                raise mapped from error
            refusal = mapped
        except (OSError, TimeoutError) as error:
            await stream.cut()
            raise self._lost(sent, error) from error
        except BaseException:
            # Cancelled between request and reply: the next user must not read this reply as its own.
            await stream.cut()
            raise
        if refusal is not None:
            raise refusal  # outside of the handler: what the server says may name the user, and would be the context
        self._met = True
        if self._lost_at is not None:
            self._found()
        return replies

    async def _mapped(self, stream: Stream, error: Exception, *, sent: bool) -> Exception:
        text = str(error)
        if isinstance(error, redis.exceptions.NoScriptError):
            return _UnknownScript(text)
        if isinstance(error, redis.exceptions.OutOfMemoryError) or "OOM command not allowed" in text:
            return RedisOutOfMemory(f"{self.where} is at maxmemory and takes no new writes; it has to be drained first")
        if isinstance(error, redis.exceptions.AuthenticationError | redis.exceptions.NoPermissionError) or (
            _FORBIDDEN.search(text)
        ):
            return self._refused(error, text)
        if isinstance(error, redis.exceptions.BusyLoadingError | redis.exceptions.ReadOnlyError) or text.startswith(
            ("LOADING", "MASTERDOWN", "READONLY")
        ):
            # Not executed. A former primary answers so as well: connect anew, maybe somewhere else.
            await stream.cut()
            await self.reset()
            self._note_loss(text)
            return RedisUnavailable(f"{self.where} takes no commands now: {text}")
        if isinstance(error, redis.exceptions.ConnectionError | redis.exceptions.TimeoutError):
            await stream.cut()
            return self._lost(sent, error)
        if not isinstance(error, redis.exceptions.ResponseError):
            await stream.cut()
        if "WRONGTYPE" in text:
            text += "; another program has overwritten a key of asyncwb: `asyncwb doctor` names it and what to do"
        return RedisError(f"{self.where} answered: {text}")

    def _refused(self, error: Exception, text: str) -> RedisRefused:
        if isinstance(error, redis.exceptions.AuthenticationError):
            return RedisRefused(f"{self.where} refused the credentials: {text}")
        # Not the whole text: it may name the user.
        command = re.search(r"the '(\S+)' command", text)
        return RedisRefused(
            f"{self.where} doesn't permit {command[1] if command else 'a command, or a key,'} to this user: "
            "`asyncwb doctor --acl` prints the rule that it needs"
        )

    def _lost(self, sent: bool, error: Exception) -> Exception:
        reason = str(error) or f"no answer within {self._timeout_seconds:g} s"
        if not sent:
            reason += advice(self._target.pool, reason, met=self._met)
        self._note_loss(reason)
        if sent:
            return OutcomeUnknown(f"the answer of {self.where} was lost: {reason}")
        return RedisUnavailable(f"{self.where} can't be reached: {reason}")

    def _note_loss(self, reason: str) -> None:
        if self._lost_at is not None or self._closed:
            return
        self._lost_at = time.monotonic()
        _log.warning("lost %s, connecting again: %s", self.where, reason)
        if self.on_change is not None:
            self.on_change(reason, 0.0)

    def _found(self) -> None:
        assert self._lost_at is not None
        seconds, self._lost_at = time.monotonic() - self._lost_at, None
        _log.info("connected to %s again, after %.1f s", self.where, seconds)
        if self.on_change is not None:
            self.on_change(None, seconds)


class _Session:
    def __init__(self, link: RedisLink, stream: Stream) -> None:
        self._link = link
        self._stream = stream
        self._begun = False

    async def commands(self, *commands: Sequence[Argument]) -> list[Any]:
        continues, self._begun = self._begun, True
        return await self._link._exchange(self._stream, commands, continues=continues)  # noqa: SLF001 - its other half


class _UnknownScript(RedisError):
    """NOSCRIPT: certainly not executed."""


async def check_server(link: Link) -> None:
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


async def server_info(link: Link) -> dict[str, str]:
    """What INFO says. Raises RedisError."""
    return dict(_fields(await link.command("INFO")))


def _fields(info: bytes) -> Iterator[tuple[str, str]]:
    for line in info.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            yield name, value.strip()
