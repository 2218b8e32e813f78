"""Tracks who is reading a folder, so that superseded files are kept until all who may be looking for them have left.

A directory listing is not a snapshot: it can pass the position of a new file before that is linked, and reach the
position of the old one after that is unlinked. It does show whatever existed from its beginning to its end. So a reader
holds a lock while it lists and reads, and a writer checks which locks are held after it has published a newer file:
readers who come later find the newer file, and for those present now the older one is kept until they have left. With
open-file-description locks (Linux) nobody waits for a lock, so a frozen reader delays removals and nothing else. The
system releases the lock of a killed process.
"""

import fcntl
import secrets
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_FLOCK: Final = struct.Struct("hhqqi4x")
"""The `struct flock` of 64-bit Linux: type, whence, start, length (0 means to the end), process."""
_END: Final = 2**62
_HAS_OFD: Final = hasattr(fcntl, "F_OFD_SETLK") and struct.calcsize("P") == 8


@contextmanager
def reading(folder: int) -> Iterator[None]:
    """Marks the caller as a reader of the folder while it lists the folder and reads the files listed.

    Args:
        folder: an open descriptor that nobody else uses at the same time.
    """
    if not _HAS_OFD:
        # Without such locks this may wait for a moment, while `_probe` holds its exclusive lock.
        fcntl.flock(folder, fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(folder, fcntl.LOCK_UN)
        return
    # Each reader locks a random byte, whose position identifies the reader.
    _lock(folder, fcntl.F_RDLCK, secrets.randbits(62))
    try:
        yield
    finally:
        # Closing the descriptor isn't enough: a child process that was forked meanwhile may hold a copy of it.
        _lock(folder, fcntl.F_UNLCK, 0, _END)


def present(folder: int) -> frozenset[int]:
    """Returns the ids of the current readers; the set is empty if there are none."""
    if not _HAS_OFD:
        return frozenset() if _probe(folder) else frozenset([0])
    found = set()
    spans = [(0, _END)]
    while spans:
        start, end = spans.pop()
        if start < end and (lock := _held(folder, start, end)):
            found.add(lock[0])
            spans += [(start, lock[0]), (lock[1], end)]
    return frozenset(found)


def _lock(folder: int, kind: int, start: int, length: int = 1) -> None:
    fcntl.fcntl(folder, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, 0, start, length, 0))


def _held(folder: int, start: int, end: int) -> tuple[int, int] | None:
    """Returns the start and end of one lock that is held in this range, or None."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, 0, start, end - start, 0)
    kind, _, first, length, _ = _FLOCK.unpack(fcntl.fcntl(folder, fcntl.F_OFD_GETLK, asked))
    if kind == fcntl.F_UNLCK:
        return None
    return first, first + length if length else _END


def _probe(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(folder, fcntl.LOCK_UN)
    return True
