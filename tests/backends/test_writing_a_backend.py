"""The tutorial: its code is run as it stands, passes a strict type checker, and does what it says."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.environments import PLUGIN, REPOSITORY, Environment

TEXT = (REPOSITORY / "docs" / "writing-a-backend.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)


def files(name: str) -> list[str]:
    """Returns the blocks that are contents of the file of this name, which their first line gives."""
    return [code for _, code in BLOCKS if code.startswith(f"# {name}\n")]


def commands() -> list[str]:
    return [line for language, code in BLOCKS if language == "sh" for line in code.splitlines()]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with only pip, since the tutorial says what else to install."""
    environment = Environment(tmp_path_factory.mktemp("environment") / "venv")
    environment.install("pip")
    return environment


def test_every_block_is_run_or_a_command() -> None:
    for language, code in BLOCKS:
        assert language in ("sh", "text") or re.match(r"# [\w.]+\n", code), code
    assert commands() == [
        "pip install '/path/to/asyncwb[testing,embedded]'",
        "pip install -e '.[test]'",
        "asyncwb backends",
        'pytest -k "stale or tombstone or epoch or codec or namespace or highest"',
        "pytest",
    ]


def test_fixture_that_drops_what_it_made_is_one_that_is_used() -> None:
    (excerpt,) = files("test_postgresql.py")
    assert excerpt.partition("\n")[2] in (PLUGIN / "tests" / "test_postgresql.py").read_text()


def test_code_passes_a_strict_type_checker(tmp_path: Path) -> None:
    """Checks both versions of the tutorial's backend, each with the modules that belong to it."""
    for version, names in enumerate(
        [("asyncwb_notes.py", "test_notes.py"), ("asyncwb_notes.py", "test_notes.py", "refuse_large_notes.py")]
    ):
        folder = tmp_path / str(version)
        folder.mkdir()
        for name in names:
            (folder / name).write_text(files(name)[min(version, len(files(name)) - 1)])
        for name in ("conftest.py", "test_service.py"):
            (folder / name).write_text(files(name)[0])
        done = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(REPOSITORY / ".cache" / "mypy"), "."],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
def test_tutorial_leads_from_failing_tests_to_a_backend_that_passes(environment: Environment, tmp_path: Path) -> None:
    def write(name: str, version: int) -> None:
        (tmp_path / name).write_text(files(name)[version])

    write("asyncwb_notes.py", 0)
    write("pyproject.toml", 0)
    write("test_notes.py", 0)
    install, install_plugin, list_backends, run_quick, run_all = commands()
    for command in (install.replace("/path/to/asyncwb", str(REPOSITORY)), install_plugin):
        done = environment.run(*shlex.split(command), cwd=tmp_path, timeout=300)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "notes" in environment.run(*shlex.split(list_backends)).stdout

    first = environment.run(*shlex.split(run_quick), cwd=tmp_path, timeout=120)
    (promised,) = (code for language, code in BLOCKS if language == "text")
    for line in promised.splitlines():
        assert line in first.stdout, first.stdout[-3000:]
    assert re.search(r"^E +assert 0 == 1$", first.stdout, re.MULTILINE), "assertions of an installed wheel show values"

    for name in ("asyncwb_notes.py", "test_notes.py"):
        write(name, 1)
    for name in ("conftest.py", "test_service.py", "refuse_large_notes.py"):
        write(name, 0)
    (tmp_path / "test_refusals.py").write_text(TEST_OF_REFUSALS)
    second = environment.run(*shlex.split(run_all), "-rs", cwd=tmp_path, timeout=180)
    assert second.returncode == 0, second.stdout[-5000:]
    assert "SQLite has one writer at a time" in second.stdout
    declared = re.findall(r"declares that it hasn't got '(\w+)'", second.stdout)
    assert sorted(declared) == ["clock", "progress"]


TEST_OF_REFUSALS = """
import pytest
from asyncwb import SaveError
from asyncwb.testing.contract import put
from refuse_large_notes import SmallNotes

async def test_large_notes_fail_alone(tmp_path):
    backend = SmallNotes(str(tmp_path / "notes.db"))
    await backend.open(namespace="notes")
    with pytest.raises(SaveError, match="longer than 1 kB"):
        await backend.save([put("a", 1), put("b", 1, b'"' + b"x" * 2000 + b'"')])
    assert set(await backend.load(["a", "b"])) == {"a"}
"""


def test_what_can_be_declared_is_listed() -> None:
    from asyncwb.testing.contract import ABILITIES  # noqa: PLC0415

    listed = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|$", TEXT, re.MULTILINE))
    assert {name: listed.get(name) for name in ABILITIES} == dict(ABILITIES)
