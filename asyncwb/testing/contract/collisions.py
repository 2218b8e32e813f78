"""Keys that storages have confused: families of keys that differ only in what some storage ignores."""

# ruff: noqa: RUF001 - letters that look alike are what this is about

import base64
import hashlib
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

BLANKS: Final = (
    ("a", "a ", "a  ", " a", "  a", " a ", "a\t", "a\n", "a\r", "a\r\n", "\ta", "a\u00a0", "a\u3000", "a\0", "a\0\0"),
    (" ", "  ", "\t", "\n", "\u00a0", "\u3000", "\0"),
    ("a b", "a  b", "a\tb", "a\nb", "ab", "a\u00a0b"),
)  # fmt: skip
"""Keys that are the same when padded or trimmed, as CHAR columns and PAD SPACE collations do."""

LETTERS: Final = (
    ("ada", "Ada", "ADA", "aDA", "àda", "áda", "ãda", "äda", "åda", "a\u0300da", "a\u0308da", "a\u030ada", "аda"),
    ("strasse", "straße", "STRASSE", "STRAẞE", "ſtrasse"),
    ("i", "I", "ı", "İ", "i\u0307", "í", "ì"),
    ("k", "K", "\u212a", "å", "Å", "\u212b", "ω", "Ω", "\u2126", "µ", "μ", "σ", "ς", "Σ"),
    ("e", "é", "è", "ê", "ë", "E", "É", "e\u0301", "E\u0301"),
    ("fi", "ﬁ", "1", "①", "１", "¹", "½", "1/2", "1⁄2", "ａ", "a"),
    ("か", "が", "カ", "ガ", "ｶ", "ｶﾞ", "か\u3099"),
    ("œ", "oe", "ø", "o", "ö", "æ", "ae", "ł", "l", "đ", "d", "ñ", "n"),
    ("🍣", "🍺", "🙂", "👍", "👍🏽", "\U0001f1e9\U0001f1ea", "\U0001f1ea\U0001f1e9"),
    ("coop", "co-op", "co.op", "co\u00adop", "co\u200bop", "co\u200dop", "\ufeffcoop", "co_op", "co'op"),
)  # fmt: skip
"""Keys that differ only in case, accents, width, Unicode form or ignorable characters, as collations ignore them."""

WRITTEN: Final = (
    ("1", "01", "001", "1.0", "1.", "+1", "1e0", "0x1", "true", "True"),
    ("0", "-0", "00", "0.0", "null", "NULL", "None", "false", "nan", "NaN"),
    ("9007199254740992", "9007199254740993", "18446744073709551616", "1.8446744073709552e19"),
    ("a/b", "a//b", "a/./b", "/a/b", "a/b/", "a/c/../b", "a\\b", "a\\\\b", "a\bb", "a:b", "a|b"),
    ("a b%", "a%20b%25", "a+b%25", "a%2520b", "a%20b%", "a b%25"),
    ("x_y", "x%y", "xzy", "x?y", "x*y", "x.y", "x[a-z]y", "x\\_y", "x\\%y"),
    ("a'b", "a''b", "a\\'b", 'a"b', 'a""b', "a`b", "a&#39;b", "a&quot;b"),
    ("a\0b", "a\0c", "a\\0b", "a\\x00b", "a\u2400b", "a%00b"),
    ("\\u0061", "\\x61", "\\141", "&#97;", "U+0061", "=61"),
)
"""Keys that are the same, or match each other, if read as numbers, paths, escapes or patterns."""

LENGTHS: Final = (
    16,
    31,
    32,
    63,
    64,
    100,
    127,
    128,
    190,
    191,
    200,
    250,
    254,
    255,
    256,
    500,
    511,
    512,
    767,
    768,
    1000,
    1023,
)
"""Lengths at which storages cut keys off."""

