"""Steps of flushers: claiming records, renewing their leases, and ending the claim."""

import asyncio
import contextlib
import random
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

import anyio

from asyncwb.errors import DecodeError, OutcomeUnknown, RedisError, RedisUnavailable
from asyncwb.protocol import scripts
from asyncwb.protocol.messages import NO_LIMIT, Acked, Claim, Failure, Retries, Retry
from asyncwb.protocol.steps.partition import PAGE, PartitionSteps, ms
from asyncwb.protocol.wire import pack_version, unpack_record
from asyncwb.records import Record, Version
from asyncwb.redis.link import Argument
from asyncwb.redis.script import Script
from asyncwb.support.key_encoding import raw_of, text_of

_CLAIM_MS: Final = 10_000
"""A claim is remembered for this long after its leases have ended, or for as long as they lasted if that is longer. By
then its records are dirty again or belong to another claim, and a later ack would only spare a save that the backend
finds stale."""

RELEASE_SECONDS: Final = 1.0
"""How long a cancelled flusher may try to release its records; after that, their leases have to expire."""


class FlusherSteps(PartitionSteps):
    """The steps of flushers."""

    async def claim(
        self,
        *,
        records: int,
        bytes: int,  # noqa: A002 - its unit
        lease_seconds: float,
        alone: bool = False,
    ) -> Claim:
        """Leases due records.

        Args:
            records: how many at most.
            bytes: how many bytes they may have together; a single larger record is claimed alone.
            lease_seconds: how long until the leases expire.
            alone: whether to claim one record that has to be claimed alone, if there is one. The caller must hold no
                other lease in this process: if the process dies then, that record is to blame.

        Raises:
            RedisUnavailable: the reply was lost, among other reasons. The records that it may have taken are released
                if possible.
            RedisError: the server refused the script.
        """
        claim_id = uuid4().hex
        lease_ms = ms(lease_seconds)
        try:
            reply = await self.link.script(
                scripts.CLAIM,
                (*self.keys.common, self.keys.claim(claim_id)),
                (self.keys.record_prefix, records, bytes, lease_ms, _claim_ms(lease_ms), int(alone)),
            )
        except OutcomeUnknown as error:
            # Safety doesn't need this, since the leases would expire: it only spares the records that wait.
            await self.release(claim_id)
            raise RedisUnavailable(str(error)) from error
        except asyncio.CancelledError:
            with anyio.move_on_after(RELEASE_SECONDS, shield=True), contextlib.suppress(RedisError):
                await self.release(claim_id)
            raise
        found: list[Record] = []
        garbage: dict[str, DecodeError] = {}
        due_ms, waits = reply[:2]
        for key, packed in zip(reply[2::2], reply[3::2], strict=True):
            try:
                found.append(unpack_record(key.decode(), packed))
            except UnicodeDecodeError:
                garbage[text_of(key)] = DecodeError(f"key {key!r} isn't UTF-8: another program wrote it")
            except DecodeError as error:
                garbage[text_of(key)] = error
        return Claim(
            claim_id,
            found,
            garbage,
            due_ms / 1000 if due_ms >= 0 else None,
            suspect_waits=bool(waits) and not alone,
            deaths=waits if alone else 0,
        )

    async def ack(
        self,
        claim_id: str,
        *,
        failed: Mapping[str, Failure] | None = None,
        saved: Mapping[str, Version] | None = None,
        again_seconds: float = 0.0,
        retries: Retries = NO_LIMIT,
        rng: random.Random | None = None,
    ) -> Acked | None:
        """Ends a claim.

        Args:
            claim_id: the claim's id.
            failed: what becomes of the records that weren't saved; all others of the claim count as saved.
            saved: the versions that were saved, for keys where these aren't the claimed versions.
            again_seconds: how long until records that changed since they were claimed are due again.
            retries: how often failed records are tried, and their pauses.
            rng: shortens each of these pauses at random, by up to a half; None leaves them as they are.

        Returns:
            What became of the records; None if the server doesn't know the claim, because an earlier attempt ended it
            or it ended long ago.
        """
        args: list[Argument] = [
            ms(again_seconds), 0, retries.most, ms(retries.first_seconds), ms(retries.longest_seconds),
            len(saved or ()),
        ]  # fmt: skip
        for key, version in (saved or {}).items():
            args += (raw_of(key), pack_version(version))
        args.append(len(failed or ()))
        for key, failure in (failed or {}).items():
            number = failure.attempts if failure.fate == "dead" else ms(failure.due_in_seconds)
            if failure.fate == "retry":
                number = ms(rng.uniform(0.5, 1.0) if rng is not None else 1.0)
            args += (raw_of(key), failure.fate, number, failure.reason.encode("utf-8", "replace"))
        reply = await self._claim_script(scripts.ACK, claim_id, *args)
        if not reply:
            return None
        gone, changed, released, again, buried = reply
        retried = {text_of(again[i]): Retry(again[i + 1], again[i + 2] / 1000) for i in range(0, len(again), 3)}
        dead = {text_of(key): attempts for key, attempts in zip(buried[::2], buried[1::2], strict=True)}
        return Acked(gone, changed, released, retried, dead)

    async def release(self, claim_id: str) -> None:
        """Ends a claim of which nothing was saved: its records are due again at once."""
        await self._claim_script(scripts.ACK, claim_id, 0, 1, 0, 0, 0, 0, 0)

    async def extend(self, claim_id: str, *, lease_seconds: float) -> int:
        """Renews the leases that a claim still holds; returns how many these are."""
        lease_ms = ms(lease_seconds)
        held: int = await self._claim_script(scripts.EXTEND, claim_id, lease_ms, _claim_ms(lease_ms))
        return held

    async def recover(self, pauses: Retries = NO_LIMIT) -> int:
        """Makes records with expired leases dirty again, at most a page of them, and returns how many these were.

        Args:
            pauses: the first and the longest pause until a record that was claimed alone is due again; all others are
                due at once. `most` isn't used.
        """
        recovered: int = await self._script(scripts.RECOVER, PAGE, ms(pauses.first_seconds), ms(pauses.longest_seconds))
        return recovered

    async def _claim_script(self, script: Script, claim_id: str, *args: Argument) -> Any:
        keys = (*self.keys.common, self.keys.claim(claim_id))
        return await self.link.script(script, keys, (self.keys.record_prefix, *args))


def _claim_ms(lease_ms: int) -> int:
    return lease_ms + max(lease_ms, _CLAIM_MS)
