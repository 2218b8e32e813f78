"""Reads files as `asyncwb ingest` does, for tests that need no server."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from asyncwb.cli.ingest.reading import Reading
from asyncwb.cli.ingest.rows import Key, MalformedLine, Row

Read = Callable[..., list[Any]]


def read_files(files: dict[str, bytes] | Sequence[str], **options: Any) -> list[Any]:
    """Returns (line, key, value) for each row, and the message of each malformed line, as read with these options.

    The options are those of `Reading`. Given names with contents, as in `read_files({"a.csv": b"..."})`, this writes
    the files first.
    """
    if isinstance(files, dict):
        for name, content in files.items():
            Path(name).write_bytes(content)
    options = {"key": Key(("id",)), **options}
    items = [item for chunk in Reading(**options).chunks(list(files)) for item in chunk.items]
    assert all(isinstance(item, Row | MalformedLine) for item in items)
    return [(item.line, item.key, item.value) if isinstance(item, Row) else str(item) for item in items]


def keys(found: list[Any]) -> list[str]:
    """Returns the keys of rows and the messages of malformed lines, from what `read_files` returned."""
    return [each[1] if isinstance(each, tuple) else each for each in found]
