"""All proofs: `uv run python -m tests.proofs [--quick | --ci | --minutes N] [--only NAME] [--jobs N]`.

--quick looks whether they work (a minute or two), --ci is what CI runs, --minutes N is the long form: it begins no unit
after N minutes, and goes on with new seeds if it is through before. One table tells what was done; the exit status is 1
if anything did not hold. One unit again: `uv run python -m tests.proofs.unit NAME NUMBER`.
"""

import argparse
import asyncio
import os
import signal
import sys
import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from tests.proofs.runner.catalogue import NAMES, Form, proof
from tests.proofs.runner.running import Run
from tests.proofs.runner.table import shortfalls, show

_LINE_SECONDS = 30.0


class Teller:
    """Shows how far a run is: in place on a terminal, else with a line now and then."""

    def __init__(self, run: Run, console: Console) -> None:
        self._run = run
        self._console = console
        self._live = Live(self._text(), console=console, transient=True) if console.is_terminal else None
        self._told = time.monotonic()

    def _text(self) -> Text:
        parts = [
            f"{name} {each.ended}/{each.planned}"
            + (f", {len(each.report.problems)} problem(s)" * bool(each.report.problems))
            for name, each in self._run.progress.items()
        ]
        return Text(f"{self._run.seconds:5.0f} s  {'  '.join(parts)}")

    def changed(self) -> None:
        if self._live is not None:
            self._live.update(self._text())
        elif time.monotonic() - self._told > _LINE_SECONDS:
            self._told = time.monotonic()
            self._console.print(self._text())

    async def run(self) -> None:
        if self._live is None:
            await self._run.run(self.changed)
        else:
            with self._live:
                await self._run.run(self.changed)


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        "python -m tests.proofs", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    form_options = parser.add_mutually_exclusive_group()
    form_options.add_argument("--quick", action="store_true")
    form_options.add_argument("--ci", action="store_true")
    form_options.add_argument("--minutes", type=float)
    parser.add_argument("--only", choices=NAMES, action="append")
    parser.add_argument(
        "--jobs", type=int, default=(os.cpu_count() or 1) + 1, help="units at a time; many of them wait"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the units that run are ended
    form: Form = "quick" if options.quick else "ci" if options.ci or options.minutes is None else "long"
    limit = options.minutes * 60 if options.minutes is not None else None
    run = Run([proof(name) for name in options.only or NAMES], form, limit_seconds=limit, jobs=options.jobs)
    console = Console(width=None if sys.stdout.isatty() else 120)
    asyncio.run(Teller(run, console).run())
    show(run, form, console)
    return int(bool(shortfalls(run, form)))


if __name__ == "__main__":
    raise SystemExit(main())
