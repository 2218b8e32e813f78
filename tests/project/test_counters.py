"""The programs of docs/counters.md: each prints what the document says, and a type checker passes it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCUMENT = (Path(__file__).parents[2] / "docs" / "counters.md").read_text("utf-8")
PROGRAMS = {
    heading: (code, printed)
    for heading, code, printed in re.findall(
        r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(import [^`]+)```\n\n```text\n([^`]+)```",
        DOCUMENT,
        re.MULTILINE | re.DOTALL,
    )
}


def test_every_program_of_the_document_is_found() -> None:
    assert len(PROGRAMS) == DOCUMENT.count("asyncio.run(main())") == 4


@pytest.mark.parametrize("heading", PROGRAMS)
def test_program_prints_what_the_document_says(heading: str, tmp_path: Path) -> None:
    code, printed = PROGRAMS[heading]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")


def test_type_checker_passes_the_programs(tmp_path: Path) -> None:
    names = [f"program_{number}.py" for number in range(len(PROGRAMS))]
    for name, (code, _) in zip(names, PROGRAMS.values(), strict=True):
        (tmp_path / name).write_text(code, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *names], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
