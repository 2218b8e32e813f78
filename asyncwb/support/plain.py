"""What users pass, as plain Python: subclasses of str or int may override any method, and raise in it."""

from typing import Final

from asyncwb.support.redaction import redact

_LONGEST: Final = 80


def plain_str(value: object) -> str | None:
    """The text of a str; None if it is none."""
    return str.__str__(value) if issubclass(type(value), str) else None


def plain_int(value: object) -> int | None:
    """The number of an int; None if it is none, or a bool."""
    if not issubclass(type(value), int) or isinstance(value, bool):
        return None
    return int.__index__(value)  # type: ignore[arg-type] # mypy doesn't know issubclass of a type


def plain_number(value: object) -> float | None:
    """The number of an int or float; None if it is none, or a bool."""
    if issubclass(type(value), float):
        return float.__float__(value)  # type: ignore[arg-type]
    return plain_int(value)


def excerpt(value: object) -> str:
    """A value in a message: its `repr`, without credentials and cut if it is long; its type where it has no `repr`."""
    try:
        text = redact(repr(value))
    except Exception:  # noqa: BLE001 - somebody else's code; an int of 5,000 digits raises, too
        return f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
