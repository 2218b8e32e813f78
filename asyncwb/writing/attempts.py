"""What follows from an attempt of a put, as a function of its outcome alone: the model checker takes it, too."""

from enum import Enum, auto

from asyncwb.errors import OutcomeUnknown, RedisError, RedisUnavailable
from asyncwb.protocol.messages import Refusal


class Next(Enum):
    """What a producer does after an attempt."""

    DONE = auto()
    """The request is applied."""
    REPEAT = auto()
    """Send it again as it was: under the same number, by the same writer, in the same epoch."""
    RENEW = auto()
    """Send it again under the same number, in the present epoch and by a writer that the server knows."""
    UNKNOWN = auto()
    """Give up: whether it was applied can't be known any more."""
    FAIL = auto()
    """Give up: nothing was applied."""


def after_reply(refusal: Refusal | None, *, uncertain: bool) -> Next:
    """What follows from a reply.

    Args:
        refusal: None if the request is applied, now or by an earlier attempt.
        uncertain: whether an earlier attempt may have been applied. Then the request keeps its epoch and its writer: in
            another history, or without that memory, the server can't know whether it was applied, so it must not be
            applied there.
    """
    if refusal is None:
        return Next.DONE
    if refusal == "EARLY":
        return Next.REPEAT
    return Next.UNKNOWN if uncertain else Next.RENEW


def after_error(error: RedisError, *, uncertain: bool, registered: bool) -> Next:
    """What follows from an error: REPEAT means that the request is uncertain from now on.

    Args:
        error: of this attempt, and of no other: if an earlier one may yet arrive, the caller must neither hear that
            nothing was written nor have it sent again under another number.
        uncertain: as in `after_reply`.
        registered: whether the writer was ever registered. Under a name that never was, no server applies anything,
            however late it arrives.
    """
    if uncertain or (registered and isinstance(error, OutcomeUnknown)):
        return Next.REPEAT
    return Next.RENEW if isinstance(error, RedisUnavailable | OutcomeUnknown) else Next.FAIL
