"""The public API: what it exports, what the README shows, and what a type checker sees."""

import ast
import inspect
import pickle
import re
import subprocess
import sys
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import get_args

import pytest

import asyncwb
from asyncwb import errors, plugins
from tests.harness.imports import HEAVY, loaded_by

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
GUIDE = (ROOT / "docs" / "writing-a-backend.md").read_text("utf-8")


def test_door_is_explicit_and_complete() -> None:
    constants_first = sorted(asyncwb.__all__, key=lambda name: (not name.isupper(), name))
    assert constants_first == list(asyncwb.__all__), "as the linter wants it"
    for name in asyncwb.__all__:
        assert hasattr(asyncwb, name)
    tree = [name for name, each in vars(errors).items() if inspect.isclass(each) and issubclass(each, Exception)]
    assert set(tree) <= set(asyncwb.__all__), "every error can be caught by its name"


def test_names_are_those_that_a_type_checker_sees() -> None:
    tree = ast.parse((ROOT / "asyncwb" / "__init__.py").read_text("utf-8"))
    (branch,) = (node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(branch.test) == "TYPE_CHECKING"
    seen = {}
    for node in branch.body:
        assert isinstance(node, ast.ImportFrom)
        assert node.module is not None
        for alias in node.names:
            assert alias.asname is None
            seen[alias.name] = getattr(import_module(node.module), alias.name)
    assert set(seen) == set(asyncwb.__all__)
    for name, each in seen.items():
        assert getattr(asyncwb, name) is each
    assert set(asyncwb.__all__) <= set(dir(asyncwb))
    assert not hasattr(asyncwb, "buffers")
    assert asyncwb.Buffer.__module__ == "asyncwb.buffer", "as ever"


def test_star_imports_what_is_public() -> None:
    names: dict[str, object] = {}
    exec("from asyncwb import *", names)
    assert set(names) - {"__builtins__"} == set(asyncwb.__all__)


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import asyncwb", {"asyncwb.", "asyncio", *HEAVY}),
        ("from asyncwb import AsyncwbError, Settings, RedisUnavailable", {"asyncwb.buffer", "asyncio", *HEAVY}),
        ("from asyncwb import Record, Saved", {"asyncwb.buffer", "redis", "hiredis", "anyio", "rich"}),
    ],
)
def test_import_loads_what_is_asked_for(code: str, unwanted: set[str]) -> None:
    assert not [name for name in loaded_by(code) if name.startswith(tuple(unwanted))]


def test_error_is_unpickled_where_nothing_was_imported() -> None:
    text = pickle.dumps(asyncwb.SaveError({"a": asyncwb.RecordRejected("odd")}, stale=2))
    code = f"import pickle; error = pickle.loads({text!r}); print(repr(error.failed), error.stale)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "{'a': RecordRejected('odd')} 2\n"


def test_every_error_is_in_the_tree_and_in_its_drawing() -> None:
    assert errors.__doc__ is not None
    for name in asyncwb.__all__:
        each = getattr(asyncwb, name)
        if inspect.isclass(each) and issubclass(each, Exception):
            assert issubclass(each, asyncwb.AsyncwbError)
            assert name in errors.__doc__


@pytest.mark.parametrize("name", asyncwb.__all__)
def test_everything_public_is_documented(name: str) -> None:
    each = getattr(asyncwb, name)
    if not inspect.isclass(each):
        return
    assert each.__doc__
    for method, function in inspect.getmembers(each, inspect.isfunction):
        if not method.startswith("_") and function.__module__.startswith("asyncwb"):
            assert function.__doc__, f"{name}.{method}"


def test_literals_of_public_signatures_are_public() -> None:
    assert set(get_args(asyncwb.CodecName)) == {"json", "msgpack", "bytes"}
    assert set(get_args(asyncwb.Durability)) == {"memory", "fsync", "replicated"}


@pytest.mark.parametrize("name", plugins.__all__)
def test_every_helper_for_plugins_is_documented(name: str) -> None:
    assert sorted(plugins.__all__) == list(plugins.__all__)
    assert getattr(plugins, name).__doc__
    assert name not in asyncwb.__all__, "services have no use for it"
    assert f"`{name}" in GUIDE


def test_readme_imports_only_what_is_public() -> None:
    names = {
        name.strip()
        for line in re.findall(r"^from asyncwb import (.+)$", README, re.MULTILINE)
        for name in line.split(",")
    }
    assert names
    assert names <= set(asyncwb.__all__)


def test_example_of_the_readme_runs(tmp_path: Path) -> None:
    example = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "asyncio.run" in block)
    assert len([line for line in example.splitlines() if line.strip()]) <= 15
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "User(name='Ada'" in done.stdout


def test_package_says_that_it_is_typed() -> None:
    assert (files("asyncwb") / "py.typed").is_file()
    assert (files("asyncwb_backends") / "py.typed").is_file()


def test_type_checker_sees_what_get_returns() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "tests/project/typed/api.py"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r'Revealed type is "(\S*User \| None|Union\[\S*User, None\])"', done.stdout), done.stdout
