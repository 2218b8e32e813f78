"""Makes a backend for commands that need no buffer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from asyncwb.codecs import Codec
from asyncwb.errors import BackendUnavailable
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.plugins.registry import backend_from_url
from asyncwb.records import CodecName
from asyncwb.settings import Settings
from asyncwb.support.redaction import redact


@asynccontextmanager
async def closing_backend(
    url: str,
    settings: Settings,
    *,
    codec: CodecName,
) -> AsyncIterator[BackendAdapter]:
    """Yields the backend of a URL, not yet open, and closes it at the end of the block.

    Uses the namespace and the timeouts for connecting and saving from the settings.

    Raises:
        ConfigurationError: the URL can't be used.
    """
    backend = BackendAdapter(
        backend_from_url(url, codec=Codec(codec)),
        name=redact(url),
        namespace=settings.namespace,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        save_timeout_seconds=settings.save_timeout_seconds,
    )
    try:
        yield backend
    finally:
        with suppress(BackendUnavailable):
            await backend.close()
