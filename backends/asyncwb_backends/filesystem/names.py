"""File names: from any key to a safe one and its bucket, and from a file's name to key part, version and kind."""

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
"""Codec -> the suffix of its files, unless the user chooses another for one of them."""

_SAFE: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.@+=,")
_DEVICE: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_SUFFIX: Final = re.compile(r"(\.[a-z][a-z0-9_-]*)+")
_LONGEST_SUFFIX: Final = 32
_LONGEST_STEM: Final = 200
"""Of the 255 bytes that file systems allow: a dot, a version and a suffix come after it."""
_READABLE: Final = 100


@dataclass(frozen=True, slots=True)
class Stem:
    """The part of a file's name that stands for a key.

    Attributes:
        name: safe on every file system; two keys never have the same, not even where case or Unicode forms are folded.
        bucket: the folder it is in, "" for none.
        hashed: whether the name holds only a hash of the key, so that the key has to be kept in a file of its own.
        key: as UTF-8.
    """

    name: str
    bucket: str
    hashed: bool
    key: bytes


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file's name: of which stem and version it is, and its kind: a codec's name, `DELETED` or `KEY`."""

    name: str
    stem: str
    version: Version
    kind: str


class Names:
    """How the files of one folder are called: `<stem>.<version><suffix>`.

    Args:
        fanout: how many hexadecimal digits of a hash of the key name its bucket: 0 to 3, for 1 to 4096 buckets.
        codec: the codec that `suffix` is for.
        suffix: of that codec's files; None is the codec's own.

    Raises:
        ConfigurationError: the suffix would make names that can't be told apart.
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
        """Raises UnicodeEncodeError for a key that is no Unicode text."""
        raw = key.encode()
        digest = hashlib.sha256(raw).hexdigest()
        name = _quoted(raw)
        hashed = len(name) > _LONGEST_STEM
        if hashed:
            name = f"{name[:_READABLE]}~~{digest}"  # no quoted key has two tildes in a row
        return Stem(name, digest[: self.fanout], hashed, raw)

    def buckets(self) -> list[str]:
        """All of them."""
        return [f"{number:0{self.fanout}x}" for number in range(16**self.fanout)] if self.fanout else [""]

    def file(self, stem: Stem, version: Version, kind: str) -> str:
        """The name of a file."""
        return f"{stem.name}.{version}{self.suffixes[kind]}"

    def parse(self, name: str) -> Parsed | None:
        """None for a file that isn't the backend's."""
        match = self._pattern.fullmatch(name)
        return Parsed(name, match[1], int(match[2]), self._kinds[match[3]]) if match else None

    def listing(self, folder: int, wanted: Iterable[str] | None) -> dict[str, list[Parsed]]:
        """Stem -> its files in an open folder, the highest version first; of the wanted stems, or of all."""
        found: dict[str, list[Parsed]] = defaultdict(list) if wanted is None else {name: [] for name in wanted}
        for name in os.listdir(folder):
            parsed = self.parse(name)
            if parsed is not None and (wanted is None or parsed.stem in found):
                found[parsed.stem].append(parsed)
        for files in found.values():
            files.sort(key=lambda each: each.version, reverse=True)
        return found


def _quoted(raw: bytes) -> str:
    """A key's UTF-8 with `%xx` for what is unsafe somewhere; capitals stay, and `~` with a mask says where they are.

    So `Ada`, `ada` and `ADA` are `Ada~1`, `ada` and `ADA~7`: still different where case is folded.
    """
    text = "".join(chr(byte) if byte in _SAFE else f"%{byte:02x}" for byte in raw)
    # Hidden files, options of commands, and names that are devices on some systems.
    if text.startswith((".", "-")) or _DEVICE.match(text):
        text = f"%{ord(text[0]):02x}{text[1:]}"
    capitals = sum(1 << at for at, letter in enumerate(text) if letter.isupper())
    return f"{text}~{capitals:x}" if capitals else text
