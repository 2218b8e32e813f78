"""The environments that a comparison is between: this commit here, and another commit, another Python, or both."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_CACHE: Final = ROOT / ".cache" / "against"


class CannotCompare(Exception):
    """There is nothing to compare with, and why."""


@dataclass(frozen=True, slots=True)
class Side:
    """An installed asyncwb.

    Attributes:
        name: "1a2b3c4" or "Python 3.14.0", as shown.
        python: of its environment.
        source: where its asyncwb has to come from.
        harnesses: folders with `benchmarks` and `tests`, in the order in which they are tried.
        commit: in full; None is the work tree.
    """

    name: str
    python: str
    source: Path
    harnesses: tuple[Path, ...]
    commit: str | None = None


def present() -> Side:
    """The work tree as it is, in this environment."""
    return Side("this", sys.executable, ROOT, (ROOT,))


def other(commit: str | None, python: str | None) -> Side:
    """A commit (else the work tree), installed for a Python (else this one) into an environment of its own.

    Its dependencies have the versions that they have here, where its own bounds allow that.

    Args:
        commit: anything that names one to git.
        python: a version or a path, as `uv --python` takes it.

    Raises:
        CannotCompare: there is no such commit or Python, or it can't be installed.
    """
    chosen = python or sys.executable
    if commit is None:
        environment = _CACHE / f"python-{_file_name(chosen)}"
        _sync(ROOT, chosen, {"UV_PROJECT_ENVIRONMENT": str(environment)})
        installed = str(environment / "bin/python")
        return Side(_version(installed), installed, ROOT, (ROOT,))
    full = _git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}").decode().strip()
    folder = _CACHE / f"{full[:12]}-{_file_name(chosen)}"
    tree, harness = folder / "tree", folder / "harness"
    if not tree.exists():
        unfinished = folder / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", full))) as archive:
            archive.extractall(unfinished, filter="data")
        if (ROOT / "uv.lock").exists():
            shutil.copy(ROOT / "uv.lock", unfinished)
        unfinished.rename(tree)
    # Copied: what is a link to here would import this asyncwb.
    shutil.rmtree(harness, ignore_errors=True)
    for part in ("benchmarks", "tests"):
        shutil.copytree(ROOT / part, harness / part, ignore=shutil.ignore_patterns("__pycache__"))
    _sync(tree, chosen, {})
    own = (tree,) if (tree / "benchmarks/harness/side.py").exists() else ()
    installed = str(tree / ".venv/bin/python")
    name = f"{commit}, {_version(installed)}" if python else commit
    return Side(name, installed, tree, (harness, *own), full)


def clean_environment() -> dict[str, str]:
    """This environment, without what is about this one's Python."""
    dropped = ("PYTHON", "VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "UV_PYTHON", "COVERAGE")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


def _sync(project: Path, python: str, environment: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "uv", "sync", "--quiet", "--python", python, "--project", str(project)]
    done = subprocess.run(
        command, env={**clean_environment(), **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise CannotCompare(f"it can't be installed for {python}: {done.stderr.strip()}")


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip() or "no such commit"
        raise CannotCompare(f"`git {' '.join(arguments)}`: {reason}")
    return done.stdout


def _version(python: str) -> str:
    """As it says itself: "Python 3.14.0"."""
    return subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def _file_name(python: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in python).strip("-")[-40:]
