"""The output of operators' commands: one JSON object, or text for people."""

import json
import re
import sys
import time
from collections.abc import Iterable
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from asyncwb.records import MAX_SEQ, Record, Version, epoch_of

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_CELL: Final = 100


class Duration(click.ParamType):  # type: ignore[type-arg] # generic since click 8.2
    """A duration in seconds, written as 10, 500ms, 10s, 5m, 2h or 1d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?", str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration: write 10s, 5m, 2h or 1d", param, ctx)
        return float(match[1]) * _UNITS[match[2] or "s"]


def print_json(data: object) -> None:
    """Prints one JSON object as a line of stdout."""
    sys.stdout.write(json.dumps(msgspec.to_builtins(data, str_keys=True)) + "\n")
    sys.stdout.flush()


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Prints a table, one line per row, without interpreting markup in the cells."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(escape(plain(cell)) for cell in row))
    Console(soft_wrap=True, highlight=False).print(table)


def plain(text: str, longest: int = _LONGEST_CELL) -> str:
    """Escapes control characters, as keys and reasons may contain anything, and shortens to `longest` characters."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    shown = shown.encode("utf-8", "replace").decode()
    return shown if len(shown) <= longest else shown[:longest] + "…"


def version_text(version: Version) -> str:
    """Returns a version as `epoch.sequence number`."""
    return f"{epoch_of(version)}.{version & MAX_SEQ}"


def seconds_text(seconds: float | None) -> str:
    """Returns a duration in a suitable unit, such as `2.5 m`; `-` for None."""
    if seconds is None:
        return "-"
    sign, rest = ("-", -seconds) if seconds < 0 else ("", seconds)
    for unit in ("d", "h", "m"):
        if rest >= 2 * _UNITS[unit]:
            return f"{sign}{rest / _UNITS[unit]:.1f} {unit}"
    return f"{sign}{rest:.1f} s" if rest >= 1 else f"{sign}{rest * 1000:.0f} ms"


def bytes_text(size: float) -> str:
    """Returns a size in binary units, such as `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def time_text(seconds: float) -> str:
    """Returns a Unix time of the server's clock as text, in UTC; `?` if it is out of range."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):  # another program may have written the entry
        return "?"


def value_of(record: Record) -> Any:
    """Returns a record's value in a form that JSON can show: bytes as text, None for a tombstone."""
    try:
        value = record.value
    except msgspec.DecodeError as error:
        return f"(not {record.codec}: {error})"
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
