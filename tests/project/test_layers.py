"""The layers of asyncwb, checked by calls and not only by imports."""

import subprocess
import sys

import pytest

from tests.harness.environments import REPOSITORY


@pytest.mark.long
def test_no_call_leads_to_a_layer_above() -> None:
    command = [sys.executable, "-m", "benchmarks.profiling.routes"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.count(", 0 of them a layer above") == 4, done.stdout + done.stderr
    assert done.returncode == 0
