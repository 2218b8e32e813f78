"""The SQLite backend: a table of keys and values of its own, or columns of a table that users have already."""

from asyncwb_backends.sqlite.backend import SQLiteBackend
from asyncwb_backends.sqlite.mapped import MappedTable
from asyncwb_backends.sqlite.url import from_url

__all__ = ["MappedTable", "SQLiteBackend", "from_url"]
