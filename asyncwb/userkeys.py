"""The keys that users pass: checked before anything is sent."""

from collections.abc import Iterable
from typing import Final

from asyncwb.errors import InvalidKey

MAX_KEY_BYTES: Final = 1024


def raw_key(key: object) -> bytes:
    """The key in UTF-8. Raises `InvalidKey`."""
    if not isinstance(key, str):
        raise InvalidKey(f"a key has to be a str, not {type(key).__name__}")
    try:
        raw = key.encode()
    except UnicodeEncodeError as error:
        raise InvalidKey(f"key {key[:64]!r} isn't valid Unicode (a lone surrogate)") from error
    if not raw:
        raise InvalidKey("a key must not be empty")
    if len(raw) > MAX_KEY_BYTES:
        raise InvalidKey(f"key {key[:32]!r}… has {len(raw)} bytes in UTF-8, more than {MAX_KEY_BYTES}")
    return raw


def several_keys(keys: Iterable[str]) -> list[str]:
    """The keys as a list. Raises `InvalidKey` for a single str, whose characters would be taken for keys."""
    if isinstance(keys, str):
        raise InvalidKey(f"several keys expected, not the single str {keys[:64]!r}")
    return list(keys)
