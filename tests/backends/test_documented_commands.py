"""The commands of docs/backends.md for each backend, in a fresh environment with what it says to install."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.databases import Mongod, PostgreSQL
from tests.harness.environments import PLUGIN, REPOSITORY, Environment

DOCUMENT = (REPOSITORY / "docs" / "backends.md").read_text("utf-8")
BLOCKS = [block.strip() for block in re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)]


@pytest.fixture(scope="module")
def environment(wheels: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("environment") / "venv")
    extras = ",".join(sorted({"embedded", *re.findall(r"`asyncwb\[(\w+)\]`", DOCUMENT)}))
    environment.install(f"asyncwb[{extras}] @ {wheels[0].as_uri()}")
    assert f"pip install ./{PLUGIN.relative_to(REPOSITORY)}" in DOCUMENT
    environment.install(str(wheels[1]))
    return environment


def block(scheme: str) -> str:
    found: str
    (found,) = (each for each in BLOCKS if f"--backend {scheme}" in each or f"--backend '{scheme}" in each)
    return found


SQLITE = """#!/usr/bin/env python3
import sqlite3, sys
for row in sqlite3.connect(sys.argv[1], isolation_level=None).execute(sys.argv[2]):
    print(*row, sep="|")
"""


def run(environment: Environment, folder: Path, commands: str) -> str:
    """Returns what the commands print when they run with a private Valkey in the folder."""
    shell = Path(environment.python).with_name("sqlite3")
    if shutil.which("sqlite3") is None and not shell.exists():
        shell.write_text(SQLITE)
        shell.chmod(0o755)
    path = f"{Path(environment.python).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{BLOCKS[0]}\n{commands}"],
        cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("url", "printed"),
    [
        ("sqlite:///rows.db", "42|Ada"),
        ("sqlite:///shop.db", "42|Ada|3|"),
        ("file:users", '{"id":42,"name":"Ada","visits":3}'),
    ],
)
def test_embedded_backend(environment: Environment, tmp_path: Path, url: str, printed: str) -> None:
    assert printed in run(environment, tmp_path, block(url)).splitlines()[-1]


def test_mongodb(environment: Environment, tmp_path: Path, mongods: Callable[[bool], Mongod]) -> None:
    server = mongods(False)
    ingest, shell = block("mongodb").splitlines()
    run(environment, tmp_path, ingest.replace("localhost:27017", f"127.0.0.1:{server.port}"))
    # The documented query, without the shell that isn't in the package of the server.
    query = re.search(r"db\.users\.find\((.*)\)'", shell)
    assert query is not None
    with server.client() as client:
        wanted = json.loads(re.sub(r"(\$?\b[a-z]\w*)", r'"\1"', query[1]))
        (found,) = client["app"]["users"].find(wanted, {"_asyncwb": 0})
        client.drop_database("app")
    assert found == {"_id": "42", "id": 42, "name": "Ada", "visits": 3}


def test_postgresql(environment: Environment, tmp_path: Path, postgresql: PostgreSQL) -> None:
    commands = block("postgresql").replace("localhost:5432", f"127.0.0.1:{postgresql.port}")
    commands = commands.replace("psql -h localhost", f"{postgresql.program('psql')} -h 127.0.0.1 -p {postgresql.port}")
    assert "42  | Ada" in run(environment, tmp_path, commands)
