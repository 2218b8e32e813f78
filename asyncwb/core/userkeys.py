"""Checks of the keys that users pass, before anything is sent."""

from collections.abc import Iterable
from typing import Final

from asyncwb.errors import InvalidKey
from asyncwb.support.plain import excerpt, plain_str

MAX_KEY_BYTES: Final = 1024


def raw_key(key: object) -> bytes:
    """Returns the key in UTF-8; raises `InvalidKey` unless it is a str of 1 byte to `MAX_KEY_BYTES`."""
    text = key if type(key) is str else plain_str(key)
    if text is None:
        raise InvalidKey(f"a key has to be a str, not {type(key).__name__}")
    try:
        raw = text.encode()
    except UnicodeEncodeError as error:
        raise InvalidKey(f"key {text[:64]!r} isn't valid Unicode (a lone surrogate)") from error
    if not raw:
        raise InvalidKey("a key must not be empty")
    if len(raw) > MAX_KEY_BYTES:
        raise InvalidKey(f"key {text[:32]!r}… has {len(raw)} bytes in UTF-8, more than {MAX_KEY_BYTES}")
    return raw


def raw_keys(keys: Iterable[str]) -> list[bytes]:
    """Returns several keys in UTF-8, without duplicates, in the order given.

    Raises:
        InvalidKey: one of them isn't a valid key, iterating over them failed, or a single str or bytes was passed,
            whose items would be taken for keys.
    """
    if isinstance(keys, str | bytes | bytearray):
        raise InvalidKey(f"several keys expected, not the single {type(keys).__name__} {excerpt(keys)}")
    try:
        several = list(keys)
    except Exception as error:
        raise InvalidKey(
            f"several keys expected, but iterating over {excerpt(keys)} failed: {excerpt(error)}"
        ) from error
    return list(dict.fromkeys(map(raw_key, several)))
