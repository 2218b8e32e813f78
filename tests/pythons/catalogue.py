"""Which Pythons the suite is run on, and what of it on the newest one in CI."""

from typing import Final

FREE_THREADED: Final = "3.14t"
PYTHONS: Final = ("3.12", "3.13", "3.14", "3.15", FREE_THREADED)
NEWEST: Final = "3.15"

SUITE: Final = "forky"
"""Debian's next suite: it has the Pythons that a machine with the present one lacks."""
FROM_SUITE: Final = ("3.14", "3.15")

PACKAGES: Final = (
    *(f"python{version}{part}" for version in FROM_SUITE for part in ("", "-venv")),
    "ca-certificates", "git",
    # What the tests need, as on the machine itself: a Redis beside Valkey, a MariaDB, what MongoDB's package leaves to
    # the system, a clock that tests can set, and a PostgreSQL for the Python that has no package with one.
    "redis-server", "mariadb-server-core", "mariadb-client-core", "libcurl4t64", "libfaketime", "postgresql",
)  # fmt: skip


LEFT_OUT: Final = (
    # The proofs have a step of their own, and what looks after them goes with them.
    "proofs",
    # What isn't asyncwb.
    "pythons", "project/test_benchmark*.py", "project/test_docs.py",
    # What needs more than one server: replicas, Sentinel, databases.
    "integration/writing/test_durability.py", "integration/core/test_failover.py",
    "integration/core/test_succession.py", "backends/test_mongodb*.py",
    "backends/test_third_party.py",
)  # fmt: skip
"""What CI leaves out on the newest Python, of the folder of tests. Anything new is run."""

SELECTED: Final = ("--server=valkey", *(f"--ignore-glob=tests/{path}" for path in LEFT_OUT))
"""pytest's arguments there."""
