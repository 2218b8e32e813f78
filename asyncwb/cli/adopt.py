"""`asyncwb adopt-server`: goes on with a server that another one has succeeded."""

import contextlib

import click

from asyncwb.cli.output import print_json
from asyncwb.cli.shared import asynchronous, backend_option, json_option, namespace_option, redis_option
from asyncwb.codecs import WIRE_CODECS, Codec
from asyncwb.errors import BackendUnavailable, ConfigurationError
from asyncwb.guard import GuardedBackend
from asyncwb.inspector import open_inspector
from asyncwb.redis.epochs import Epochs
from asyncwb.registry import backend_from_url
from asyncwb.settings import Settings
from asyncwb.urls import redact


@click.command("adopt-server")
@redis_option
@backend_option
@namespace_option
@json_option
@asynchronous
async def adopt_server(*, redis: str | None, backend: str, namespace: str, as_json: bool) -> None:
    """Go on with this Redis server, though another one has succeeded it.

    After a failover to a server that is gone for good, or when somebody has started services with another server and
    this backend by mistake. Stop everybody who uses the other server first: what is
    buffered there stays there. What is buffered here is saved where the other one has saved nothing newer.

    Exit status: 0 it is the present server now, 2 wrong usage or not reached.
    """
    async with open_inspector(redis, namespace) as inspector:
        codec = inspector.hello.codec
        if codec not in WIRE_CODECS:
            raise ConfigurationError(f"namespace {namespace!r} has codec {codec!r}, which this version doesn't know")
        guarded = GuardedBackend(
            backend_from_url(backend, codec=Codec(codec)),
            name=redact(backend),
            namespace=namespace,
            connect_timeout_seconds=Settings().connect_timeout_seconds,
            save_timeout_seconds=Settings().save_timeout_seconds,
        )
        queues = [part.queue for part in inspector.parts]
        epochs = Epochs(queues, guarded.new_epoch, codec=codec, note_server=guarded.note_server)
        guarded.on_foreign = epochs.disown
        try:
            await guarded.open()
            await epochs.adopt()
        finally:
            with contextlib.suppress(BackendUnavailable):
                await guarded.close()
    epoch = max(epochs.known(queue.partition) for queue in queues)
    if as_json:
        print_json({"epoch": epoch})
    else:
        click.echo(f"this server is the present one, and in epoch {epoch} now")
