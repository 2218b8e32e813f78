"""One unit of a proof, in a process of its own: `python -m tests.proofs.unit NAME NUMBER` prints its report in JSON."""
