"""A `Link` to a real server, over redis-py's connection classes, that never retries on its own."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import hiredis
import redis.exceptions

from asyncwb.errors import (
    OutcomeUnknown,
    RedisRefused,
    RedisUnavailable,
)
from asyncwb.events import ConnectionChanged, Observer, unobserved
from asyncwb.redis.channel import Channel, ErrorReply
from asyncwb.redis.internals import new_connection, reply_text
from asyncwb.redis.link import Argument
from asyncwb.redis.script import Script
from asyncwb.redis.server_errors import ERRORS, Meaning, ServerError, UnknownScript, judge
from asyncwb.redis.targets import Target, target_of_url
from asyncwb.redis.tls import advice
from asyncwb.support.redaction import hide_credentials

_log: Final = logging.getLogger("asyncwb")

_QUIET_SECONDS: Final = 60.0
"""After a reason for which a server takes no commands was logged, it isn't logged again for this long."""


class RedisLink:
    """A `Link` with a small connection pool of its own.

    By default redis-py retries commands, EXEC and scripts included, so that a command whose reply was lost may be
    executed twice. Here retries are off, and every command is sent once. A connection is used again only if its replies
    were read; otherwise it is cut.

    Args:
        target: where to connect.
        timeout_seconds: the time limit of one command, connecting included.
        emit: gets a `ConnectionChanged` when the server can't be reached any more, and when it can again: once for each
            change, not for each call.

    Attributes:
        where: how messages call the server, without credentials.
    """

    def __init__(self, target: Target, *, timeout_seconds: float, emit: Observer = unobserved) -> None:
        self._target = target
        self._emit = emit
        self._idle: list[Channel] = []
        self._borrowed: set[Channel] = set()
        self._timeout_seconds = timeout_seconds
        self._closed = False
        self._lost_at: float | None = None
        self._found_at = 0.0
        self._met = False
        self._quiet_until: dict[ServerError, float] = {}
        self.where = target.where

    @classmethod
    def from_url(cls, url: str, *, timeout_seconds: float) -> "RedisLink":
        """A link to the server of a URL, see `target_of_url`. Raises ConfigurationError."""
        return cls(target_of_url(url), timeout_seconds=timeout_seconds)

    def unsafe(self) -> str:
        return self._target.unsafe()

    async def command(self, *args: Argument, block_seconds: float = 0.0) -> Any:
        channel = self._borrow()
        try:
            (reply,) = await self._exchange(channel, (args,), block_seconds)
        finally:
            await self._give_back(channel)
        return reply

    async def script(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        channel = self._borrow()
        try:
            (reply,) = await self._evaluate(channel, script, keys, args)
        finally:
            await self._give_back(channel)
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
        channel = self._borrow()
        try:
            return await self._evaluate(channel, script, keys, args, then, block_seconds=block_seconds)
        finally:
            await self._give_back(channel)

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator["_Session"]:
        channel = self._borrow()
        try:
            yield _Session(self, channel)
        except BaseException:
            # It may be in WATCH or MULTI, and such a connection must not go back to the pool.
            await channel.cut()
            raise
        finally:
            await self._give_back(channel)

    async def reset(self) -> None:
        idle, self._idle = self._idle, []
        for channel in idle:
            await channel.cut()

    async def close(self) -> None:
        self._closed = True
        for channel in list(self._borrowed):
            await channel.cut()
        await self.reset()
        await self._target.close()

    def _borrow(self) -> Channel:
        channel = self._idle.pop() if self._idle else Channel(new_connection(self._target.pool))
        self._borrowed.add(channel)
        return channel

    async def _give_back(self, channel: Channel) -> None:
        self._borrowed.discard(channel)
        if self._closed:
            await channel.cut()
        else:
            self._idle.append(channel)

    async def _evaluate(
        self,
        channel: Channel,
        script: Script,
        keys: Sequence[bytes],
        args: Sequence[Argument],
        *then: Sequence[Argument],
        block_seconds: float = 0.0,
        continues: bool = False,
    ) -> list[Any]:
        try:
            return await self._exchange(
                channel,
                (("EVALSHA", script.sha, len(keys), *keys, *args), *then),
                block_seconds,
                continues=continues,
            )
        except UnknownScript:
            # A server forgets its scripts at a restart or failover. EVAL runs the script and has it cached again.
            return await self._exchange(
                channel,
                (("EVAL", script.source, len(keys), *keys, *args), *then),
                block_seconds,
                continues=continues,
            )

    async def _exchange(
        self,
        channel: Channel,
        commands: Sequence[Sequence[Argument]],
        block_seconds: float = 0.0,
        *,
        continues: bool = False,
    ) -> list[Any]:
        request = [hiredis.pack_command(tuple[Any, ...](command)) for command in commands]
        began = time.monotonic()
        sent, refusal = False, None
        try:
            async with asyncio.timeout(self._timeout_seconds + block_seconds):
                if not channel.usable:
                    # A server that was restarted has closed the connection. This is checked before anything is sent;
                    # otherwise the outcome of a write that was certainly not applied would count as unknown.
                    if continues:
                        # A new connection watches nothing, so EXEC on it would remove what was written since the read;
                        # and it may lead to another server.
                        raise redis.exceptions.ConnectionError(
                            "the connection was cut, and what was done on it can't be continued on another"
                        )
                    await channel.connect()
                sent = True
                replies = await channel.ask(request, len(commands))
                for reply in replies:
                    if isinstance(reply, ErrorReply):
                        raise reply
        except (ErrorReply, redis.exceptions.RedisError) as error:
            hide_credentials(error)  # the reply of a server that doesn't know AUTH repeats the whole command
            mapped = await self._mapped(channel, error, began, sent=sent)
            if not isinstance(mapped, RedisRefused):
                raise mapped from error
            refusal = mapped
        except (OSError, TimeoutError) as error:
            await channel.cut()
            raise self._lost(sent, error, began) from error
        except BaseException:
            # Cancelled between request and reply: the next user of the connection must not take this reply for its own.
            await channel.cut()
            raise
        if refusal is not None:
            # Raised outside of the handler, so that the server's text, which may name the user, isn't the context.
            raise refusal
        self._met = True
        if self._lost_at is not None and began >= self._lost_at:  # else it may have been answered before
            self._found()
        return replies

    async def _mapped(
        self, channel: Channel, error: ErrorReply | redis.exceptions.RedisError, began: float, *, sent: bool
    ) -> Exception:
        text = str(error) if isinstance(error, ErrorReply) else reply_text(error)
        if text is None:
            await channel.cut()
            return self._lost(sent, error, began)
        row, says = judge(text)
        if row.meaning is Meaning.ELSEWHERE:
            await channel.cut()
            await self.reset()
            self._note_loss(f"it {row.says}", began)
        elif row.meaning is Meaning.WAIT:
            # The connection is kept: making a new one would only be more work for a server that may be busy.
            self._note_wait(row)
        return ERRORS[row.meaning](f"{self.where} {says}")

    def _note_wait(self, row: ServerError) -> None:
        now = time.monotonic()
        if now >= self._quiet_until.get(row, 0.0):
            self._quiet_until[row] = now + _QUIET_SECONDS
            _log.warning("%s %s; trying again", self.where, row.says)

    def _lost(self, sent: bool, error: Exception, began: float) -> Exception:
        reason = str(error) or f"no answer within {self._timeout_seconds:g} s"
        if not sent:
            reason += advice(self._target.pool, reason, met=self._met)
        self._note_loss(reason, began)
        if sent:
            return OutcomeUnknown(f"the answer of {self.where} was lost: {reason}")
        return RedisUnavailable(f"{self.where} can't be reached: {reason}")

    def _note_loss(self, reason: str, began: float) -> None:
        # What began before the server was found again may have failed before, and is merely noticed late.
        if self._lost_at is not None or self._closed or began < self._found_at:
            return
        self._lost_at = time.monotonic()
        _log.warning("lost %s, connecting again: %s", self.where, reason)
        self._emit(ConnectionChanged(up=False, reason=reason))

    def _found(self) -> None:
        assert self._lost_at is not None
        self._found_at = time.monotonic()
        seconds, self._lost_at = self._found_at - self._lost_at, None
        _log.info("connected to %s again, after %.1f s", self.where, seconds)
        self._emit(ConnectionChanged(up=True, seconds=seconds))


class _Session:
    def __init__(self, link: RedisLink, channel: Channel) -> None:
        self._link = link
        self._channel = channel
        self._begun = False

    async def commands(self, *commands: Sequence[Argument]) -> list[Any]:
        continues, self._begun = self._begun, True
        return await self._link._exchange(self._channel, commands, continues=continues)  # noqa: SLF001 - its other half

    async def script(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        continues, self._begun = self._begun, True
        evaluate = self._link._evaluate  # noqa: SLF001 - its other half
        (reply,) = await evaluate(self._channel, script, keys, args, continues=continues)
        return reply
