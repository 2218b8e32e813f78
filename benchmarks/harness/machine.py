"""What the figures were measured on: it belongs to every result."""

import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.harness.servers import server_version

_PACKAGES: Final = (
    "asyncwb", "redis", "hiredis", "aiosqlite", "motor", "pymongo", "anyio", "msgspec", "uvloop", "saq", "streaq",
)  # fmt: skip


def describe_machine() -> dict[str, Any]:
    """Processor, memory, kernel, and the versions of everything that takes part."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "server": server_version("valkey"),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "command": command_of(sys.argv[1:]),
    }


def command_of(arguments: Sequence[str]) -> str:
    """Without the folder of the results: a path of one machine, which changes nothing."""
    return re.sub(r" --out[ =]\S+", "", " ".join(["python -m benchmarks", *arguments]))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    if shutil.which("git") is None:
        return "unknown"
    here = Path(__file__).resolve().parent
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
