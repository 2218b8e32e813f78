"""`sqlite:` URLs."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from asyncwb import Codec, ConfigurationError
from asyncwb.plugins import parse_options
from asyncwb_backends.sqlite.backend import DAY_SECONDS, SQLiteBackend
from asyncwb_backends.sqlite.mapped import VERSION, MappedTable
from asyncwb_backends.sqlite.table import Table


@dataclass(frozen=True)
class _Options:
    table: str | None = None
    key: str | None = None
    columns: str | None = None
    version: str | None = None
    add_version: bool | None = None
    tombstone_seconds: float = DAY_SECONDS


def from_url(url: str, *, codec: Codec[Any]) -> SQLiteBackend:
    """Makes a backend from `sqlite:///relative.db` or `sqlite:////absolute.db`, with options.

    They are `?table=NAME` (by default made from the namespace) and `&tombstone_seconds=N`. With
    `?table=users&key=id&columns=name,visits` the table is a `MappedTable`, whose version column may be named by
    `&version=NAME` and added by `&add_version=1`.

    Raises:
        ConfigurationError: the URL or an option can't work.
    """
    parts = urlsplit(url)
    if parts.netloc or not parts.path.startswith("/"):
        raise ConfigurationError("SQLite URL: write sqlite:///relative.db or sqlite:////absolute.db (mind the slashes)")
    path = unquote(parts.path[1:])
    if not path or path == ":memory:":
        raise ConfigurationError("SQLite URL: name a file, as in sqlite:///app.db; memory isn't durable")
    options = parse_options(url, _Options)
    mapped = any(value is not None for value in (options.key, options.columns, options.version, options.add_version))
    table: str | Table | None = _mapped(options, codec) if mapped else options.table
    return SQLiteBackend(path, table=table, tombstone_seconds=options.tombstone_seconds)


def _mapped(options: _Options, codec: Codec[Any]) -> MappedTable:
    if not options.table or not options.key or not options.columns:
        missing = next(name for name in ("table", "key", "columns") if not getattr(options, name))
        raise ConfigurationError(
            f"SQLite URL: {missing} is missing; for a table of your own write ?table=users&key=id&columns=name,visits"
        )
    return MappedTable(
        options.table,
        key=options.key,
        columns=options.columns.split(","),
        version=VERSION if options.version is None else options.version,
        add_version=bool(options.add_version),
        codec=codec,
    )
