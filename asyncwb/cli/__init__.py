"""The command `asyncwb`: one file a command."""

import click

from asyncwb.cli.adopt import adopt_server
from asyncwb.cli.backends import backends
from asyncwb.cli.dead import dead
from asyncwb.cli.demo import demo
from asyncwb.cli.doctor import doctor
from asyncwb.cli.handover import hand_over
from asyncwb.cli.ingest import ingest
from asyncwb.cli.records import keys, show
from asyncwb.cli.repair import audit, flush
from asyncwb.cli.status import status
from asyncwb.cli.worker import worker

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="asyncwb", prog_name="asyncwb")
def main() -> None:
    """Redis as a write buffer: acknowledge at memory speed, flush every write to a slower backend."""


for command in (
    demo, ingest, worker, status, keys, show, dead, flush, audit, hand_over, adopt_server, doctor, backends,
):  # fmt: skip
    main.add_command(command)
