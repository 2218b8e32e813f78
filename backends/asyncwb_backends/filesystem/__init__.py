"""The filesystem backend: each value a file of exactly its bytes, under a name that a person recognises."""

from asyncwb_backends.filesystem.backend import FileBackend
from asyncwb_backends.filesystem.url import from_url

__all__ = ["FileBackend", "from_url"]
