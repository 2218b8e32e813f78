"""What commands share: options, exit statuses, the handling of errors, and the event loop."""

import functools
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any, Final, ParamSpec, TypeVar

import click

from asyncwb.errors import AsyncwbError

P = ParamSpec("P")
R = TypeVar("R")

EXIT_FAULT: Final = 1
"""There is a fault in the data: something is lost or stale, a line is malformed, a key is missing, a check failed."""
EXIT_ERROR: Final = 2
"""The command couldn't do its work, or was used wrongly."""
EXIT_INTERRUPTED: Final = 130
EXIT_PIPE: Final = 141
"""Nobody reads the output any more: 128 plus the number of SIGPIPE, as shells report it for other programs."""

REFUSED: Final = "record(s) were dead-lettered, but stay readable: see `asyncwb dead list` for the reasons"

redis_option = click.option(
    "--redis",
    envvar="ASYNCWB_REDIS",
    show_envvar=True,
    metavar="URL",
    show_default="embedded://.asyncwb, a private server",
    help="redis://, rediss://, valkey://, unix:// or embedded://DIR.",
)
backend_option = click.option(
    "--backend",
    envvar="ASYNCWB_BACKEND",
    show_envvar=True,
    metavar="URL",
    required=True,
    help="The backend that writes are saved to, as in sqlite:///app.db; see `asyncwb backends`.",
)
optional_backend_option = click.option(
    "--backend", envvar="ASYNCWB_BACKEND", show_envvar=True, metavar="URL", help="A backend to look at, too."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, nothing else.")


def asynchronous(command: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, R]:
    """Makes a command of a coroutine function; an AsyncwbError ends it with a one-line message and status 2."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return _run(command(*args, **kwargs))
        except AsyncwbError as error:
            raise _Failed(str(error)) from error
        except KeyboardInterrupt:
            raise SystemExit(EXIT_INTERRUPTED) from None

    return run


class _Failed(click.ClickException):
    exit_code = EXIT_ERROR


def _run(coroutine: Coroutine[Any, Any, R]) -> R:
    # The library never chooses an event loop, but its own commands may use the faster one.
    if find_spec("uvloop") is not None:
        import uvloop  # noqa: PLC0415 - an optional extra

        return uvloop.run(coroutine)
    import asyncio  # noqa: PLC0415 - not for --help, which takes as long as this import

    return asyncio.run(coroutine)
