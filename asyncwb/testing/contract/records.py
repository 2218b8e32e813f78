"""Records and keys that the contract's tests save."""

from typing import Final

import msgspec

from asyncwb.records import Record, Version, make_version

NAMESPACE: Final = "contract"
"""The namespace that the contract's tests open backends for."""

KEYS: Final = (
    "a", "42", "with space", " lead", "trail ", "ключ", "日本語", "🙂", "e\u0301", "\u00e9", "\u017f", "s", "ß", "ss",
    "a/b", "a", "/", "/etc/passwd", "../up", "..", ".", ".hidden", "a\\b", "C:\\x", "quote'\"", "`tick`", "%s", "%2e",
    "%00", "{x}", "$dollar", "$where", "dot.ted", ".", "nul\0byte", "\0", "line\nbreak", "tab\t", "\x1b[31m", "\x7f",
    "CON", "con", "nul.txt", "COM1", "Case", "case", "CASE", "-", "--", "-rf", "~", "~root", "?", "*", "[a-z]", "#",
    "; DROP TABLE x; --", "null", "None", "0", "00", "1e3", "_id", "_asyncwb", "asyncwb", "\ufeffbom", "a\u200bb",
    "\u202eright", "x" * 1024, "X" * 1024, "x" * 1023 + "y", "é" * 512, "/" * 1024, "\0" * 1024,
)  # fmt: skip
"""Keys that have broken storages before; all of them are legal."""


def version(seq: int, epoch: int = 1) -> Version:
    """Returns a version from a sequence number and an epoch."""
    return make_version(epoch, seq)


def put(key: str, seq: int, payload: bytes = b'{"n":1}', *, epoch: int = 1) -> Record:
    """Returns a record with a JSON value."""
    return Record(key, version(seq, epoch), payload)


def on(seq: int, record: Record, *, epoch: int = 1) -> Record:
    """Returns the same record, based on a version; on 0, that is on nothing, if `seq` is 0."""
    return msgspec.structs.replace(record, based_on=version(seq, epoch) if seq else 0)


def tombstone(key: str, seq: int, *, epoch: int = 1) -> Record:
    """Returns a record that deletes its key."""
    return Record(key, version(seq, epoch), deleted=True)
