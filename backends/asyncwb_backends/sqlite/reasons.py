"""Explains why SQLite can't use a file, and what to do: SQLite's own messages are brief and omit the system's error."""

import errno
import os
import resource
import sqlite3
from pathlib import Path
from typing import Final

_FILES: Final = 4
"""How many descriptors SQLite needs: for the file, its log, the log's index, and the folder."""
_WHAT_TO_DO: Final = {
    "database is locked": "another process holds its lock: find it with `fuser`, and end its transaction",
    "readonly": "this user may not write the file or its folder: mend their permissions",
    "disk is full": "free some space; what is unsaved waits in Redis",
    "disk I/O error": "see the system's log; SQLite can't be used on some network file systems",
    "not a database": "name another file, or restore this one",
    "malformed": "the file is damaged: restore it from a backup",
}


def explain(path: Path, error: sqlite3.Error) -> str:
    """Returns SQLite's error message, and what to do about it, if known."""
    text = str(error)
    advice = _why_not_opened(path) if "unable to open" in text else ""
    for part, what in _WHAT_TO_DO.items():
        if part in text:
            advice = what
    return f"{text}; {advice}" if advice else text


def _why_not_opened(path: Path) -> str:
    if not path.parent.is_dir():
        return f"folder {path.parent} doesn't exist, make it first"
    if path.is_dir():
        return "it is a folder: name a file in it"
    descriptors: list[int] = []
    try:
        # Open as many descriptors as SQLite needs; of the folder if the file doesn't exist yet.
        opened = (os.open(path if path.exists() else path.parent, os.O_RDONLY) for _ in range(_FILES))
        descriptors.extend(opened)
    except OSError as problem:
        if problem.errno in (errno.EMFILE, errno.ENFILE):
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            return f"too many files are open in this process (`ulimit -n` is {most}): raise the limit, or close some"
        return f"{problem.strerror}: mend the permissions of the file and its folder"
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        return "this user may not write there: mend the permissions of the file and its folder"
    return ""
