"""Runs the proofs, several units at a time, and tells what they found in one table."""