COLLIDING: Final[Mapping[str, tuple[str, str]]] = {
    "crc32": ("1fdc0ee9", "5fb19e8e"), "adler32": ("e2ef524f", "6ea2ef73"),
    "fnv1": ("08dda5e6", "5a7a88d1"), "fnv1a": ("ba45dc26", "994b6ab8"),
    "djb2": ("39d92997", "aff27b66"), "java": ("7c183cc9", "cbf2da3d"),
    "murmur3": ("acf06cdd", "a7755e44"), "md5 start": ("150c1ae8", "1ceedbe9"),
    "md5 end": ("f2184c6f", "0a5f4333"), "sha1 start": ("7f8dfc18", "97e49161"),
    "sha1 end": ("7f6667b9", "6a5ede84"), "sha256 start": ("19beefa9", "a8c01c82"),
    "sha256 end": ("46a558d9", "e797b9be"), "sha512 start": ("792dd774", "e3cfe7e0"),
    "sha512 end": ("a76650df", "5905114b"), "blake2b": ("fc8fdb29", "d0231cd3"),
}  # fmt: skip
"""Hash -> ends of two keys (after `user:`) with the same 32 bits: of a long digest, the first or the last 32."""
COLLIDING_LONG: Final[Mapping[str, tuple[str, str]]] = {
    "crc32": ("1fdc0ee9", "5fb19e8e"), "adler32": ("e2ef524f", "6ea2ef73"),
    "fnv1": ("b542ca4b", "09dbda0e"), "fnv1a": ("ef963f95", "86a8f059"),
    "djb2": ("39d92997", "aff27b66"), "java": ("7c183cc9", "cbf2da3d"),
    "murmur3": ("e44bab3e", "a80a102f"), "md5 start": ("ef7db75e", "146627d3"),
    "md5 end": ("84296ca4", "5ce6a16b"), "sha1 start": ("acfe22ee", "0ae12dc3"),
    "sha1 end": ("4497c7e7", "9482fa54"), "sha256 start": ("978f3462", "5ccfc67c"),
    "sha256 end": ("66b9c32c", "93005674"), "sha512 start": ("3fa7e755", "9a0a8405"),
    "sha512 end": ("05ba8519", "8990da96"), "blake2b": ("bfe6ea67", "802a3d46"),
}  # fmt: skip
"""The same for keys with `LONG` before them, for storages that hash long keys only."""
LONG: Final = "x" * 1000


def cut() -> Iterator[Sequence[str]]:
    """Yields families of keys that are the same up to a length, or except for their beginnings."""
    for length in LENGTHS:
        yield tuple("x" * length + end for end in ("", "a", "b"))
        yield tuple(start + "y" * length for start in ("", "a", "b"))
        yield tuple("é" * (length // 2) + end for end in ("", "a", "é"))
    yield tuple("x" * size for size in range(1018, 1025))


def of_short_hashes() -> Iterator[Sequence[str]]:
    """Yields pairs of keys whose hashes have the same 32 bits."""
    for one, other in COLLIDING.values():
        yield f"user:{one}", f"user:{other}"
    for one, other in COLLIDING_LONG.values():
        yield f"{LONG}user:{one}", f"{LONG}user:{other}"


def of_hashes() -> Iterator[Sequence[str]]:
    """Yields long keys, each with short keys that could be its name in a storage that names long keys by a hash."""
    for long in ("x" * 1024, "é" * 512):
        yield tuple(dict.fromkeys((long, *_names(long))))


def _names(key: str) -> Iterator[str]:
    raw = key.encode()
    for algorithm in ("md5", "sha1", "sha256", "sha384", "sha512", "blake2b", "blake2s"):
        digest = hashlib.new(algorithm, raw, usedforsecurity=False).digest()
        text = digest.hex()
        yield from (text, text.upper(), base64.b64encode(digest).decode(), base64.urlsafe_b64encode(digest).decode())
        yield from (base64.urlsafe_b64encode(digest).decode().rstrip("="), base64.b32encode(digest).decode())
        yield from (text[:length] for length in (8, 10, 12, 16, 20, 24, 32, 40) if length < len(text))
        yield from (
            f"{before}{text}" for before in (f"{algorithm}:", f"{algorithm}-", f"{algorithm}_", "hash:", "#", "~")
        )
        yield from (f"{key[:length]}{between}{text}" for length in (16, 32, 64) for between in ("-", "_", "~", ":", ""))
    for space in (uuid.NAMESPACE_DNS, uuid.NAMESPACE_URL, uuid.NAMESPACE_OID):
        yield from (str(uuid.uuid5(space, key)), str(uuid.uuid3(space, key)), uuid.uuid5(space, key).hex)
    yield from (str(zlib.crc32(raw)), f"{zlib.crc32(raw):08x}", str(zlib.adler32(raw)))
