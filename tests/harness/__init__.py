"""What tests run against: real servers and databases, processes, proxies, and a partition driven step by step."""

from pathlib import Path
from typing import Final

PROGRAMS: Final = Path(__file__).parent
"""The folder of the programs that tests start and kill: the files named `…_process.py`."""
