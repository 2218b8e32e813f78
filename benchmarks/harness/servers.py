"""The servers that are measured: those that the tests start."""

import subprocess

from tests.harness.databases import Mongod, PostgreSQL
from tests.harness.servers import Server, binary

__all__ = ["Mongod", "PostgreSQL", "Server", "server_version"]


def server_version(kind: str) -> str:
    """As its binary says it."""
    path, reason = binary(kind)
    assert path is not None, reason
    return (
        subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.split(" sha=")[0].strip()
    )
