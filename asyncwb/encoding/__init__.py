"""Encodes values of one type to bytes and decodes them, and checks that they come back unchanged."""

from asyncwb.encoding.comparing import difference
from asyncwb.encoding.dialect import Dialect
from asyncwb.encoding.plain import msgspec_dialect, raw_dialect
from asyncwb.encoding.pydantic import pydantic_dialect, uses_pydantic
from asyncwb.encoding.rows import ABSENT, RowField, fields_of, row_value

__all__ = [
    "ABSENT",
    "Dialect",
    "RowField",
    "difference",
    "fields_of",
    "msgspec_dialect",
    "pydantic_dialect",
    "raw_dialect",
    "row_value",
    "uses_pydantic",
]
