"""Chaos: real processes are killed, frozen and starved, and a checker proves from histories that nothing was lost.

`uv run python -m tests.proofs.chaos` runs one world by hand.
"""
