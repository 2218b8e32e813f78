"""Hostile bytes and texts, fast and the same again for the same seed: seeds of each target, mutated and joined."""

import random
from collections.abc import Iterator, Sequence
from typing import Final

# What parsers, scripts, shells, file systems and terminals have tripped over.
NASTY: Final = (
    b"", b"\0", b"\n", b"\r\n", b"\x1b[2J", b"{", b"}", b"{wb:", b"{wb:x:0}:rec:", b"%", b"%00", b"%2f", b"../", b"..",
    b"/", b"~", b"'", b'"', b"`", b";", b"--", b"@", b":", b"?", b"#", b"&", b"=", b"://", b"\xff", b"\xc3",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x92\xa9", "\u0131".encode(), "\u0130".encode(), "\u202e".encode(), "\ufeff".encode(), b"NaN",
    b"-Infinity", b"1e999", b"null",
    b"-1", b"0", b"4294967296", b"9223372036854775808", b"18446744073709551616", b"\xc1", b"\xdf\xff\xff\xff\xff",
    b"[" * 40,
    b"\x91" * 40, b"A" * 300, b"pj", b"dj", b"CON", b"password=", b"redis.call", b"$(id)", b"*3\r\n$3\r\nSET\r\n",
)  # fmt: skip

_CHARACTERS: Final = (
    "abzABZ019_-.~%{}[]()/\\:;@#?&=+*'\"`$ \t\n\r\0\x1b\x7f\x85é\u0130\u0131\u2028\u202e\ufeff\ud800\udfff\U0001f4a9"
)


def mutations(rng: random.Random, seeds: Sequence[bytes], count: int) -> Iterator[bytes]:
    """So many inputs: seeds with bytes changed, cut, doubled, joined to each other or with something nasty in them."""
    pool = [*seeds, *NASTY]
    choose, number, bits = rng.choice, rng.random, rng.getrandbits
    for _ in range(count):
        data = choose(seeds) if number() < 0.8 else choose(pool)
        size = len(data)
        at = int(number() * (size + 1))
        what = bits(3)
        if what == 0 and size:
            at = min(at, size - 1)
            data = data[:at] + bytes((data[at] ^ (1 << bits(3)),)) + data[at + 1 :]
        elif what == 1:
            data = data[:at]
        elif what == 2:
            data = data[:at] + choose(NASTY) + data[at:]
        elif what == 3:
            other = choose(pool)
            data = data[:at] + other[int(number() * (len(other) + 1)) :]
        elif what == 4:
            data = data[:at] + rng.randbytes(1 + bits(3)) + data[at:]
        elif what == 5:
            data = data[:at] + choose(NASTY) + data[at + bits(3) :]
        elif what == 6:
            data = data[:at] + rng.randbytes(1 + bits(2)) + data[at + bits(2) :]
        else:
            data = rng.randbytes(bits(6))
        yield data


def text_of(data: bytes) -> str:
    """The bytes as text, with lone surrogates where they are no UTF-8, as an operating system gives it."""
    return data.decode("utf-8", "surrogateescape")


def hostile_text(rng: random.Random, longest: int) -> str:
    """A text of characters that mean something to somebody."""
    return "".join(rng.choices(_CHARACTERS, k=rng.randint(0, longest)))
