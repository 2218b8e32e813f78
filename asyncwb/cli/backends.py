"""`asyncwb backends`: which plugins are installed."""

import dataclasses
import json
import sys

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from asyncwb.cli.shared import json_option
from asyncwb.plugins.registry import plugins


@click.command()
@json_option
def backends(*, as_json: bool) -> None:
    """List the installed backends, and whether each can be used."""
    found = plugins()
    if as_json:
        rows = [{**dataclasses.asdict(plugin), "usable": plugin.problem is None} for plugin in found]
        sys.stdout.write(json.dumps({"backends": rows}, indent=2) + "\n")
        return
    table = Table("scheme", "from", "usable")
    for plugin in found:
        table.add_row(escape(plugin.scheme), escape(plugin.distribution), "no" if plugin.problem else "yes")
    Console(soft_wrap=True).print(table)
    # Print problems on lines of their own, unbroken and unchanged: they contain commands to copy.
    for problem in dict.fromkeys(plugin.problem for plugin in found if plugin.problem):
        click.echo(problem)
    if not found:
        click.echo("No backend is installed: run pip install 'asyncwb[sqlite]'")
