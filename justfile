# Short names for the commands of CONTRIBUTING.md: `uv run just` lists them, `uv run just NAME` runs one.

_list:
    @just --list

# What CI's linters look at: formatting, rules, types, and the direction of imports.
check:
    uv run ruff format --check .
    uv run ruff check .
    uv run mypy --strict
    uv run lint-imports

# All tests but the long ones, against real servers; or some: `just test tests/protocol`.
test *arguments:
    uv run pytest -n 4 {{ arguments }}

# The unit tests, in seconds and without a server.
quick:
    uv run pytest tests/unit

# Whether the proofs work, in a minute or two; `just proofs --ci` is the form that CI runs.
proofs form="--quick":
    uv run python -m tests.proofs {{ form }}

# Whether the benchmarks work; without --quick they take half an hour and measure something.
bench:
    uv run python -m benchmarks --quick

# The tests of the documents: that names, paths and commands in them exist, and that their code runs.
docs:
    uv run pytest -n 4 tests/project/test_docs.py tests/project/test_public_api.py tests/project/test_counters.py tests/backends/test_documented_commands.py tests/backends/test_writing_a_backend.py tests/backends/test_writing_a_sql_backend.py
