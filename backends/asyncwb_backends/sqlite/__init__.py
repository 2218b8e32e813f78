"""The SQLite backend: saves into a key-value table of its own, or into columns of a table that exists already."""

from asyncwb_backends.sqlite.backend import SQLiteBackend
from asyncwb_backends.sqlite.mapped import MappedTable
from asyncwb_backends.sqlite.url import from_url

__all__ = ["MappedTable", "SQLiteBackend", "from_url"]
