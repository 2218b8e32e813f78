"""Converts users' arguments to plain Python types: subclasses of str or int may override any method, and raise."""

from typing import Final

from asyncwb.support.redaction import redact

_LONGEST: Final = 80


def plain_str(value: object) -> str | None:
    """Returns the value as a plain str, None if it isn't a str."""
    return str.__str__(value) if issubclass(type(value), str) else None


def plain_int(value: object) -> int | None:
    """Returns the value as a plain int, None if it isn't an int or is a bool."""
    if not issubclass(type(value), int) or isinstance(value, bool):
        return None
    return int.__index__(value)  # type: ignore[arg-type] # mypy doesn't know issubclass of a type


def plain_number(value: object) -> float | None:
    """Returns the value as a plain int or float, None if it isn't one or is a bool."""
    if issubclass(type(value), float):
        return float.__float__(value)  # type: ignore[arg-type]
    return plain_int(value)


def excerpt(value: object) -> str:
    """Returns a value for a message: its `repr`, redacted, and cut if it is long; its type if `repr` fails."""
    try:
        text = redact(repr(value))
    except Exception:  # noqa: BLE001 - somebody else's code; an int of 5,000 digits raises, too
        return f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
