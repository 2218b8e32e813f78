"""Finds out which modules a fresh process loads when it runs some code."""

import json
import subprocess
import sys

HEAVY = (
    "redis",
    "hiredis",
    "msgspec",
    "anyio",
    "rich",
    "uvloop",
    "aiosqlite",
    "sqlite3",
    "motor",
    "pymongo",
    "asyncpg",
)
"""Modules that take long to import: clients, drivers, and the printing of tables."""


def loaded_by(code: str) -> list[str]:
    """Returns the modules that the code imports in a new process, beyond those that were loaded before it."""
    program = f"""
import json, sys
before = set(sys.modules)
try:
    {code}
except SystemExit as ending:
    assert not ending.code
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found
