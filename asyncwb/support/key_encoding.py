"""Keys as text, and as the bytes that Redis has: UTF-8, or whatever another program wrote."""


def raw_of(key: str) -> bytes:
    """A key's bytes."""
    return key.encode("utf-8", "surrogateescape")


def text_of(raw: bytes) -> str:
    """The key of some bytes; those that aren't UTF-8 become lone surrogates, which `raw_of` takes back."""
    return raw.decode("utf-8", "surrogateescape")
