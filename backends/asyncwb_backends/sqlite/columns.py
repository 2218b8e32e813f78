"""Columns of users' tables: which values each accepts, so that the same value can be read back."""

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import msgspec

from asyncwb import ConfigurationError, RecordRejected

_NUMERIC_TEXT: Final = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")
_INT64: Final = range(-(2**63), 2**63)
_EXACT_IN_A_FLOAT: Final = 2**53


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: the name of the column, and of the field.
        declared: its type as the table declares it.
        write: converts the field's value to what SQLite stores; raises ValueError or TypeError that say what is
            accepted instead.
        read: converts back.
    """

    name: str
    declared: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]

    def to_sql(self, value: Any) -> Any:
        """Returns what SQLite stores for a value; None becomes NULL, which SQLite may refuse.

        Raises:
            RecordRejected: the column doesn't accept the value.
        """
        if value is None:
            return None
        try:
            return self.write(value)
        except (TypeError, ValueError) as error:
            raise RecordRejected(
                f"column {self.name!r} ({self.declared or 'of no type'}) takes {error}, not {_shown(value)}"
            ) from None


def column(name: str, declared: str) -> Column:
    """Makes a column by SQLite's affinity rules for the declared type, with special treatment of BOOLEAN and JSON."""
    write, read = _KINDS[_kind(declared)]
    return Column(name, declared, write, read)


def column_type(declared: str) -> str:
    """Returns the type that texts have to be converted to for this column, as in a backend's `column_types`.

    Texts stay as they are for types that only SQLite considers numeric: DATE, for instance.
    """
    types = {"INTEGER": "int", "REAL": "float", "DECIMAL": "number", "BOOL": "bool", "JSON": "json"}
    return types.get(_kind(declared), "text")


def key_column(name: str, declared: str) -> type[str] | Callable[[str], int]:
    """Returns a function from a key to what SQLite stores.

    It is `str` for texts. For an INTEGER column it returns an int, or raises ValueError for a key that isn't the
    canonical spelling of a 64-bit number.

    Raises:
        ConfigurationError: a column of this type could store two keys as the same value.
    """
    kind = _kind(declared)
    if kind == "INTEGER":
        return _whole_key
    if kind in ("TEXT", "BLOB", ""):
        return str
    raise ConfigurationError(
        f"key column {name!r} is declared {declared}, in which SQLite makes numbers of keys that look like numbers: "
        "it has to be TEXT or INTEGER"
    )


def _kind(declared: str) -> str:
    upper = declared.upper()
    if "BOOL" in upper or "JSON" in upper:
        return "BOOL" if "BOOL" in upper else "JSON"
    for kind, words in _AFFINITIES:
        if any(word in upper for word in words):
            return kind
    if "DEC" in upper or "NUM" in upper:
        return "DECIMAL"
    return "NUMERIC" if upper else ""


_AFFINITIES: Final = (
    ("INTEGER", ("INT",)),
    ("TEXT", ("CHAR", "CLOB", "TEXT")),
    ("BLOB", ("BLOB",)),
    ("REAL", ("REAL", "FLOA", "DOUB")),
)
"""The order matters: see "Determination of column affinity" in SQLite's documentation."""


def _whole_key(key: str) -> int:
    number = int(key)
    if str(number) != key or number not in _INT64:
        raise ValueError(key)
    return number


def _boolean(value: Any) -> int:
    if not isinstance(value, bool):
        raise TypeError("true and false")
    return int(value)


def _whole(value: Any) -> int:
    """Accepts True and 3.0 as whole numbers, too: decoded as the field's type, they become the same value again."""
    if isinstance(value, bool) or (type(value) is float and value.is_integer()):
        value = int(value)
    if type(value) is not int or value not in _INT64:
        raise TypeError("whole numbers of 64 bits")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("text")
    return value


def _real(value: Any) -> float:
    if type(value) is int and abs(value) <= _EXACT_IN_A_FLOAT:
        return float(value)
    if type(value) is not float or value != value:  # noqa: PLR0124 - SQLite has no NaN
        raise TypeError("numbers of 64 bits")
    return value


def _number(value: Any) -> int | float:
    return _whole(value) if type(value) is int else _real(value)


def _decimal(value: Any) -> int | float | str:
    """Converts a Decimal, which is text in JSON, to a number as SQLite would; refuses one that this would change."""
    if not isinstance(value, str):
        return _number(value)
    if not _NUMERIC_TEXT.fullmatch(value):
        return value
    exact = Decimal(value)
    if -(2**63) <= exact < 2**63 and exact == exact.to_integral_value():
        return int(exact)
    number = float(exact)
    if Decimal(repr(number)) != exact:
        raise ValueError("what SQLite can hold exactly: whole numbers of 64 bits, else some 15 digits")
    return number


def _numeric(value: Any) -> int | float | str:
    if isinstance(value, str):
        if _NUMERIC_TEXT.fullmatch(value):
            raise ValueError("numbers, and text that SQLite would not make a number of")
        return value
    return _number(value)


def _bytes(value: Any) -> bytes:
    """Decodes bytes from base64, which is how msgspec writes them in JSON; takes bytes as they are."""
    if isinstance(value, str):
        try:
            decoded = binascii.a2b_base64(value, strict_mode=True)
        except ValueError:
            decoded = None
        if decoded is not None and base64.b64encode(decoded).decode() == value:
            return decoded
    if not isinstance(value, bytes):
        raise TypeError("bytes, in JSON as base64")
    return value


def _anything(value: Any) -> int | float | str | bytes:
    return value if isinstance(value, str | bytes) else _number(value)


def _json(value: Any) -> int | float | str:
    if type(value) in (int, float):
        return _number(value)  # SQLite would make a number of its text as well, and not always the same one
    encoded = msgspec.json.encode(value)
    if msgspec.json.decode(encoded) != value:
        raise TypeError("what JSON can hold")
    return encoded.decode()


def _from_boolean(stored: Any) -> Any:
    return bool(stored) if stored in (0, 1) else stored


def _from_json(stored: Any) -> Any:
    if not isinstance(stored, str):
        return stored
    try:
        return msgspec.json.decode(stored)
    except msgspec.DecodeError:
        return stored  # another program wrote it


def _as_is(stored: Any) -> Any:
    return stored


_KINDS: Final[dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]]] = {
    "INTEGER": (_whole, _as_is),
    "TEXT": (_text, _as_is),
    "REAL": (_real, _as_is),
    "NUMERIC": (_numeric, _as_is),
    "DECIMAL": (_decimal, _as_is),
    "BOOL": (_boolean, _from_boolean),
    "JSON": (_json, _from_json),
    "BLOB": (_bytes, _as_is),
    "": (_anything, _as_is),
}


def _shown(value: Any) -> str:
    # Never show contents: values may be confidential.
    return "a number too large" if type(value) is int and value not in _INT64 else f"a {type(value).__name__}"
