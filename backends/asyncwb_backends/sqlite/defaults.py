"""Fields that a value leaves out: what their columns get has to be read back as the field's default."""

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import aiosqlite

from asyncwb import Codec, RecordRejected
from asyncwb.encoding import ABSENT, RowField
from asyncwb_backends.sqlite.columns import Column


class Declared(NamedTuple):
    """How a table declares a column: its type, and the expression of its DEFAULT, or None."""

    type: str
    default: str | None


async def misread(
    connection: aiosqlite.Connection, codec: Codec[Any], columns: Iterable[Column], declared: Mapping[str, Declared]
) -> str | None:
    """Returns why some field that is left out would be read as something else than its default, or None.

    Only fields that the codec knows from the type of the values are checked. Raises sqlite3.Error.
    """
    fields = codec.fields or {}
    for column in columns:
        field = fields.get(column.name)
        if field is None or not field.omittable:
            continue
        expression = declared[column.name].default
        if expression is None:
            if field.nullable and field.default is not None:
                return (
                    f"values leave out field {column.name!r} where it is the default, and column {column.name!r} has "
                    "no DEFAULT: the NULL there would be read as None; give it the field's default as its DEFAULT"
                )
        elif await _evaluated(connection, expression) != _stored(column, field):
            return (
                f"values leave out field {column.name!r}, and its column's DEFAULT {expression} isn't what that means: "
                "it has to be the field's own default"
            )
    return None


async def _evaluated(connection: aiosqlite.Connection, expression: str) -> Any:
    try:
        rows = list(await connection.execute_fetchall(f"SELECT {expression}"))
    except sqlite3.OperationalError:
        return ABSENT
    return rows[0][0]


def _stored(column: Column, field: RowField) -> Any:
    """Returns what the column would hold if the default were written; if it can't be, an object equal to nothing."""
    if field.default is ABSENT:
        return None if field.nullable else object()
    try:
        return column.to_sql(field.default)
    except RecordRejected:
        return object()
