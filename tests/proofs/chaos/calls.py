"""Calls of a writer, written into its history."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from asyncwb import AsyncwbError, Buffer, NotConfirmed, OutcomeUnknown, PartialFailure
from tests.proofs.chaos.history import Outcome, Recorder
from tests.proofs.chaos.tallies import shown


async def write(
    recorder: Recorder,
    kind: str,
    what: Mapping[str, int] | Sequence[str],
    call: Awaitable[dict[str, int]],
    level: str,
    *,
    expected: int | None = None,
) -> bool:
    """Makes a call that writes; returns whether all of it was acknowledged.

    Args:
        recorder: of this process.
        kind, what, level, expected: see `Recorder.begin`.
        call: returns versions by key.
    """
    number = recorder.begin(kind, what, level, expected=expected)
    try:
        versions = await call
    except PartialFailure as error:
        told: dict[str, Any] = {key: ["ok", version] for key, version in error.versions.items()}
        told |= {key: [outcome_of(each), repr(each)] for key, each in error.failed.items()}
        recorder.end(number, "partly", told)
    except AsyncwbError as error:
        recorder.end(number, outcome_of(error), repr(error))
    else:
        recorder.end(number, "ok", versions)
        return True
    return False


async def read(recorder: Recorder, kind: str, buffer: Buffer[Any], keys: Sequence[str]) -> dict[str, Any]:
    """Reads several keys; returns the values of those that were read and are there."""
    number = recorder.begin(kind, keys)
    try:
        found = await buffer.get_many(keys)
    except PartialFailure as error:
        told: dict[str, Any] = {key: ["ok", shown(key, error.values.get(key))] for key in keys}
        recorder.end(number, "partly", told | {key: ["failed", repr(each)] for key, each in error.failed.items()})
        return error.values
    except AsyncwbError as error:
        recorder.end(number, "failed", repr(error))
        return {}
    recorder.end(number, "ok", {key: shown(key, value) for key, value in found.items()})
    return found


async def read_versioned(recorder: Recorder, kind: str, buffer: Buffer[Any], key: str) -> tuple[Any, int | None]:
    """Reads one key with its version. Raises AsyncwbError, as the buffer does."""
    number = recorder.begin(kind, [key])
    try:
        value, version = await buffer.get_versioned(key)
    except AsyncwbError as error:
        recorder.end(number, "failed", repr(error))
        raise
    recorder.end(number, "ok", {key: shown(key, value)})
    return value, version


def outcome_of(error: AsyncwbError) -> Outcome:
    return "unknown" if isinstance(error, OutcomeUnknown | NotConfirmed) else "failed"


async def named(key: str, call: Awaitable[int]) -> dict[str, int]:
    """The version that a call for one key returns, as a call for several does."""
    return {key: await call}
