"""Converts keys between text and the bytes in Redis: UTF-8, or whatever another program wrote."""


def raw_of(key: str) -> bytes:
    """Returns the bytes of a key."""
    return key.encode("utf-8", "surrogateescape")


def text_of(raw: bytes) -> str:
    """Returns a key as text; bytes that aren't UTF-8 become lone surrogates, which `raw_of` converts back."""
    return raw.decode("utf-8", "surrogateescape")
