"""Superseded files: removed at once if no reader may be looking for them, and otherwise later."""

import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from asyncwb_backends.filesystem import disk, readers

_MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Superseded files of one key that can't be removed yet.

    Attributes:
        newer: the name of the file that supersedes them.
        older: their names.
        readers: the readers that were present after the newer file was published.
    """

    newer: str
    older: Sequence[str]
    readers: frozenset[int]


class Superseded:
    """The superseded files of one folder; its methods may be called in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, list[_Waiting]] = defaultdict(list)
        self._count = 0

    def remove(self, older: Sequence[tuple[str, Sequence[str]]], bucket: str, folder: int) -> bool:
        """Removes files now, or remembers them to be removed later.

        Args:
            older: pairs of a published file's name, and the names of the files that it supersedes.
            bucket: the name of the files' bucket.
            folder: a descriptor of the bucket, through which nobody holds a reader's lock.

        Returns:
            Whether the files are gone.
        """
        names = [name for _, each in older for name in each]
        if not names:
            return True
        present = readers.present(folder)
        if not present:
            disk.remove(names, folder)
            return True
        waiting = [_Waiting(newer, each, present) for newer, each in older if each]
        with self._lock:
            # So many pile up only while a reader is frozen; the sweep finds those that aren't remembered here.
            if self._count < _MOST:
                self._waiting[bucket] += waiting
                self._count += len(waiting)
        return False

    def remove_waiting(self, root: int) -> None:
        """Removes remembered files whose readers have left. Raises OSError."""
        if not self._count:
            return
        with self._lock:
            waiting, self._waiting, self._count = self._waiting, defaultdict(list), 0
        for bucket, files in waiting.items():
            try:
                with disk.opened(bucket or ".", root) as folder:
                    left = _remove(files, folder)
            except FileNotFoundError:
                continue  # the bucket was removed
            with self._lock:
                self._waiting[bucket] += left
                self._count += len(left)


def _remove(files: Sequence[_Waiting], folder: int) -> list[_Waiting]:
    """Removes what can be removed, and returns those that some reader may still be looking for."""
    present = readers.present(folder)
    left = []
    for each in files:
        if each.readers & present:
            left.append(each)
        elif disk.is_regular(each.newer, folder):
            # If `newer` is gone, it was superseded itself, and whoever did that removed all of these; or the folder
            # is another one, restored from a backup.
            disk.remove(each.older, folder)
    return left
