"""`asyncwb adopt-server`: goes on with a Redis server although another server has taken over."""

import click

from asyncwb.admin.inspector import open_inspector
from asyncwb.cli.closing import closing_backend
from asyncwb.cli.options import LOOKING, STORING, settings_options
from asyncwb.cli.output import print_json
from asyncwb.cli.shared import (
    asynchronous,
    backend_option,
    json_option,
    redis_option,
)
from asyncwb.protocol.epochs import Epochs
from asyncwb.settings import Settings


@click.command("adopt-server")
@redis_option
@backend_option
@settings_options((*LOOKING, *STORING))
@json_option
@asynchronous
async def adopt_server(*, redis: str | None, backend: str, settings: Settings, as_json: bool) -> None:
    """Go on with this Redis server, though another one has taken over.

    Use it after a failover to a server that is gone for good, or when somebody has started services with another server
    and this backend by mistake. Stop everybody who uses the other server first: what is buffered there stays there.
    What is buffered here is saved where the other one has saved nothing newer.

    Exit status: 0 it is the present server now, 2 wrong usage, or Redis or the backend can't be reached.
    """
    namespace = settings.namespace
    async with open_inspector(redis, namespace, timeout_seconds=settings.redis_timeout_seconds) as inspector:
        codec = inspector.made.known_codec()
        queues = [part.queue for part in inspector.parts]
        async with closing_backend(backend, settings, codec=codec) as place:
            epochs = Epochs(queues, place.new_epoch, codec=codec, note_server=place.note_server)
            await place.open(epochs.disown)
            await epochs.adopt()
    epoch = max(epochs.known(queue.partition) for queue in queues)
    if as_json:
        print_json({"epoch": epoch})
    else:
        click.echo(f"this server is the present one, and in epoch {epoch} now")
