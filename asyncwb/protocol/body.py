"""The body of a write in Redis: its kind, its codec and its payload. Everything that depends on the kind is here."""

from collections.abc import Iterable
from enum import Enum
from typing import Final, TypeGuard

from asyncwb.records import CodecName, Record, Version


class Kind(Enum):
    """What a write does to its key; as bytes, the first of the body."""

    PUT = b"p"
    """Replaces the value by the payload, which is encoded with the codec."""
    DELETE = b"d"
    """Leaves a tombstone. There is no payload, and the codec has no meaning."""
    UPDATE = b"u"
    """Changes the value by operations, see `asyncwb.updates`; the payload is an entry of these."""


_CODECS: Final[dict[CodecName, bytes]] = {"json": b"j", "msgpack": b"m", "bytes": b"b"}
PREFIX_BYTES: Final = 2
"""The length of a body's kind and codec."""

CODECS: Final[dict[bytes, CodecName]] = {byte: name for name, byte in _CODECS.items()}
"""The byte of a codec -> its name."""
CODEC_OF_PUT: Final[dict[bytes, CodecName]] = {Kind.PUT.value + byte: name for name, byte in _CODECS.items()}
"""The first two bytes of the body of a put -> its codec."""
DELETE_BODY: Final = Kind.DELETE.value + _CODECS["json"]
"""The whole body of a delete."""


def is_codec(name: str) -> TypeGuard[CodecName]:
    """Whether this version of asyncwb knows a codec of this name."""
    return name in _CODECS


def put_prefix(codec: CodecName) -> bytes:
    """The bytes before the payload in the body of a put."""
    return Kind.PUT.value + _CODECS[codec]


_ABSENT: Final = b"\xff" * 8
_NO_TOKEN: Final = bytes(16)
PLAIN_KINDS: Final = frozenset((ord(Kind.PUT.value), ord(Kind.DELETE.value)))
"""The first bytes of bodies that replace whatever there is: of puts and deletes without a condition."""


def update_prefix(codec: CodecName) -> bytes:
    """The bytes before the entry in the body of an update."""
    return Kind.UPDATE.value + _CODECS[codec]


def is_plain(body: bytes) -> bool:
    """Whether this is the body of a put or a delete without a condition."""
    return body[0] in PLAIN_KINDS


def is_conditional(body: bytes) -> bool:
    """Whether a write with this body has a condition: its kind is an upper-case letter."""
    return body[0] < ord("a")


def most_special(writes: Iterable[tuple[bytes, bytes]]) -> int:
    """0 if the bodies of all these writes are plain; 1 if there are updates; 2 if there are conditions, too."""
    kinds = {body[0] for _, body in writes}
    if kinds <= PLAIN_KINDS:
        return 0
    return 2 if min(kinds) < ord("a") else 1


def conditional(body: bytes, expected: Version | None, token: bytes = _NO_TOKEN) -> bytes:
    """The body of the same write on a condition.

    Args:
        body: without a condition.
        expected: the version that the key has to have; None: it has to be absent or deleted.
        token: if Redis has no record of the key in its present epoch, this token of the key has to be there, see
            lua/steps/take_token.lua. Without one, nothing is written in that case.
    """
    version = _ABSENT if expected is None else expected.to_bytes(8)
    return body[:1].upper() + body[1:PREFIX_BYTES] + version + token + body[PREFIX_BYTES:]


def record_of(key: str, version: Version, body: bytes) -> Record:
    """The record that a write with this body makes; raises ValueError if it is no body of a write."""
    codec = CODEC_OF_PUT.get(body[:PREFIX_BYTES])
    if codec is not None:
        return Record(key, version, body[PREFIX_BYTES:], codec=codec)
    # Compared exactly, because what is taken for a tombstone deletes a row.
    if body == DELETE_BODY:
        return Record(key, version, deleted=True)
    raise ValueError("no body of a write")
