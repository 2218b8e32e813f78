"""Backends that treat different keys as the same one."""

import hashlib
import re
import unicodedata
import zlib
from collections.abc import Sequence

import msgspec

from asyncwb import Record
from asyncwb.testing import MemoryBackend

from .sound import InMemory


class Renames(MemoryBackend):
    """Keeps each record under a name that it makes of the key."""

    async def save(self, records: Sequence[Record]) -> int:
        return await super().save([renamed(each, self.name(each.key)) for each in records])

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        found = {key: self.records.get(self.name(key)) for key in keys}
        return {key: renamed(record, key) for key, record in found.items() if record is not None}

    def name(self, key: str) -> str:
        return key


def renamed(record: Record, key: str) -> Record:
    return msgspec.structs.replace(record, key=key)


class TestSoundNames(InMemory):
    made = Renames


class PadsKeys(Renames):
    """Compares keys as a collation with PAD SPACE does, which ignores trailing spaces."""

    def name(self, key: str) -> str:
        return key.rstrip(" ") or " "


class TestPadsKeys(InMemory):
    made = PadsKeys


class TrimsKeys(Renames):
    def name(self, key: str) -> str:
        return key.strip() or key


class TestTrimsKeys(InMemory):
    made = TrimsKeys


class FoldsCase(Renames):
    def name(self, key: str) -> str:
        return key.lower()


class TestFoldsCase(InMemory):
    made = FoldsCase


class FoldsAccents(Renames):
    def name(self, key: str) -> str:
        return "".join(each for each in unicodedata.normalize("NFD", key) if not unicodedata.combining(each))


class TestFoldsAccents(InMemory):
    made = FoldsAccents


class NormalizesKeys(Renames):
    def name(self, key: str) -> str:
        return unicodedata.normalize("NFC", key)


class TestNormalizesKeys(InMemory):
    made = NormalizesKeys


class KnowsNoEmoji(Renames):
    """Compares as old collations of MySQL's utf8mb4 do: all characters outside the basic plane have the same weight."""

    def name(self, key: str) -> str:
        return "".join(each if each < "\U00010000" else "\U0001f600" for each in key)


class TestKnowsNoEmoji(InMemory):
    made = KnowsNoEmoji


class TakesKeysForNumbers(Renames):
    def name(self, key: str) -> str:
        return str(int(key)) if re.fullmatch(r"[0-9]{1,18}", key) else key


class TestTakesKeysForNumbers(InMemory):
    made = TakesKeysForNumbers


class TakesKeysForPatterns(Renames):
    """Looks keys up with LIKE where it should use =."""

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        found = {}
        for key in keys:
            pattern = "".join({"%": ".*", "_": "."}.get(each) or re.escape(each) for each in key)
            for name, record in self.records.items():
                if re.fullmatch(pattern, name, re.DOTALL):
                    found[key] = renamed(record, key)
                    break
        return found


class TestTakesKeysForPatterns(InMemory):
    made = TakesKeysForPatterns


class CutsKeys(Renames):
    def name(self, key: str) -> str:
        return key[:255]


class TestCutsKeys(InMemory):
    made = CutsKeys


class ChecksumsKeys(Renames):
    def name(self, key: str) -> str:
        return str(zlib.crc32(key.encode()))


class TestChecksumsKeys(InMemory):
    made = ChecksumsKeys


class ShortensHashes(Renames):
    """Hashes only long keys, but keeps only 32 bits of a good hash."""

    def name(self, key: str) -> str:
        return key if len(key) < 200 else "#" + hashlib.sha256(key.encode()).hexdigest()[:8]


class TestShortensHashes(InMemory):
    made = ShortensHashes


class HashesLongKeys(Renames):
    """Hashes long keys, but a short key may equal the name that a long key gets."""

    def name(self, key: str) -> str:
        return key if len(key.encode()) <= 255 else hashlib.sha256(key.encode()).hexdigest()


class TestHashesLongKeys(InMemory):
    made = HashesLongKeys
