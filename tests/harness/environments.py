"""Fresh virtual environments with built wheels, which is how users install asyncwb."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PLUGIN = REPOSITORY / "examples" / "asyncwb-postgresql"


def build_wheel(project: Path, into: Path) -> Path:
    """Builds the wheel of a project into a folder, and returns its path."""
    before = set(into.glob("*.whl"))
    _uv("build", "--quiet", "--wheel", "--out-dir", str(into), str(project))
    (wheel,) = set(into.glob("*.whl")) - before
    return wheel


class Environment:
    """A virtual environment of this Python that contains only what tests install."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        _uv("venv", "--quiet", "--python", sys.executable, str(folder))

    @property
    def python(self) -> str:
        return str(self._folder / "bin" / "python")

    def install(self, *requirements: str) -> None:
        _uv("pip", "install", "--quiet", "--python", self.python, *requirements)

    def run(
        self, *command: str, timeout: float = 60, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program of the environment, by default in the environment's folder."""
        path = self._folder / "bin" / command[0]
        return subprocess.run(
            [str(path), *command[1:]],
            env={**clean_environment(), **(env or {})},
            cwd=cwd or self._folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


def clean_environment() -> dict[str, str]:
    """Returns this process's environment variables without those that concern this run of the tests."""
    dropped = ("PYTHONPATH", "PYTHONPYCACHEPREFIX", "VIRTUAL_ENV", "COV_CORE", "COVERAGE", "PYTEST")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


def _uv(*arguments: str) -> None:
    command: Sequence[str] = [sys.executable, "-m", "uv", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean_environment())
    assert done.returncode == 0, f"uv {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
