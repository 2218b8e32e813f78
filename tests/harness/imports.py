"""Which modules a fresh process has loaded after some code."""

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
"""What takes long to import: clients, drivers, and what prints tables."""


def loaded_by(code: str) -> list[str]:
    """Modules that the code has imported, in a process of its own, beside those that a bare interpreter has."""
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
