"""Runs the worlds of some seeds and tells what happened: `python -m tests.proofs.simulation SEED [LAST_SEED]`."""

import logging
import sys

from tests.proofs.simulation.world import run_seed


def main(first: int, last: int) -> int:
    """One seed is narrated; of several only those that fail are shown. Returns the exit status."""
    logging.getLogger("asyncwb").setLevel(logging.CRITICAL + 1)
    failed = 0
    for seed in range(first, last + 1):
        result = run_seed(seed, narrate=print if first == last else None)
        failed += bool(result.problems)
        for problem in result.problems:
            print(f"seed {seed}: {problem}")
        if first == last:
            faults = ", ".join(f"{kind} {count}" for kind, count in sorted(result.counts.items())) or "none"
            print(f"seed {seed}: {result.steps} steps, digest {result.digest & 0xFFFFFFFF:08x}, faults: {faults}")
    print(f"{last - first + 1} seed(s), {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    raise SystemExit(main(int(sys.argv[1]), int(sys.argv[-1])))
