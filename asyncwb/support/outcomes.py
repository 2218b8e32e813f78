"""What a call for several keys is answered with, where some of them failed."""

from collections.abc import Mapping
from typing import Any, Final

from asyncwb.errors import AsyncwbError, NotConfirmed, PartialFailure

_SHOWN: Final = 3


def failure(
    failed: Mapping[str, AsyncwbError],
    *,
    of: int,
    versions: Mapping[str, int] | None = None,
    values: Mapping[str, Any] | None = None,
) -> AsyncwbError:
    """The error of a call in which at least one key has failed.

    Where nothing was done, for one kind of reason, it is that reason: what the call for a single key would raise. Else
    it is a `PartialFailure`, also where nothing was done for several kinds of reasons: no single one would be true of
    all keys.

    Args:
        failed: key -> its own error.
        of: how many keys the call was for.
        versions, values: what was done.
    """
    if len(failed) == of and len({type(error) for error in failed.values()}) == 1:
        first = next(iter(failed.values()))
        if isinstance(first, NotConfirmed):
            every = [error.versions for error in failed.values() if isinstance(error, NotConfirmed)]
            return NotConfirmed(str(first), versions={key: version for each in every for key, version in each.items()})
        return first
    return PartialFailure(
        f"{len(failed)} of {of} keys failed: {_reasons(failed)}", failed=failed, versions=versions, values=values
    )


def _reasons(failed: Mapping[str, AsyncwbError]) -> str:
    """The first few reasons, each with the first keys that failed for it."""
    groups: dict[str, list[str]] = {}
    for key, error in failed.items():
        groups.setdefault(str(error), []).append(key)
    shown = [
        f"{', '.join(map(repr, keys[:_SHOWN]))}{f' and {len(keys) - _SHOWN} more' * (len(keys) > _SHOWN)}: {reason}"
        for reason, keys in list(groups.items())[:_SHOWN]
    ]
    return "; ".join([*shown, *["…"] * (len(groups) > _SHOWN)])


def failures_of(keys: list[str], error: BaseException) -> dict[str, AsyncwbError]:
    """Each key's own error, where several failed together. Raises what is no error of a call: a cancellation, a bug."""
    if not isinstance(error, AsyncwbError):
        raise error
    if isinstance(error, NotConfirmed):
        return {key: NotConfirmed(str(error), versions={key: error.versions[key]}) for key in keys}
    return dict.fromkeys(keys, error)
