"""README's two commands on one Python, as somebody who has just cloned the repository runs them."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from tests.pythons.machines import Found

REPOSITORY: Final = Path(__file__).parents[2]
_GRACE_SECONDS: Final = 30.0
_DROPPED: Final = ("PYTHON", "VIRTUAL_ENV", "COV_CORE", "COVERAGE", "PYTEST", "UV_PROJECT", "UV_PYTHON", "UV_RUN")
"""What is about the run that this one is part of."""


class Failed(Exception):
    """A command that had to succeed didn't, and which."""


@dataclass(slots=True)
class Outcome:
    """What came of the suite on one Python.

    Attributes:
        passed, failed, skipped: tests; errors count as failed.
        reasons: why tests were skipped, and how many each.
        seconds: of pytest as a whole.
    """

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def commands(readme: str) -> tuple[str, str]:
    """The two commands of README."""
    chapter = readme.partition("## Two commands\n")[2].partition("\n## ")[0]
    demo, pytest = re.findall(r"```sh\n(.+)\n```", chapter)
    return demo, pytest


class Clone:
    """A copy of the repository for one Python, with a virtual environment around it that is "active".

    Args:
        work: what is made anew: as the Python's machine sees it.
        seconds: after so long all its commands have to be through.
    """

    def __init__(self, found: Found, work: Path, *, seconds: float) -> None:
        self._found = found
        self._work = work
        self._outside = found.machine.root / work.relative_to("/")
        self._deadline = time.monotonic() + seconds
        shutil.rmtree(self._outside, ignore_errors=True)
        _copy(REPOSITORY, self._outside / "asyncwb")
        self._run(found.python, "-m", "venv", str(work / "venv"))

    def demo(self, command: str) -> None:
        """Sets everything up, and runs the demo."""
        self._shell(command)

    def version(self) -> str:
        """Of the Python that the project's environment has got: "3.15.0"."""
        config = (self._outside / "asyncwb/.venv/pyvenv.cfg").read_text("utf-8")
        (version,) = re.findall(r"^version_info = (\S+)", config, re.MULTILINE)
        return str(version)

    def suite(self, command: str, arguments: Sequence[str] = ()) -> Outcome:
        """Runs the tests; some of them may fail."""
        started = time.monotonic()
        try:
            self._shell(f"{command} {shlex.join(['--junit-xml=../results.xml', *arguments])}")
        except Failed:
            if not (self._outside / "results.xml").exists():
                raise
        outcome = read_results(self._outside / "results.xml")
        outcome.seconds = time.monotonic() - started
        return outcome

    def other(self, command: Sequence[str]) -> None:
        """Any other command."""
        self._shell(shlex.join(command))

    def _shell(self, command: str) -> None:
        self._run("/bin/sh", "-c", f'PATH={shlex.quote(str(self._work))}/venv/bin:"$PATH"; {command}', folder="asyncwb")

    def _run(self, *arguments: str, folder: str = "") -> None:
        machine = self._found.machine
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_DROPPED)}
        inherited.pop("UV", None)
        # uv looks for a Python that is no virtual environment, and would take the newest of those that the machine has.
        inherited["UV_PYTHON"] = self._found.python
        command = machine.command(*arguments, cwd=self._work / folder)
        print(f"+ {arguments[-1] if arguments[0] == '/bin/sh' else shlex.join(arguments)}", flush=True)
        status = run_bounded(command, machine.environment(inherited), self._deadline - time.monotonic())
        if status != 0:
            raise Failed(f"`{shlex.join(arguments)}` ended with {status}")


def run_bounded(command: Sequence[str], environment: Mapping[str, str], seconds: float) -> int:
    """The exit status of a command; whatever happens, nothing of it is left.

    Raises:
        Failed: it took too long.
    """
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        return process.wait(max(seconds, 0.0))
    except subprocess.TimeoutExpired as error:
        raise Failed(f"`{shlex.join(command)}` was not through in time (--minutes)") from error
    finally:
        for signal_, patience in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, 5.0)):
            try:
                os.killpg(process.pid, signal_)
                process.wait(patience)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def read_results(path: Path) -> Outcome:
    """Of pytest's JUnit file."""
    outcome = Outcome()
    for case in ET.parse(path).iter("testcase"):
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            outcome.failed += 1
        elif skipped is not None:
            outcome.skipped += 1
            outcome.reasons[skipped.get("message", "")] += 1
        else:
            outcome.passed += 1
    return outcome


def _copy(repository: Path, target: Path) -> None:
    """A repository with one commit of everything."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repository, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in listed.split("\0"):
        source = repository / name
        if name and source.exists():  # it may have been deleted since
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name, follow_symlinks=False)
    author = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.com", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "--all"], [*author, "commit", "--quiet", "--message=all"]):
        subprocess.run(["git", *command], cwd=target, check=True)
