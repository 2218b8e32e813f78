"""File names: makes a safe name and a bucket from any key, and parses a file's name into stem, version and kind."""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from asyncwb import ConfigurationError, Version

DELETED: Final = "deleted"
KEY: Final = "key"
CODECS: Final = {"json": ".json", "msgpack": ".msgpack", "bytes": ".bin"}
"""Codec -> the suffix of its files; the user may choose another for one of the codecs."""

_SAFE: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.@+=,")
_DEVICE: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_SUFFIX: Final = re.compile(r"(\.[a-z][a-z0-9_-]*)+")
_LONGEST_SUFFIX: Final = 32
_LONGEST_STEM: Final = 200
"""In bytes. File systems allow 255, of which a dot, the version and the suffix need the rest."""
_READABLE: Final = 100


@dataclass(frozen=True, slots=True)
class Stem:
    """The part of a file's name that stands for a key.

    Attributes:
        name: safe on every file system; two keys never share one, even where case or Unicode forms are folded.
        bucket: the sub-folder that holds the files; "" for none.
        hashed: whether the name contains a hash instead of the whole key, so that the key needs a file of its own.
        key: the key as UTF-8.
    """

    name: str
    bucket: str
    hashed: bool
    key: bytes


@dataclass(frozen=True, slots=True)
class Parsed:
    """A parsed file name: its stem, its version, and its kind, which is a codec's name, `DELETED` or `KEY`."""

    name: str
    stem: str
    version: Version
    kind: str


class Names:
    """How the files of one folder are named: `<stem>.<version><suffix>`.

    Args:
        fanout: how many hexadecimal digits of the key's hash form the bucket's name: 0 to 3, for 1 to 4096 buckets.
        codec: the codec that `suffix` applies to.
        suffix: the suffix of that codec's files; None means the codec's usual one.

    Raises:
        ConfigurationError: the suffix is malformed, or is already that of another kind of file.
    """

    def __init__(self, *, fanout: int, codec: str, suffix: str | None) -> None:
        suffixes = dict(CODECS)
        if suffix is not None:
            if not _SUFFIX.fullmatch(suffix) or len(suffix) > _LONGEST_SUFFIX:
                raise ConfigurationError(f"suffix {suffix!r}: write for example .json; a dot, then a-z 0-9 _ -")
            suffixes[codec] = suffix
        kinds = {**{own: name for name, own in suffixes.items()}, ".deleted": DELETED, ".key": KEY}
        if len(kinds) != len(suffixes) + 2:
            raise ConfigurationError(f"suffix {suffix!r} is taken for files of another kind: choose another")
        self.suffixes: Mapping[str, str] = {kind: own for own, kind in kinds.items()}
        self.fanout = fanout
        self._kinds = kinds
        longest_first = sorted(kinds, key=len, reverse=True)
        self._pattern = re.compile(rf"(.+)\.([0-9]{{1,19}})({'|'.join(map(re.escape, longest_first))})", re.DOTALL)

    def stem(self, key: str) -> Stem:
        """Returns the stem for a key. Raises UnicodeEncodeError if the key isn't valid Unicode."""
        raw = key.encode()
        digest = hashlib.sha256(raw).hexdigest()
        name = _quoted(raw)
        hashed = len(name) > _LONGEST_STEM
        if hashed:
            name = f"{name[:_READABLE]}~~{digest}"  # no quoted key has two tildes in a row
        return Stem(name, digest[: self.fanout], hashed, raw)

    def buckets(self) -> list[str]:
        """Returns the names of all buckets; only "" if there are no sub-folders."""
        return [f"{number:0{self.fanout}x}" for number in range(16**self.fanout)] if self.fanout else [""]

    def file(self, stem: Stem, version: Version, kind: str) -> str:
        """Returns the name of the file of this stem, version and kind."""
        return f"{stem.name}.{version}{self.suffixes[kind]}"

    def parse(self, name: str) -> Parsed | None:
        """Parses a file's name; returns None if it isn't one of the backend's files."""
        match = self._pattern.fullmatch(name)
        return Parsed(name, match[1], int(match[2]), self._kinds[match[3]]) if match else None

    def listing(self, folder: int, wanted: Iterable[str] | None) -> dict[str, list[Parsed]]:
        """Returns stem -> its files in an open folder, highest version first; for the wanted stems, or all if None."""
        found: dict[str, list[Parsed]] = defaultdict(list) if wanted is None else {name: [] for name in wanted}
        for name in os.listdir(folder):
            parsed = self.parse(name)
            if parsed is not None and (wanted is None or parsed.stem in found):
                found[parsed.stem].append(parsed)
        for files in found.values():
            files.sort(key=lambda each: each.version, reverse=True)
        return found


def _quoted(raw: bytes) -> str:
    """Writes bytes that are unsafe on some system as `%xx`, and appends `~` and a hexadecimal mask of the capitals.

    Thus `Ada`, `ada` and `ADA` become `Ada~1`, `ada` and `ADA~7`, which differ even where case is folded.
    """
    text = "".join(chr(byte) if byte in _SAFE else f"%{byte:02x}" for byte in raw)
    # Avoid hidden files, names that look like command-line options, and names of devices on some systems.
    if text.startswith((".", "-")) or _DEVICE.match(text):
        text = f"%{ord(text[0]):02x}{text[1:]}"
    capitals = sum(1 << at for at, letter in enumerate(text) if letter.isupper())
    return f"{text}~{capitals:x}" if capitals else text
