"""Finds the backend of a URL's scheme, through entry points; a broken plugin doesn't affect the others."""

import difflib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from asyncwb.backend import Backend, BackendFactory
from asyncwb.codecs import Codec
from asyncwb.errors import AsyncwbError, ConfigurationError, MissingDependency, UnknownBackend
from asyncwb.support.foreign import is_exit
from asyncwb.support.plain import excerpt, plain_str
from asyncwb.support.redaction import keep_secret, redact, without_credentials

GROUP: Final = "asyncwb.backends"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plugin:
    """An installed backend.

    Attributes:
        scheme: the URL scheme that selects it.
        distribution: the installed package that provides it, with its version.
        problem: why it can't be used and what to do, or None if it can.
    """

    scheme: str
    distribution: str
    problem: str | None


def plugins() -> list[Plugin]:
    """Every installed backend, usable or not, in the order of schemes; loads all of them."""
    return sorted(_inspect(), key=lambda plugin: (plugin.scheme, plugin.distribution))


def _inspect() -> Iterator[Plugin]:
    for scheme, entries in _installed().items():
        for entry in entries:
            problem = None
            try:
                _load(_only(scheme, entries))
            except ConfigurationError as error:
                problem = str(error)
            yield Plugin(scheme=scheme, distribution=_distribution(entry), problem=problem)


def backend_from_url(url: str, *, codec: Codec[Any]) -> Backend:
    """Makes the backend of a URL; loads only the plugin of its scheme, and connects to nothing.

    Raises:
        UnknownBackend: no plugin has this scheme; names the installed ones and suggests the nearest.
        MissingDependency: the plugin's driver isn't installed; names the pip command.
        ConfigurationError: the URL is malformed, the plugin is broken, or two distributions claim the scheme.
    """
    keep_secret(url)
    scheme, colon, _ = url.partition(":")
    if not colon or not scheme:
        raise ConfigurationError(f"backend {redact(url)!r} is not a URL; write for example sqlite:///app.db")
    installed = _installed()
    entries = installed.get(scheme.lower())
    if not entries:
        # A URL without slashes may be user:password@host, so its scheme may be a user.
        shown = scheme if "://" in url or "@" not in url else redact(url)
        nearest = difflib.get_close_matches(scheme.lower(), installed, n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise UnknownBackend(
            f"no backend for scheme {shown!r} in {redact(url)!r}; "
            f"installed: {', '.join(sorted(installed)) or 'none'}.{hint}"
        )
    entry = _only(scheme.lower(), entries)
    backend = made_by(_load(entry), url, codec)
    if not isinstance(backend, Backend):
        raise ConfigurationError(
            f"plugin {entry.value!r} of scheme {scheme!r} made a {type(backend).__name__}, "
            "which isn't an asyncwb.Backend"
        )
    return backend


def named_backend(backend: object, *, codec: Codec[Any]) -> tuple[Backend, str]:
    """The backend that a user names by a URL or passes as an object, and how messages call it.

    Raises:
        ConfigurationError: it is neither, or `backend_from_url` raises it.
    """
    url = plain_str(backend)
    if url is not None:
        return backend_from_url(url, codec=codec), redact(url)
    if isinstance(backend, type) or not isinstance(backend, Backend):
        raise ConfigurationError(
            f"backend={excerpt(backend)}: pass a URL or an object with the methods of asyncwb.Backend"
        )
    return backend, f"{type(backend).__name__}()"


def made_by(factory: BackendFactory, url: str, codec: Codec[Any]) -> Backend:
    """Calls a plugin's factory with a URL.

    Raises:
        ConfigurationError: the URL is ambiguous, or the factory raised any exception but one of asyncwb's.
        AsyncwbError: the factory raised it.
    """
    if re.search(r"[?#].*@|://[^/?#@]*:[^/?#@]*/.*@", url, re.DOTALL):
        # The URL may split inside a password: plugins would take a part of it for an option, and show that.
        raise ConfigurationError(
            f"backend URL {redact(url)!r} can't be read: its user or password seems to hold a /, ? or #, or an @ comes "
            "after the host; write them as %2F, %3F, %23 and %40"
        )
    try:
        with without_credentials():
            return factory(url, codec=codec)
    except AsyncwbError:
        raise
    except BaseException as error:
        # A plugin's code may raise anything. Nothing is awaited in it, so a CancelledError can only be its own.
        if is_exit(error):
            raise
        problem = type(error).__name__
    # Raised outside of the handler, so that messages of urllib and drivers, which may quote the password, aren't the
    # context.
    raise ConfigurationError(f"backend URL {redact(url)!r} can't be understood ({problem})")


def _installed() -> dict[str, list[EntryPoint]]:
    """Scheme -> its plugins, one per distribution: the first one on the path, which an import would find as well."""
    found: dict[str, dict[str, EntryPoint]] = defaultdict(dict)
    for entry in entry_points(group=GROUP):
        found[entry.name.lower()].setdefault(_normalized(entry), entry)
    return {scheme: list(entries.values()) for scheme, entries in found.items()}


def _normalized(entry: EntryPoint) -> str:
    return re.sub(r"[-_.]+", "-", entry.dist.name).lower() if entry.dist else entry.value


def _only(scheme: str, entries: Sequence[EntryPoint]) -> EntryPoint:
    if len(entries) > 1:
        names = " and ".join(sorted(_distribution(entry) for entry in entries))
        raise ConfigurationError(f"scheme {scheme!r} is claimed by {names}: uninstall all but one of them")
    return entries[0]


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "?"


def _load(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"backend {entry.name!r} needs {error.name!r}, which isn't installed: run {_pip_command(entry, error.name)}"
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # Whatever the import of a plugin raises is reported as the plugin's problem, even SystemExit, which a module
        # may raise because it needs another Python version.
        raise ConfigurationError(
            f"plugin {entry.value!r} of scheme {entry.name!r} ({_distribution(entry)}) can't be loaded: {error!r}"
        ) from error


def _pip_command(entry: EntryPoint, missing: str | None) -> str:
    extra = entry.name.partition("+")[0]
    if entry.dist and extra in (entry.dist.metadata.get_all("Provides-Extra") or ()):
        return f"pip install '{entry.dist.name}[{extra}]'"
    return f"pip install {missing}"
