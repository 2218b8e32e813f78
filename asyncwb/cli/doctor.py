"""`asyncwb doctor`: whether server, backend and namespace are fit to be a write buffer."""

from typing import Final

import click

from asyncwb.cli.output import print_json
from asyncwb.cli.shared import (
    EXIT_FAULT,
    asynchronous,
    json_option,
    namespace_option,
    optional_backend_option,
    redis_option,
)
from asyncwb.diagnosis import Finding, diagnose

_COLORS: Final = {"ok": "green", "warning": "yellow", "error": "red"}


@click.command()
@redis_option
@optional_backend_option
@namespace_option
@json_option
@asynchronous
async def doctor(*, redis: str | None, backend: str | None, namespace: str, as_json: bool) -> None:
    """Check server, backend and namespace: each line is ok, a warning or an error, with what to do.

    Exit status: 0 no errors (perhaps warnings), 1 errors, 2 it couldn't look.
    """
    findings: list[Finding] = []
    async for finding in diagnose(redis, backend, namespace):
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
