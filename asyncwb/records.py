"""What travels from Redis to a backend: a key, a version and the bytes of a value or a tombstone."""

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import msgspec

from asyncwb.errors import InvalidArgument

CodecName = Literal["json", "msgpack", "bytes"]

Version = int
"""`epoch << 32 | seq`, a positive 63-bit integer; the higher version of a key is the newer write."""

SEQ_BITS: Final = 32
MAX_SEQ: Final = 2**SEQ_BITS - 1
MAX_EPOCH: Final = 2**31 - 1


def make_version(epoch: int, seq: int) -> Version:
    """Joins an epoch (which history of Redis) and a sequence number (which write of it)."""
    return epoch << SEQ_BITS | seq


def epoch_of(version: Version) -> int:
    """The epoch that a version belongs to."""
    return version >> SEQ_BITS


def is_foreign(stored: Version, *, present: Version, allotted: int, foreign: Sequence[tuple[int, int]] = ()) -> bool:
    """Whether a version that a backend holds is foreign: no history of its namespace can have made it.

    Such a version came with data that was restored or copied, or was in the column before asyncwb used it. It doesn't
    show which write is newer.

    Args:
        stored: the version that the backend holds.
        present: the version of the server's newest write, from its epoch and seq; read after `stored`.
        allotted: the highest epoch that the backend has allotted, read after `stored`.
        foreign: the first and last of each range of epochs that are known to be foreign.
    """
    epoch = epoch_of(stored)
    if any(lowest <= epoch <= highest for lowest, highest in foreign):
        return True
    # A version above the server's own epoch, but of an allotted one, was made by another server, usually its successor.
    return stored > present and not epoch_of(present) < epoch <= allotted


_UNDECODED: Final = object()
_DECODE: Final[dict[str, Callable[[bytes], Any]]] = {"json": msgspec.json.decode, "msgpack": msgspec.msgpack.decode}


class _Positional(msgspec.Struct):
    key: str
    version: Version
    payload: bytes = b""


class Record(_Positional, kw_only=True, eq=False, gc=False):
    """One write on its way to a backend.

    It is a struct, because a batch has a thousand of them: a struct is made in a quarter of the time of an ordinary
    object, and the garbage collector doesn't track it.

    Attributes:
        key: the user's key, 1 byte to 1 KiB in UTF-8.
        version: the fencing version; a backend applies a record only if it is higher than the stored one.
        payload: the encoded value.
        codec: how `payload` is encoded.
        deleted: True for a tombstone, whose payload is empty.
        based_on: the version that the value was worked out from. A backend applies the record only if exactly that
            version is stored for the key: 0 if nothing is stored, or something without a version; a tombstone counts
            with its version. None, the default, means any version below the record's own. It isn't stored, so records
            that are loaded don't have it.

    Raises:
        InvalidArgument: `based_on` is negative, or not below `version`.
    """

    codec: CodecName = "json"
    deleted: bool = False
    based_on: Version | None = None
    _value: Any = _UNDECODED

    def __post_init__(self) -> None:
        if self.based_on is not None and not 0 <= self.based_on < self.version:
            raise InvalidArgument(
                f"key {self.key!r}: version {self.version} can't be based on version {self.based_on}: that has to be "
                "from 0 up to what is below the record's own"
            )

    @property
    def value(self) -> Any:
        """The value as plain Python (dict, list, str, int, … or bytes), decoded once; None for a tombstone.

        Raises:
            msgspec.DecodeError: the payload isn't valid in its codec.
        """
        if self._value is _UNDECODED:
            if self.deleted:
                self._value = None
            elif self.codec == "bytes":
                self._value = self.payload
            else:
                try:
                    self._value = _DECODE[self.codec](self.payload)
                except msgspec.DecodeError:
                    raise
                except (ValueError, RecursionError) as error:  # text that isn't UTF-8; nested too deeply
                    raise msgspec.DecodeError(str(error)) from error
        return self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return (self.key, self.version, self.deleted, self.codec, self.payload, self.based_on) == (
            other.key,
            other.version,
            other.deleted,
            other.codec,
            other.payload,
            other.based_on,
        )

    def __hash__(self) -> int:
        return hash((self.key, self.version))

    def __repr__(self) -> str:
        # No payload: records are logged, and values may be confidential.
        what = "deleted" if self.deleted else f"{self.codec}, {len(self.payload)} bytes"
        on = "" if self.based_on is None else f" on {_shown(self.based_on)}"
        return f"Record({self.key!r}, {_shown(self.version)}{on}, {what})"


def _shown(version: Version) -> str:
    return f"{epoch_of(version)}.{version & MAX_SEQ}"
