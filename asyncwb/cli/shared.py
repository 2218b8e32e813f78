"""What commands share: options, how errors end a command, and the event loop."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from typing import Any, Final, ParamSpec, TypeVar

import click

from asyncwb.codecs import Codec
from asyncwb.errors import AsyncwbError, BackendUnavailable
from asyncwb.guard import GuardedBackend
from asyncwb.records import CodecName
from asyncwb.registry import backend_from_url
from asyncwb.settings import Settings
from asyncwb.urls import redact

P = ParamSpec("P")
R = TypeVar("R")

EXIT_FAULT: Final = 1
"""The data are at fault: something is lost or stale, a line is malformed, a key isn't there, a check found an error."""
EXIT_ERROR: Final = 2
"""The command couldn't do its work, or was called the wrong way."""
EXIT_INTERRUPTED: Final = 130

REFUSED: Final = "record(s) were refused by the backend for good, they stay readable: see `asyncwb dead list`"

redis_option = click.option(
    "--redis",
    envvar="ASYNCWB_REDIS",
    metavar="URL",
    show_default="embedded://.asyncwb, a private server",
    help="redis://, rediss://, valkey://, unix:// or embedded://DIR.",
)
backend_option = click.option(
    "--backend",
    envvar="ASYNCWB_BACKEND",
    metavar="URL",
    required=True,
    help="Where writes come to rest, as in sqlite:///app.db; see `asyncwb backends`.",
)
namespace_option = click.option(
    "--namespace",
    envvar="ASYNCWB_NAMESPACE",
    metavar="NS",
    default="default",
    show_default=True,
    help="Which buffer on that server.",
)
optional_backend_option = click.option(
    "--backend", envvar="ASYNCWB_BACKEND", metavar="URL", help="Look at what it holds, too."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, nothing else.")


@asynccontextmanager
async def closing_backend(
    url: str,
    *,
    namespace: str,
    codec: CodecName,
    connect_seconds: float = Settings().connect_timeout_seconds,
    save_seconds: float = Settings().save_timeout_seconds,
) -> AsyncIterator[GuardedBackend]:
    """The backend of a URL for a command that needs no buffer: it opens it, and it is closed in the end.

    Raises:
        ConfigurationError: the URL can't be used.
    """
    backend = GuardedBackend(
        backend_from_url(url, codec=Codec(codec)),
        name=redact(url),
        namespace=namespace,
        connect_timeout_seconds=connect_seconds,
        save_timeout_seconds=save_seconds,
    )
    try:
        yield backend
    finally:
        with suppress(BackendUnavailable):
            await backend.close()


def asynchronous(command: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, R]:
    """Runs a command's coroutine; an error of asyncwb's tree ends it with one line and status 2."""

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
    # The library installs no event loop; a command of its own may take the faster one.
    if find_spec("uvloop") is not None:
        import uvloop  # noqa: PLC0415 - an optional extra

        return uvloop.run(coroutine)
    return asyncio.run(coroutine)
