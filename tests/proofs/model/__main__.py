"""`python -m tests.proofs.model [NAME]`: lists configurations and mutants, or runs those whose name has NAME in it."""

import sys
import time

from tests.proofs.model.checker import Result, explore
from tests.proofs.model.configurations import LARGE, SMALL
from tests.proofs.model.invariants import INVARIANTS
from tests.proofs.model.mutants import MUTANTS


def main(name: str) -> int:
    """0 if every configuration is sound and every mutant was killed."""
    configurations = [each for each in SMALL + LARGE if name in each.name]
    mutants = [each for each in MUTANTS if name in each.name]
    if not name:
        print("configurations:", *(f"  {each.name}" for each in configurations), sep="\n")
        print("mutants:", *(f"  {each.name}" for each in mutants), sep="\n")
        return 0
    wrong = not configurations and not mutants
    if wrong:
        print(f"nothing has {name!r} in its name")
    for configuration in configurations:
        print(f"{configuration.name}:")
        started = time.perf_counter()
        result = explore(configuration)
        _tell(result, time.perf_counter() - started)
        wrong |= bool(result.invariant)
    for mutant in mutants:
        print(f"{mutant.name}: dropped is {', '.join(f'“{each}”' for each in sorted(mutant.drops))}")
        started = time.perf_counter()
        result = mutant.search()
        _tell(result, time.perf_counter() - started)
        wrong |= result.invariant != mutant.invariant
    return int(wrong)


def _tell(result: Result, seconds: float) -> None:
    rate = result.states / seconds
    print(f"  {result.states:,} states, {result.depth} steps deep, in {seconds:.1f} s ({rate:,.0f} a second)")
    for number, step in enumerate(result.trace, 1):
        print(f"  {number:2} {step}")
    if result.invariant:
        print(f"  {result.invariant} is broken: {INVARIANTS[result.invariant]}")


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
