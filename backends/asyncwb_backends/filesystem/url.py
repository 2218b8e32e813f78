"""`file:` URLs."""

from dataclasses import asdict, dataclass
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from asyncwb import Codec, ConfigurationError
from asyncwb.plugins import parse_options
from asyncwb_backends.filesystem.backend import DAY_SECONDS, FileBackend


@dataclass(frozen=True)
class _Options:
    suffix: str | None = None
    fanout: Literal[0, 1, 2, 3] = 2
    sync: Literal["batch", "file"] = "batch"
    tombstone_seconds: float = DAY_SECONDS


def from_url(url: str, *, codec: Codec[Any]) -> FileBackend:
    """Makes a backend from `file:///absolute/folder` or `file:relative/folder`, with options.

    Options are written as in `?suffix=.json&fanout=2&sync=batch&tombstone_seconds=86400`.

    Raises:
        ConfigurationError: the URL or an option can't work.
    """
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost"):
        raise ConfigurationError("file URL: write file:///absolute/folder or file:relative/folder (mind the slashes)")
    if not path.strip("/") or "\0" in path:
        raise ConfigurationError("file URL: name a folder, as in file:///var/lib/app/users")
    options = parse_options(url, _Options)
    return FileBackend(path, **asdict(options), codec=codec.name)
