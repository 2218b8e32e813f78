"""Who is reading a folder: superseded files stay until everybody who may be looking for them has left.

A listing is no snapshot: it can pass the place of a new file before that is linked, and come to the place of the old
one after that is unlinked. It does show whatever was there from its beginning to its end. So a reader holds a lock
while it lists and reads, and whoever has given a newer file its name looks afterwards which locks are held: readers who
come later find the newer file, and for those who are there now the older one is kept until they have left. Nobody ever
waits for a lock, so a reader that is frozen holds up removals and nothing else; the lock of a killed one is gone.
"""

import fcntl
import secrets
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_FLOCK: Final = struct.Struct("hhqqi4x")
"""struct flock of Linux on 64 bits: type, whence, start, length (0 is to the end), process."""
_END: Final = 2**62
_HAS_OFD: Final = hasattr(fcntl, "F_OFD_SETLK") and struct.calcsize("P") == 8


@contextmanager
def reading(folder: int) -> Iterator[None]:
    """Whoever lists a folder, and reads what the listing shows, does it inside.

    Args:
        folder: a descriptor that nobody else uses meanwhile.
    """
    if not _HAS_OFD:
        # Elsewhere a probe (see below) may be in the way for a moment.
        fcntl.flock(folder, fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(folder, fcntl.LOCK_UN)
        return
    # Each reader has a byte of its own, which says which reader it is.
    _lock(folder, fcntl.F_RDLCK, secrets.randbits(62))
    try:
        yield
    finally:
        # Closing would not do: a child that was forked meanwhile has the descriptor, too.
        _lock(folder, fcntl.F_UNLCK, 0, _END)


def present(folder: int) -> frozenset[int]:
    """The readers who are there at this moment; an empty set says that there are none."""
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
    """Where a lock in this range begins and ends, if there is one."""
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
