"""`mongodb:` and `mongodb+srv:` URLs, opened with Motor."""

import asyncio
import re
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import unquote

import msgspec
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import InvalidURI, PyMongoError
from pymongo.uri_parser import parse_uri

from asyncwb import Codec, ConfigurationError, default_name
from asyncwb.plugins import take_options
from asyncwb_backends.mongodb.backend import DAY_SECONDS, MongoDBBackend

_SELECTION_MS: Final = "4000"
"""Less than the default of `connect_timeout_seconds`, so that the driver can say what is wrong before we give up."""


@dataclass(frozen=True)
class _Options:
    collection: str | None = None
    tombstone_seconds: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = DAY_SECONDS


def from_url(url: str, *, codec: Codec[Any]) -> MongoDBBackend:
    """Makes a backend from `mongodb://user:password@host/database?collection=users&tombstone_seconds=N`.
    MongoDB's own options may be added. Without `collection`, the collection's name is made from the namespace, see
    `default_name`.

    Raises:
        ConfigurationError: the URL or an option can't work.
    """
    scheme, _, rest = url.partition("?")[0].partition("://")
    _, _, database = rest.partition("/")
    if not database:
        raise ConfigurationError(f"{scheme} URL: name a database, as in {scheme}://localhost/app?collection=users")
    own, address = take_options(url, _Options)
    if own.collection is not None and not _is_name(own.collection):
        raise ConfigurationError(f"{scheme} URL: no collection can be called {own.collection!r}")
    if not re.search(r"(?i)[?&]serverSelectionTimeoutMS=", address):
        address += f"{'&' if '?' in address else '?'}serverSelectionTimeoutMS={_SELECTION_MS}"
    _check(address, scheme)

    def connect(namespace: str) -> tuple[Any, Any]:
        client: Any = AsyncIOMotorClient(address, io_loop=asyncio.get_running_loop())
        return client, client[unquote(database)][own.collection or default_name(namespace)]

    return MongoDBBackend.connecting(connect, tombstone_seconds=own.tombstone_seconds, codec=codec.name)


def _is_name(collection: str) -> bool:
    return bool(collection) and not collection.startswith(("system.", ".")) and not {"$", "\0"} & set(collection)


def _check(address: str, scheme: str) -> None:
    if scheme != "mongodb":
        return  # the hosts of mongodb+srv are in the DNS, which isn't queried before the backend opens
    try:
        options = parse_uri(address, validate=True, warn=False)["options"]
    except (PyMongoError, ValueError) as error:
        # Don't show the driver's message: it may quote a password that has unescaped characters.
        if isinstance(error, InvalidURI):
            problem = (
                "write host:port for each host, and user and password percent-encoded: "
                "% as %25, : as %3A, / as %2F, ? as %3F, # as %23, @ as %40"
            )
        else:
            problem = (
                "all options but collection and tombstone_seconds have to be MongoDB's own, with values that it takes"
            )
        raise ConfigurationError(f"{scheme} URL can't be read ({type(error).__name__}): {problem}") from None
    if options.get("w") == 0:
        raise ConfigurationError(f"{scheme} URL: w=0 doesn't wait until a write is safe; leave it out")
