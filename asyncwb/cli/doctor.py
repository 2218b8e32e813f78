"""`asyncwb doctor`: checks whether server, backend and namespace are fit to be a write buffer."""

from typing import Final

import click

from asyncwb.admin.acl import BESIDES, OPERATORS, SERVICES, rule
from asyncwb.admin.doctor import diagnose
from asyncwb.admin.doctor.finding import Finding
from asyncwb.cli.options import LOOKING, STORING, settings_options
from asyncwb.cli.output import print_json
from asyncwb.cli.shared import (
    EXIT_FAULT,
    asynchronous,
    json_option,
    optional_backend_option,
    redis_option,
)
from asyncwb.settings import Settings

_COLORS: Final = {"ok": "green", "warning": "yellow", "error": "red"}


@click.command()
@redis_option
@optional_backend_option
@settings_options((*LOOKING, *STORING), save_timeout_seconds=5.0)
@click.option("--acl", is_flag=True, help="Print the least ACL rules for the namespace instead; connects to nothing.")
@json_option
@asynchronous
async def doctor(*, redis: str | None, backend: str | None, settings: Settings, acl: bool, as_json: bool) -> None:
    """Check server, backend and namespace: each line is ok, a warning or an error, with what to do.

    Exit status: 0 no errors (perhaps warnings), 1 errors, 2 it couldn't look.
    """
    if acl:
        _print_rules(settings.namespace, as_json=as_json)
        return
    findings: list[Finding] = []
    async for finding in diagnose(redis, backend, settings):
        findings.append(finding)
        if not as_json:
            label = click.style(f"{finding.level:8}", fg=_COLORS[finding.level])
            click.echo(f"{label} {finding.check:13} {finding.text}")
            if finding.advice:
                click.echo(f"{'':22} → {finding.advice}")
    errors = sum(finding.level == "error" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    if as_json:
        print_json({"findings": findings, "errors": errors, "warnings": warnings})
    else:
        click.echo(f"{errors} error(s), {warnings} warning(s)")
    if errors:
        raise SystemExit(EXIT_FAULT)


def _print_rules(namespace: str, *, as_json: bool) -> None:
    services, operators = rule(namespace, SERVICES), rule(namespace, OPERATORS)
    if as_json:
        print_json({"services": services, "operators": operators, "besides": BESIDES})
        return
    click.echo("# Services and workers. For redis-cli, with a password of your own:")
    click.echo(f"ACL SETUSER {namespace}-service reset on >PASSWORD {' '.join(services)}")
    click.echo("# Operators, for status, keys, show, dead, flush, audit and doctor:")
    click.echo(f"ACL SETUSER {namespace}-operator reset on >PASSWORD {' '.join(operators)}")
    for setting, command in BESIDES.items():
        click.echo(f"# For {setting}, add +{command} to both.")
