"""README's two commands on every Python: `uv run python -m tests.pythons [options] [-- COMMAND...]`.

Pythons of this machine (on PATH, in pyenv) are taken where it has them. Otherwise 3.14 and 3.15 come from Debian's next
suite, which needs a Debian, its package debootstrap, and root. What can't be run here is told, and is no failure. If
there is a COMMAND, it is run instead, in the project's folder.
"""

import argparse
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.pythons.catalogue import NEWEST, PYTHONS, SELECTED
from tests.pythons.chroot import Unavailable
from tests.pythons.machines import Here, find
from tests.pythons.suite import REPOSITORY, Clone, Failed, Outcome, commands

_CACHE: Final = REPOSITORY / ".cache" / "pythons"


@dataclass(slots=True)
class Line:
    """A Python's line of the table.

    Attributes:
        version: in full, once it is known.
        absent: why it couldn't be run here.
        failure: what failed, other than tests.
    """

    version: str
    outcome: Outcome = field(default_factory=Outcome)
    absent: str = ""
    failure: str = ""

    @property
    def holds(self) -> bool:
        return bool(self.absent) or not (self.failure or self.outcome.failed)


def attempt(version: str, chosen: Sequence[str], *, minutes: float, other: list[str]) -> Line:
    """Everything for one Python."""
    line = Line(version)
    try:
        found = find(version, _CACHE)
        folder = _CACHE / version if isinstance(found.machine, Here) else Path("/clones") / version
        clone = Clone(found, folder, seconds=minutes * 60)
        demo, pytest = commands((REPOSITORY / "README.md").read_text("utf-8"))
        if other:
            clone.other(["pip", "install", "--quiet", "uv"])
            clone.other(other)
        else:
            clone.demo(demo)
        line.version = clone.version()
        if not line.version.startswith(version.removesuffix("t")):
            raise Failed(f"uv has taken {line.version}")
        if not other:
            line.outcome = clone.suite(pytest, chosen)
    except Unavailable as reason:
        line.absent = str(reason)
    except (Failed, RuntimeError, OSError, subprocess.SubprocessError) as failure:
        line.failure = str(failure)
    return line


def show(lines: list[Line]) -> None:
    """The table, why tests were skipped, and what failed besides tests."""
    print(f"\n{'Python':<10}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for line in lines:
        done = line.outcome
        if line.absent:
            print(f"{line.version:<10}not run: {line.absent}")
        else:
            print(f"{line.version:<10}{done.passed:>8}{done.failed:>8}{done.skipped:>9}{done.seconds:>9.0f}")
    for line in lines:
        for reason, count in line.outcome.reasons.most_common():
            print(f"{line.version}: {count} skipped: {reason}")
        if line.failure:
            print(f"{line.version}: FAILED: {line.failure}")


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        "python -m tests.pythons", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=PYTHONS, action="append", help="this one; may be given several times")
    parser.add_argument("--newest", action="store_true", help=f"{NEWEST}, and of the suite what CI has time for")
    parser.add_argument("--minutes", type=float, default=60, help="for each Python; more is a failure (%(default)s)")
    parser.add_argument("command", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what runs is ended
    versions = [NEWEST] if options.newest else options.only or PYTHONS
    chosen = SELECTED if options.newest else ()
    lines = []
    for version in versions:
        print(f"\n== Python {version}: {shlex.join(options.command) or 'README'}", flush=True)
        lines.append(attempt(version, chosen, minutes=options.minutes, other=options.command))
    show(lines)
    return int(not all(line.holds for line in lines))


if __name__ == "__main__":
    raise SystemExit(main())
