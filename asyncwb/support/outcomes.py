"""The errors of calls for several keys, some of which failed."""

from collections.abc import Mapping
from typing import Any, Final

from asyncwb.errors import AsyncwbError, DeadLettered, NotConfirmed, PartialFailure

_SHOWN: Final = 3


def failure(
    failed: Mapping[str, AsyncwbError],
    *,
    of: int,
    versions: Mapping[str, int] | None = None,
    values: Mapping[str, Any] | None = None,
) -> AsyncwbError:
    """Returns the error of a call in which at least one key has failed.

    If all keys failed with the same class of error, it is an error of that class, which the call for a single key would
    raise, too. Otherwise it is a `PartialFailure`, also if all keys failed but with different classes of errors: no
    single error would be true of all keys.

    Args:
        failed: key -> its own error.
        of: how many keys the call was for.
        versions, values: the results of the keys that succeeded.
    """
    if len(failed) == of and len({type(error) for error in failed.values()}) == 1:
        first = next(iter(failed.values()))
        if isinstance(first, NotConfirmed):
            every = [error.versions for error in failed.values() if isinstance(error, NotConfirmed)]
            return NotConfirmed(str(first), versions={key: version for each in every for key, version in each.items()})
        if isinstance(first, DeadLettered):
            letters = [error for error in failed.values() if isinstance(error, DeadLettered)]
            reasons = {key: reason for each in letters for key, reason in each.reasons.items()}
            return first if len(failed) == 1 else DeadLettered(_reasons(failed), reasons=reasons)
        return first
    return PartialFailure(
        f"{len(failed)} of {of} keys failed: {_reasons(failed)}", failed=failed, versions=versions, values=values
    )


def _reasons(failed: Mapping[str, AsyncwbError]) -> str:
    """Lists the first few reasons, each with the first keys that failed for it."""
    groups: dict[str, list[str]] = {}
    for key, error in failed.items():
        groups.setdefault(str(error), []).append(key)
    shown = [
        f"{', '.join(map(repr, keys[:_SHOWN]))}{f' and {len(keys) - _SHOWN} more' * (len(keys) > _SHOWN)}: {reason}"
        for reason, keys in list(groups.items())[:_SHOWN]
    ]
    return "; ".join([*shown, *["…"] * (len(groups) > _SHOWN)])


def failures_of(keys: list[str], error: BaseException) -> dict[str, AsyncwbError]:
    """Returns each key's own error, if several failed together; raises anything but an `AsyncwbError`.

    Anything else isn't the error of a call, but a cancellation or a bug.
    """
    if not isinstance(error, AsyncwbError):
        raise error
    if isinstance(error, NotConfirmed):
        return {key: NotConfirmed(str(error), versions={key: error.versions[key]}) for key in keys}
    return dict.fromkeys(keys, error)
