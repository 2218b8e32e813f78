"""One unit of a proof, in a process of its own: `python -m tests.proofs.unit NAME NUMBER` prints its report in JSON."""

import sys

from tests.proofs.runner.catalogue import proof

if __name__ == "__main__":
    name, number = sys.argv[1:]
    report = proof(name).run(int(number))
    print(report.to_json())
