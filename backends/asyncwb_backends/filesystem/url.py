"""`file:` URLs."""

import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from asyncwb import Codec, ConfigurationError
from asyncwb_backends.filesystem.backend import DAY_SECONDS, FileBackend

_OPTIONS = ("suffix", "fanout", "sync", "tombstone_seconds")


def from_url(url: str, *, codec: Codec[Any]) -> FileBackend:
    """`file:///absolute/folder` or `file:relative/folder`, with options as in `?suffix=.json&fanout=2&sync=batch`.

    Raises:
        ConfigurationError: the URL or an option can't work.
    """
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost"):
        raise ConfigurationError("file URL: write file:///absolute/folder or file:relative/folder (mind the slashes)")
    if not path.strip("/") or "\0" in path:
        raise ConfigurationError("file URL: name a folder, as in file:///var/lib/app/users")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(options.keys() - set(_OPTIONS)):
        raise ConfigurationError(f"file URL: unknown option {unknown[0]!r}; there are {', '.join(_OPTIONS)}")
    fanout, seconds = options.get("fanout", "2"), options.get("tombstone_seconds", str(DAY_SECONDS))
    if fanout not in ("0", "1", "2", "3"):
        raise ConfigurationError(f"file URL: fanout={fanout}: use 0, 1, 2 or 3")
    if not re.fullmatch(r"\d{1,12}(\.\d+)?", seconds):
        raise ConfigurationError("file URL: tombstone_seconds has to be a number of seconds")
    return FileBackend(
        path,
        suffix=options.get("suffix"),
        fanout=int(fanout),
        sync=options.get("sync", "batch"),
        tombstone_seconds=float(seconds),
        codec=codec.name,
    )
