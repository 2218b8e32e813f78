"""The servers that are measured: those that the tests start."""

import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from databases import Mongod, PostgreSQL
from servers import Server, binary

__all__ = ["Mongod", "PostgreSQL", "Server", "server_version"]


def server_version(kind: str) -> str:
    """As its binary says it."""
    path, reason = binary(kind)
    assert path is not None, reason
    return (
        subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.split(" sha=")[0].strip()
    )
