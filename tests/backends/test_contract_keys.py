"""The keys of the contract are legal, all different, and what they are said to be, such as pairs with the same hash."""

import hashlib
import zlib
from collections.abc import Callable
from itertools import chain

import pytest

from asyncwb.testing.contract import KEYS, collisions

WORD = 2**32 - 1


def _polynomial(factor: int, start: int) -> Callable[[bytes], int]:
    def hashed(key: bytes) -> int:
        value = start
        for byte in key:
            value = (value * factor + byte) & WORD
        return value

    return hashed


def _fnv(*, multiply_first: bool) -> Callable[[bytes], int]:
    def hashed(key: bytes) -> int:
        value = 0x811C9DC5
        for byte in key:
            value = (value * 0x01000193) & WORD ^ byte if multiply_first else ((value ^ byte) * 0x01000193) & WORD
        return value

    return hashed


def _murmur3(key: bytes) -> int:
    def rotated(value: int, by: int) -> int:
        return (value << by | value >> (32 - by)) & WORD

    def mixed(block: bytes) -> int:
        return rotated(int.from_bytes(block, "little") * 0xCC9E2D51 & WORD, 15) * 0x1B873593 & WORD

    value, whole = 0, len(key) // 4 * 4
    for at in range(0, whole, 4):
        value = (rotated(value ^ mixed(key[at : at + 4]), 13) * 5 + 0xE6546B64) & WORD
    value ^= mixed(key[whole:]) ^ len(key)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        value = (value ^ value >> shift) * factor & WORD
    return value ^ value >> 16


HASHES: dict[str, Callable[[bytes], object]] = {
    "crc32": zlib.crc32,
    "adler32": zlib.adler32,
    "fnv1": _fnv(multiply_first=True),
    "fnv1a": _fnv(multiply_first=False),
    "djb2": _polynomial(33, 5381),
    "java": _polynomial(31, 0),
    "murmur3": _murmur3,
    "blake2b": lambda key: hashlib.blake2b(key, digest_size=4).digest(),
}
for algorithm in ("md5", "sha1", "sha256", "sha512"):
    HASHES[f"{algorithm} start"] = lambda key, name=algorithm: hashlib.new(name, key).digest()[:4]  # type: ignore[misc]
    HASHES[f"{algorithm} end"] = lambda key, name=algorithm: hashlib.new(name, key).digest()[-4:]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("table", "prefix"), [(collisions.COLLIDING, ""), (collisions.COLLIDING_LONG, collisions.LONG)]
)
def test_pairs_with_the_same_short_hash_have_it(table: dict[str, tuple[str, str]], prefix: str) -> None:
    assert table.keys() == HASHES.keys()
    for name, (one, other) in table.items():
        assert one != other
        hashes = [HASHES[name](f"{prefix}user:{end}".encode()) for end in (one, other)]
        assert hashes[0] == hashes[1], name


def test_keys_of_the_contract_are_legal_and_families_have_no_key_twice() -> None:
    families = [
        *collisions.BLANKS, *collisions.LETTERS, *collisions.WRITTEN,
        *collisions.cut(), *collisions.of_short_hashes(), *collisions.of_hashes(),
    ]  # fmt: skip
    for family in families:
        assert len(set(family)) == len(family)
    for key in chain(KEYS, *families):
        assert 1 <= len(key.encode()) <= 1024
