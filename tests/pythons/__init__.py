"""The suite on every Python that asyncwb supports: `uv run python -m tests.pythons`."""
