"""The filesystem backend: each value is a file of exactly its bytes, under a human-readable name."""

from asyncwb_backends.filesystem.backend import FileBackend
from asyncwb_backends.filesystem.url import from_url

__all__ = ["FileBackend", "from_url"]
