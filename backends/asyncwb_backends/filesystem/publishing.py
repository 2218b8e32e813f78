"""The lock of a folder under which files get their names, in any process.

A record that is based on a version may be published only if no other name is added between looking and linking. So
whoever publishes such records holds the lock alone, for the milliseconds that this takes, and everybody else shares it.
The system releases the lock of a killed process, but a process that is stopped keeps it.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from asyncwb import BackendUnavailable

LOCK: Final = "lock"
_WAIT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.001
_OPEN: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def publishing(own: int, *, alone: bool, place: str) -> Iterator[None]:
    """Holds the lock, together with others or alone.

    Args:
        own: a descriptor of the folder's `.asyncwb`.
        alone: whether nobody else may publish meanwhile.
        place: what to call the folder in the message.

    Raises:
        BackendUnavailable: others have held the lock for too long.
        OSError: from the file system.
    """
    lock = os.open(LOCK, _OPEN, 0o666, dir_fd=own)
    try:
        _take(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, place)
        try:
            yield
        finally:
            # Closing the descriptor isn't enough: a child process that was forked meanwhile may hold a copy of it.
            fcntl.flock(lock, fcntl.LOCK_UN)
    finally:
        os.close(lock)


def _take(lock: int, kind: int, place: str) -> None:
    # It polls, because a thread that waits in the kernel can't be given a time limit.
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise BackendUnavailable(
                    f"{place}: another process has held .asyncwb/{LOCK} in it for {_WAIT_SECONDS:g} s: is one stopped "
                    "in the middle of a save? End it, or let it go on"
                ) from None
            time.sleep(_POLL_SECONDS)
        else:
            return
