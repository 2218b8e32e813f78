"""The command `asyncwb`: the table of its subcommands, which have modules of their own."""

from typing import Final

import click

from asyncwb.cli.lazy import LazyGroup
from asyncwb.cli.streams import standard_streams

__all__ = ["main", "run"]

_COMMANDS: Final = {
    "adopt-server": (
        "asyncwb.cli.adopt:adopt_server",
        "Go on with this Redis server, though another one has taken over.",
    ),
    "audit": (
        "asyncwb.cli.repair:audit",
        "Walk over all records: those that are in no set become dirty, and the byte estimate is corrected.",
    ),
    "backends": ("asyncwb.cli.backends:backends", "List the installed backends, and whether each can be used."),
    "dead": (
        "asyncwb.cli.dead:dead",
        "Look at records that the backend refused or that failed too often; try them again, or drop them.",
    ),
    "demo": (
        "asyncwb.cli.demo:demo",
        "Write under load with faults, drain, and prove that nothing acknowledged was lost.",
    ),
    "doctor": (
        "asyncwb.cli.doctor:doctor",
        "Check server, backend and namespace: each line is ok, a warning or an error, with what to do.",
    ),
    "flush": (
        "asyncwb.cli.repair:flush",
        "Save now what is unsaved, including delayed writes, also while workers run.",
    ),
    "hand-over": (
        "asyncwb.cli.handover:hand_over",
        "Give the table, collection or folder of one namespace to another, with all that is in it.",
    ),
    "ingest": (
        "asyncwb.cli.ingest:ingest",
        "Stream rows of each FILE (or - for stdin) into a backend, each as a JSON object under its key.",
    ),
    "keys": ("asyncwb.cli.records:keys", "List unsaved records, those that are due first."),
    "show": (
        "asyncwb.cli.records:show",
        "Show everything about one record: where it is, its version and value, its failures.",
    ),
    "status": ("asyncwb.cli.status:status", "Show how much is unsaved, how old it is, and who works on it."),
    "worker": ("asyncwb.cli.worker:worker", "Flush what other processes write."),
}


@click.group(
    cls=LazyGroup,
    commands_in=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="asyncwb", prog_name="asyncwb")
def main() -> None:
    """Redis as a write buffer: acknowledge at memory speed, flush every write to a slower backend."""


def run() -> None:
    """Runs the program: `main`, with standard streams that always exist."""
    with standard_streams():
        main(prog_name="asyncwb")
