"""Command-line options for settings; names, types, defaults and help are derived from `Settings`."""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from types import NoneType
from typing import Any, Final, Literal, TypeVar, Unpack, get_args, get_origin, get_type_hints

import click

from asyncwb.errors import ConfigurationError
from asyncwb.settings import SettingOptions, Settings

R = TypeVar("R")

NAMES: Final = tuple(field.name for field in dataclasses.fields(Settings))

WRITING: Final = (
    "durability", "replicas", "max_dirty", "max_bytes", "max_age_seconds", "low_watermark", "on_full",
    "full_timeout_seconds", "max_remembered_writes", "max_value_bytes", "check_values",
)  # fmt: skip
"""Settings that matter to processes that write; those that only flush ignore them."""

LOOKING: Final = ("namespace", "redis_timeout_seconds")
"""Settings for commands that look into Redis."""

STORING: Final = ("connect_timeout_seconds", "save_timeout_seconds")
"""Additional settings for commands that look into a backend."""

_FLAGS: Final = {"true": True, "false": False}
_METAVARS: Final = {"_seconds": "SECONDS", "_bytes": "BYTES", "namespace": "NS"}


def settings_options(
    only: Collection[str] = NAMES,
    *,
    without: Collection[str] = (),
    shown: dict[str, str] | None = None,
    **defaults: Unpack[SettingOptions],
) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Gives a command options for settings, and passes their values to it as `settings`, a `Settings`.

    The command line takes precedence over the environment variable (such as `ASYNCWB_MAX_ATTEMPTS`), that over click's
    `default_map`, which could come from a file, and that over the command's default.

    Args:
        only: the names of the settings; all of them by default.
        without: names of those that the command doesn't take.
        shown: name -> what `--help` shows in place of the default.
        defaults: this command's defaults where they differ from those of `Settings`; these settings are included.
    """
    names = [name for name in NAMES if name in {*only, *defaults} and name not in without]
    usual = Settings().replace(defaults)

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(command)
        def run(**arguments: Any) -> R:
            chosen = {name: arguments.pop(name) for name in names}
            return command(settings=dataclasses.replace(usual, **chosen), **arguments)

        decorated: Callable[..., R] = run
        for name in reversed(names):
            decorated = _option(name, getattr(usual, name), (shown or {}).get(name))(decorated)
        return decorated

    return decorate


def option_of(name: str) -> str:
    """Returns the option for a setting: `--max-attempts` for max_attempts."""
    return f"--{name.replace('_', '-')}"


def variable_of(name: str) -> str:
    """Returns the environment variable for a setting: `ASYNCWB_MAX_ATTEMPTS` for max_attempts."""
    return f"ASYNCWB_{name.upper()}"


def arguments_for(settings: Settings, names: Iterable[str]) -> list[str]:
    """Returns the named settings as command-line arguments."""
    return [f"{option_of(name)}={_written(getattr(settings, name))}" for name in names]


def refused(name: str, message: str) -> click.BadParameter:
    """Returns an error about a setting whose value is valid by itself, but not for this command."""
    return click.BadParameter(message, param_hint=f"'{option_of(name)}' (env var: '{variable_of(name)}')")


def check_flushers(settings: Settings) -> None:
    """Raises `click.BadParameter` if there are no flushers; for commands that have to flush."""
    if not settings.flushers:
        raise refused("flushers", "this command flushes, so it needs at least one flusher")


def _written(value: object) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _option(name: str, default: object, shown: str | None) -> Callable[[Callable[..., R]], Callable[..., R]]:
    kind = SettingType(name)
    metavar = next((metavar for end, metavar in _METAVARS.items() if name.endswith(end)), "NUMBER")
    if kind.choices:
        metavar = f"[{'|'.join(kind.choices)}]"
    return click.option(
        option_of(name),
        name,
        type=kind,
        metavar=f"{metavar}|none" if kind.optional else metavar,
        # The default as a user would write it, since click shows it in the help.
        default=_written(default),
        show_default=shown or True,
        envvar=variable_of(name),
        show_envvar=True,
        help=_descriptions()[name],
    )


class SettingType(click.ParamType):  # type: ignore[type-arg] # generic since click 8.2
    """The type of a setting's option; `Settings` validates the values.

    Attributes:
        choices: the words that it accepts; empty if it is a number or a name.
        optional: whether it may be None, which is written as none.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        kind = get_type_hints(Settings)[name]
        self.choices: tuple[str, ...] = get_args(kind) if get_origin(kind) is Literal else ()
        kinds = set(get_args(kind)) if not self.choices and get_args(kind) else {kind}
        self.optional = NoneType in kinds
        (self._kind,) = kinds - {NoneType}
        if self._kind is bool:
            self.choices = tuple(_FLAGS)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Converts a text; raises `click.BadParameter`, with the message of `Settings`, if the value isn't valid."""
        if self.optional and isinstance(value, str) and value.lower() == "none":
            return None
        if isinstance(value, str) and self._kind in (int, float):
            with suppress(ValueError):  # `Settings` will refuse it as a text
                value = self._kind(value)
        if isinstance(value, str) and self._kind is bool:
            value = _FLAGS.get(value.lower(), value)
        try:
            return getattr(Settings().replace({self.name: value}), self.name)  # type: ignore[misc] # a name of many
        except ConfigurationError as error:
            self.fail(f"{error}{', or none' if self.optional else ''}", param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        return click.Choice(self.choices).shell_complete(ctx, param, incomplete)


@functools.cache
def _descriptions() -> dict[str, str]:
    """Returns setting -> its description in the docstring of `Settings`, in terms of the command line."""
    attributes = inspect.cleandoc(Settings.__doc__ or "").partition("Attributes:\n")[2]
    found = dict.fromkeys(NAMES, "")  # python -OO has no docstrings
    for name, text in re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", attributes, re.MULTILINE):
        words = " ".join(text.split()).replace("None", "none")
        words = re.sub(rf'\b({"|".join(NAMES)})="(\w+)"', lambda match: f"{option_of(match[1])} {match[2]}", words)
        words = re.sub(rf"`({'|'.join(NAMES)})`", lambda match: option_of(match[1]), words)
        found[name] = words[:1].upper() + words[1:]
    return found
