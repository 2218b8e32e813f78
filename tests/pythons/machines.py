"""Where a Python is: on this machine, or in a folder with Debian's next suite."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from tests.pythons.catalogue import FROM_SUITE
from tests.pythons.chroot import Unavailable, debian

_ASK: Final = (
    "import sys, sysconfig; v = sys.version_info; free = bool(sysconfig.get_config_var('Py_GIL_DISABLED')); "
    "print(f'{v[0]}.{v[1]}' + 't' * free, sys.executable)"
)


class Machine(Protocol):
    """Runs programs that see `root` as `/`."""

    root: Path

    def command(self, *arguments: str, cwd: Path) -> list[str]:
        """What runs a program with its arguments in a folder."""
        ...

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """Its environment."""
        ...


class Here:
    """This machine itself."""

    root = Path("/")

    def command(self, *arguments: str, cwd: Path) -> list[str]:
        return ["env", "--chdir", str(cwd), *arguments]

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        return dict(inherited)


@dataclass(frozen=True, slots=True)
class Found:
    """A Python, and the machine that has it; its path is as that machine sees it."""

    machine: Machine
    python: str


def find(version: str, cache: Path) -> Found:
    """A Python of a version, "3.15", or with a "t" behind it the free-threaded build of one.

    Raises:
        Unavailable: it is not here and can't be had.
        RuntimeError: it could be had, but something failed.
    """
    for candidate in _candidates(version):
        done = subprocess.run([candidate, "-c", _ASK], capture_output=True, text=True, check=False)
        asked, _, path = done.stdout.strip().partition(" ")
        if done.returncode == 0 and asked == version:
            return Found(Here(), path)
    if version in FROM_SUITE:
        return Found(debian(cache), f"/usr/bin/python{version}")
    raise Unavailable(
        f"there is no python{version} on PATH or in pyenv" + ", and Debian has none" * version.endswith("t")
    )


def _candidates(version: str) -> Iterator[str]:
    if path := shutil.which(f"python{version}"):
        yield path
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    for folder in sorted(pyenv.glob(f"versions/{version.removesuffix('t')}*"), reverse=True):
        yield from map(str, folder.glob("bin/python"))
