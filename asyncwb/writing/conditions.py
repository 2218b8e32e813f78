"""Writes that weren't applied because of what their keys have: as errors of their callers."""

from collections.abc import Sequence

from asyncwb.errors import AsyncwbError, DeadLettered, PartialFailure, VersionMismatch
from asyncwb.protocol.body import conditional
from asyncwb.protocol.messages import LookedUp, Write
from asyncwb.records import Version
from asyncwb.writing.producer import NotApplied


class Undecided(AsyncwbError):
    """Redis can't tell whether the condition of a write is met: only the backend can. Nothing was written."""


def not_applied(group: Sequence[Write], outcome: NotApplied) -> AsyncwbError:
    """The error of a group of which some writes weren't applied."""
    failed: dict[str, AsyncwbError] = {}
    versions: dict[str, Version] = {}
    for place, (raw, _) in enumerate(group):
        key = raw.decode()
        if place in outcome.blocked:
            failed[key] = _dead(key)
        elif place not in outcome.unmet:
            versions[key] = outcome.first + place
        elif (version := outcome.unmet[place]) is None:
            failed[key] = Undecided(f"whether the condition for key {key!r} is met is unknown")
        else:
            failed[key] = mismatch(key, version)
    if len(group) == 1:
        return next(iter(failed.values()))
    # Each key keeps its own error until all parts of a call are put together.
    return PartialFailure(f"{len(failed)} of {len(group)} writes weren't applied", failed=failed, versions=versions)


def mismatch(key: str, version: Version | None) -> VersionMismatch:
    """The error of a write whose key has another version than the expected one."""
    has = "there is no version of it" if version is None else f"its version is {version}"
    return VersionMismatch(
        f"nothing was written: key {key!r} doesn't have the expected version, {has}; read it again, and decide anew",
        version=version,
    )


def condition_met(key: str, body: bytes, expected: Version | None, found: LookedUp) -> bytes:
    """The body of a write that is to be made only if nothing has changed since its key was looked up.

    Args:
        key, body: of the write.
        expected: None for absent or deleted.
        found: what the key has.

    Raises:
        VersionMismatch: the key hasn't the expected version.
    """
    record = found.record
    absent = record is None or record.deleted
    if not (absent if expected is None else record is not None and record.version == expected):
        raise mismatch(key, None if record is None else record.version)
    if found.in_redis and record is not None:
        return conditional(body, record.version)
    return conditional(body, expected, found.token)


def _dead(key: str) -> DeadLettered:
    reason = "an update before this one can't be applied"
    return DeadLettered(
        f"nothing was written: key {key!r} is dead-lettered, since {reason}; see `asyncwb dead list`, or set or delete "
        "the key",
        reasons={key: reason},
    )
