"""All proofs of the invariants I1 to I6, run in parallel and told in one table: `uv run python -m tests.proofs`."""
