"""Types of CSV fields: convert texts to what JSON can hold."""

import csv
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from asyncwb.backend import COLUMN_TYPES
from asyncwb.cli.ingest.modes import Mode
from asyncwb.cli.ingest.rows import named
from asyncwb.errors import ConfigurationError
from asyncwb.support.plain import excerpt
from asyncwb.updates import Add

Convert = Callable[[str], Any]
"""Converts a field's text to its value; raises ValueError."""

_WHOLE: Final = re.compile(r"[+-]?[0-9]+")
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_TRUTHS: Final = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}


def _int(text: str) -> int:
    # Most texts consist of digits only, which is the fastest check.
    if (text.isdigit() and text.isascii()) or _WHOLE.fullmatch(text):
        return int(text)
    raise ValueError(text)


def _float(text: str) -> float:
    if not _NUMBER.fullmatch(text) or not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


def _number(text: str) -> int | float:
    if _WHOLE.fullmatch(text):
        return int(text)
    number = _float(text)
    if Decimal(repr(number)) != Decimal(text):
        raise ValueError(text)
    return number


def _decimal(text: str) -> str:
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    return str(Decimal(text))


def _bool(text: str) -> bool:
    truth = _TRUTHS.get(text.lower())
    if truth is None:
        raise ValueError(text)
    return truth


def _date(text: str) -> str:
    return date.fromisoformat(text).isoformat()


def _datetime(text: str) -> Any:
    return msgspec.to_builtins(datetime.fromisoformat(text))


_KINDS: Final[dict[str, tuple[Convert, str]]] = {
    "int": (_int, "a whole number"),
    "float": (_float, "a number"),
    "number": (_number, "a number that 64 bits hold exactly"),
    "decimal": (_decimal, "a decimal number"),
    "bool": (_bool, "true or false"),
    "date": (_date, "a date as in 2026-01-31"),
    "datetime": (_datetime, "a date and time as in 2026-01-31T12:00:00Z"),
    "json": (msgspec.json.decode, "JSON"),
}
"""Type -> the function that converts a text that isn't empty, and a description of what the text has to be."""

_OPERANDS: Final[dict[str, Convert]] = {
    "decimal": lambda text: Decimal(_decimal(text)),
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
}
"""Types whose values are added and compared as such, and not as the texts that JSON has for them."""


@dataclass(frozen=True, slots=True)
class Types:
    """Column -> type: for example `int`, or `int?` if an empty field means null.

    Attributes:
        asked: types that the user has given; each column has to be in the header.
        told: types from the backend; columns that aren't in the header are ignored.
    """

    asked: Mapping[str, str] = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=dict)

    def converters(self, file: str, header: Sequence[str], mode: Mode) -> list[tuple[int, Convert]]:
        """Returns the positions of fields to convert and the functions for it, whose ValueError says what is wrong.

        What is added is a number unless its column has another type; an empty field adds nothing.

        Raises:
            ConfigurationError: a column isn't in the header.
        """
        for name in self.asked:
            if name not in header:
                raise ConfigurationError(
                    f"{file}: --types names column {excerpt(name)}, which isn't in the header; "
                    f"there are {named(header)}"
                )
        for name in mode.operators:
            if name not in header:
                raise ConfigurationError(
                    f"{file}: --add, --max or --min names column {excerpt(name)}, which isn't in the header; "
                    f"there are {named(header)}"
                )
        found = []
        for at, name in enumerate(header):
            operator = mode.operator_of(name)
            type_ = self.asked.get(name) or self.told.get(name) or ("number?" if operator is Add else "text")
            if type_ != "text":
                by_backend = name in self.told and name not in self.asked
                found.append((at, _converter(name, type_, by_backend=by_backend, is_operand=operator is not None)))
        return found


def types_from_option(text: str | None) -> dict[str, str]:
    """Parses an option such as `id=int,price=decimal?` to column -> type; a pair with a comma is put in double quotes.

    Raises:
        ConfigurationError: it can't be parsed, names a column twice, or names an unknown type.
    """
    types: dict[str, str] = {}
    try:
        pairs = next(csv.reader([text or ""], strict=True), [])
    except (csv.Error, ValueError) as error:
        raise ConfigurationError(f"--types {excerpt(text)} can't be read: {error}") from error
    for pair in pairs:
        name, equals, type_ = pair.rpartition("=")
        if not equals or not name:
            raise ConfigurationError(f"--types: write COLUMN=TYPE, as in id=int,price=decimal, not {excerpt(pair)}")
        if type_.removesuffix("?") not in COLUMN_TYPES:
            raise ConfigurationError(
                f"--types: there is no type {excerpt(type_)}; there are {', '.join(COLUMN_TYPES)}, "
                "each with a ? after it where an empty field means null"
            )
        if name in types:
            raise ConfigurationError(f"--types names column {excerpt(name)} twice")
        types[name] = type_
    return types


def _converter(name: str, type_: str, *, by_backend: bool, is_operand: bool) -> Convert:
    kind, nullable = type_.removesuffix("?"), type_.endswith("?")
    if kind == "text":
        return lambda text: text or None
    convert, what = _KINDS[kind]
    if is_operand:
        convert = _OPERANDS.get(kind, convert)
    source = " for its column in the backend" if by_backend else ""

    def converted(text: str) -> Any:
        text = text.strip()
        if not text:
            if nullable:
                return None
            raise ValueError(f"field {excerpt(name)} is empty, but has to be {what}{source}")
        try:
            return convert(text)
        except (ValueError, ArithmeticError, RecursionError, msgspec.MsgspecError):
            raise ValueError(f"field {excerpt(name)} has to be {what}{source}, not {excerpt(text)}") from None

    return converted
