"""Blocking file-system calls: opening folders without following links, writing durable files, syncing in batches."""

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import stat
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Final

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BATCH: Final = 8
"""With at least this many files, one syncfs is faster than an fsync of each."""


@contextlib.contextmanager
def opened(path: str, parent: int | None = None) -> Iterator[int]:
    """Opens a folder and yields its descriptor, which is closed afterwards.

    With `parent`, the descriptor of a folder, `path` is relative to it, and a symbolic link in its place isn't
    followed: somebody may have planted it. Raises OSError, which is ENOTDIR or ELOOP for a link.
    """
    descriptor = os.open(path, _FOLDER if parent is None else _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def identity(descriptor: int) -> tuple[int, int]:
    """Returns device and inode, a pair that no two files or folders share at the same time."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def has_name(descriptor: int, path: str) -> bool:
    """Whether the path currently names the file or folder that the descriptor has open."""
    try:
        found = os.stat(path)  # noqa: PTH116 - like the other calls here, it works on plain strings
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == identity(descriptor)


def make_folder(name: str, parent: int) -> None:
    """Creates a folder in `parent` and syncs `parent`, unless the folder already exists."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=parent)
        fsync(parent)


def create(name: str, folder: int, content: bytes, *, sync: bool) -> None:
    """Writes a new file; with `sync` its content is durable, but its name isn't until the folder is synced."""
    descriptor = os.open(name, _CREATE, 0o666, dir_fd=folder)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if sync:
            fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(draft: str, drafts: int, name: str, folder: int) -> bool:
    """Links a draft under its final name, atomically; returns False if a regular file has that name already.

    Raises:
        OSError: something other than a regular file has the name, or the file system has failed.
    """
    try:
        os.link(draft, name, src_dir_fd=drafts, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        if not is_regular(name, folder):
            raise
        return False
    return True


def read(name: str, folder: int) -> bytes | None:
    """Returns a file's content, or None if it isn't a regular file. Raises FileNotFoundError or another OSError."""
    try:
        descriptor = os.open(name, _READ, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EMLINK):
            return None  # a link, or a device
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def is_regular(name: str, folder: int) -> bool:
    """Whether the name exists in the folder and is a regular file: not a link, folder or device."""
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def remove(names: Iterable[str], folder: int) -> None:
    """Removes files from a folder; those that are missing are ignored."""
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def age_seconds(name: str, folder: int, now: float) -> float:
    """Returns how many seconds before `now` (Unix time) the file was written; 0 if it is gone."""
    try:
        return now - os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return 0.0


def fsync(descriptor: int) -> None:
    """Waits until the data is on the disk. On macOS that needs F_FULLFSYNC: fsync stops at the disk's cache."""
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def sync_all_of(folder: int) -> None:
    """Syncs the folder's whole file system, which is faster than syncing each file of a large batch."""
    if _libc().syncfs(folder):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def syncs_in_batches(files: int) -> bool:
    """Whether `sync_all_of` works here, reports failed writes (since Linux 5.8), and is faster for so many files."""
    return files >= _BATCH and _has_syncfs()


@cache
def _has_syncfs() -> bool:
    if sys.platform != "linux":
        return False
    major, minor = platform.release().split(".")[:2]
    digits = "".join(filter(str.isdigit, minor))
    return (int(major), int(digits or 0)) >= (5, 8) and hasattr(_libc(), "syncfs")


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)
