"""The options of a backend's URL as a dataclass: typed, checked, and never with credentials in a message."""

import dataclasses
import difflib
import math
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints
from urllib.parse import unquote_plus

import msgspec

from asyncwb.errors import ConfigurationError
from asyncwb.support.redaction import keep_secret, redact

T = TypeVar("T")

_LONGEST_SHOWN: Final = 80
_USUAL: Final = msgspec.Meta(ge=0, le=2**63 - 1)


def parse_options(url: str, options: type[T]) -> T:
    """The options after the `?` of a URL, as an object of a dataclass.

    ::

        @dataclass(frozen=True)
        class Options:
            table: str | None = None
            sync: Literal["batch", "file"] = "batch"
            tombstone_seconds: float = 86_400

        options = parse_options("notes:///var/lib/app?sync=file", Options)

    Args:
        url: the URL with its scheme, which messages name.
        options: a dataclass; each field is an option. Its type is str, int, float, bool (`0`, `1`, `true` or
            `false`), a Literal of strings or numbers, or one of these or None. Numbers are from 0 to 2**63 - 1;
            `Annotated[int, msgspec.Meta(ge=1, le=9)]` sets other bounds. Declare secret fields with
            `field(repr=False)`.

    Raises:
        ConfigurationError: an option is unknown (the message suggests the nearest), missing, given twice, or its value
            is invalid.
    """
    keep_secret(url)
    shown, read = _shown(url), _read(url.partition("#")[0], _types(options))
    del url  # here and below, because a traceback may show the locals of every frame that an error passes
    problem = read.problem or _missing(read, options) or _unknown(read, [*_types(options)])
    if problem:
        del read
        raise ConfigurationError(f"{shown}: {problem}")
    return options(**read.own)


def take_options(url: str, options: type[T]) -> tuple[T, str]:
    """Like `parse_options`, for a URL that is passed on to a driver, which has options of its own.

    Returns:
        The backend's own options, and the URL without them; all other options are left in it unchanged.

    Raises:
        ConfigurationError: as in `parse_options`, but not for unknown options, which are the driver's.
    """
    keep_secret(url)
    shown, read = _shown(url), _read(url, _types(options))
    address = url.partition("?")[0]
    del url
    problem = read.problem or _missing(read, options)
    if problem:
        del read, address
        raise ConfigurationError(f"{shown}: {problem}")
    query = "&".join(text for _, text in read.others)
    return options(**read.own), f"{address}?{query}" if query else address


class _Read:
    """What the options of a URL are; no dataclass, whose fields would be shown, since any of them may be a secret.

    Attributes:
        own: the values of the backend's own options, by name.
        others: the name and the text of each other option.
        problem: what is wrong with them, "" for nothing. Reading ends at the first problem.
    """

    __slots__ = ("others", "own", "problem")

    def __init__(self) -> None:
        self.own: dict[str, Any] = {}
        self.others: list[tuple[str, str]] = []
        self.problem = ""


def _read(url: str, types: dict[str, Any]) -> _Read:
    """Reads the options of a URL. It raises nothing, because its locals hold every option as it stands."""
    query = url.partition("?")[2]
    read = _Read()
    if "@" in query:
        # The ? may be part of a password, whose rest must not be shown as an option.
        read.problem = "write @ in an option as %40, and ? in a user or password as %3F"
        return read
    for text in filter(None, query.split("&")):
        name, _, value = (unquote_plus(part) for part in text.partition("="))
        if name not in types:
            read.others.append((name, text))
        elif name in read.own:
            read.problem = f"option {name!r} is given twice"
            return read
        else:
            read.own[name], read.problem = _converted(name, value, types[name])
            if read.problem:
                return read
    return read


def _missing(read: _Read, options: type[Any]) -> str:
    for field in _fields(options):
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and field.name not in read.own:
            return f"option {field.name!r} is missing"
    return ""


def _unknown(read: _Read, known: Sequence[str]) -> str:
    if not read.others:
        return ""
    name = read.others[0][0]
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f". Did you mean {nearest[0]!r}?" if nearest else ""
    names = f"there are {', '.join(known)}" if known else "there are none"
    return f"unknown option {redact(name)[:_LONGEST_SHOWN]!r}; {names}{hint}"


def _fields(options: type[Any]) -> Sequence[dataclasses.Field[Any]]:
    return dataclasses.fields(options)


def _types(options: type[Any]) -> dict[str, Any]:
    """Name -> type of the options."""
    hints = get_type_hints(options, include_extras=True)
    return {field.name: hints[field.name] for field in _fields(options)}


def _shown(url: str) -> str:
    scheme = url.partition(":")[0]
    # A URL without slashes may be user:password@host, so its scheme may be a user.
    return f"{scheme} URL" if "://" in url or "@" not in url else "backend URL"


def _converted(name: str, text: str, hint: Any) -> tuple[Any, str]:
    """The value of an option and "", or None and what is wrong with it."""
    kind, bounds = _kind(hint)
    try:
        value = msgspec.convert(text, Annotated[kind, bounds] if bounds else kind, strict=False)
    except msgspec.ValidationError:
        pass
    else:
        if not isinstance(value, float) or math.isfinite(value):
            return value, ""
    given = redact(f"{name}={text}")
    given = given if len(given) <= _LONGEST_SHOWN else f"{given[:_LONGEST_SHOWN]}…"
    return None, f"{given}: use {_wanted(name, kind, bounds)}"


def _kind(hint: Any) -> tuple[Any, msgspec.Meta | None]:
    """The type without None, and its bounds; None for no bounds."""
    bounds = None
    if get_origin(hint) is Annotated:
        hint, bounds, *_ = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (each for each in get_args(hint) if each is not NoneType)
        return _kind(hint) if bounds is None else (hint, bounds)
    if bounds is None and hint in (int, float):
        bounds = _USUAL
    return hint, bounds


def _wanted(name: str, kind: Any, bounds: msgspec.Meta | None) -> str:
    """The values that an option takes, in words."""
    if get_origin(kind) is Literal:
        *most, last = map(str, get_args(kind))
        return f"{', '.join(most)} or {last}" if most else last
    if kind is bool:
        return "0 or 1"
    if kind not in (int, float):
        return "another text"
    what = ("a whole number" if kind is int else "a number") + (" of seconds" if name.endswith("_seconds") else "")
    lowest, highest = (bounds.ge, bounds.le) if bounds else (None, None)
    if highest is None or bounds is _USUAL:
        return what if lowest is None else f"{what}, {lowest} or more"
    return f"{what}, {highest} or less" if lowest is None else f"{what} from {lowest} to {highest}"
