"""Runs commands of `asyncwb` in this process."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import click
from click.testing import CliRunner, Result

from asyncwb.cli import main


async def run(*arguments: str, status: int = 0, answer: str | None = None) -> Result:
    """Runs a command with these arguments and stdin, and checks its exit status.

    It runs in a thread, since a command has an event loop of its own.
    """
    result = await asyncio.to_thread(CliRunner().invoke, main, list(arguments), input=answer)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result


async def run_json(*arguments: str, status: int = 0) -> Any:
    """Runs a command with --json; returns the object that it prints, which has to be all of its stdout."""
    return json.loads((await run(*arguments, "--json", status=status)).stdout)


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yields every command below a group that isn't itself a group, with the words of its name."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command
