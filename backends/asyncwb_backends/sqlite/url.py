"""`sqlite:` URLs."""

import re
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from asyncwb import Codec, ConfigurationError
from asyncwb_backends.sqlite.backend import DAY_SECONDS, SQLiteBackend
from asyncwb_backends.sqlite.mapped import VERSION, MappedTable
from asyncwb_backends.sqlite.table import Table

_OPTIONS: Final = ("table", "key", "columns", "version", "add_version", "tombstone_seconds")
_OF_A_MAPPED_TABLE: Final = ("key", "columns", "version", "add_version")


def from_url(url: str, *, codec: Codec[Any]) -> SQLiteBackend:
    """`sqlite:///relative.db` or `sqlite:////absolute.db`, with `?table=NAME` (else it is called like the
    namespace) and `?tombstone_seconds=N`.

    With `?table=users&key=id&columns=name,visits` the table is a `MappedTable`, whose version column may be named by
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
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(options.keys() - set(_OPTIONS)):
        raise ConfigurationError(f"SQLite URL: unknown option {unknown[0]!r}; there are {', '.join(_OPTIONS)}")
    seconds = options.get("tombstone_seconds", str(DAY_SECONDS))
    if not re.fullmatch(r"\d{1,12}(\.\d+)?", seconds):
        raise ConfigurationError("SQLite URL: tombstone_seconds has to be a number of seconds")
    mapped = any(option in options for option in _OF_A_MAPPED_TABLE)
    table: str | Table | None = _mapped(options, codec) if mapped else options.get("table")
    return SQLiteBackend(path, table=table, tombstone_seconds=float(seconds))


def _mapped(options: dict[str, str], codec: Codec[Any]) -> MappedTable:
    if missing := [option for option in ("table", "key", "columns") if not options.get(option)]:
        raise ConfigurationError(
            f"SQLite URL: {missing[0]} is missing; for a table of your own write "
            "?table=users&key=id&columns=name,visits"
        )
    if options.get("add_version", "0") not in ("0", "1"):
        raise ConfigurationError("SQLite URL: add_version is 0 or 1")
    return MappedTable(
        options["table"],
        key=options["key"],
        columns=options["columns"].split(","),
        version=options.get("version", VERSION),
        add_version=options.get("add_version") == "1",
        codec=codec,
    )
