"""The documents speak of what there is: links, tests, files, functions and commands, and the example."""

import ast
import asyncio
import re
import runpy
import subprocess
import sys
import tomllib
from itertools import takewhile
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, generate_latest

from asyncwb import (
    Bisected,
    Buffer,
    CircuitChanged,
    ConnectionChanged,
    DeadLetter,
    EpochChanged,
    Event,
    FlusherCrashed,
    FullChanged,
    Retried,
    Saved,
    SuitabilityChanged,
)
from asyncwb.protocol.keys import PartitionKeys, namespace_key
from asyncwb.protocol.wire import unpack_record
from asyncwb.records import Record, make_version
from asyncwb.testing import MemoryBackend

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
DECISIONS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs/decisions").glob("0*.md"))
FOR_DEVELOPERS = ("docs/architecture.md", "CONTRIBUTING.md", *DECISIONS)
NAMING_TESTS = [f"docs/{each}.md" for each in ("guarantees", "failures", "reliability", "security")]
DOCUMENTS = sorted(str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
CI = [line.removeprefix("step ") for line in (ROOT / ".ci/run").read_text().splitlines() if line.startswith("step ")]
RECIPES = re.findall(r"^([a-z]+)\b.*:$", (ROOT / "justfile").read_text(), re.MULTILINE)
LINTERS = list(takewhile(lambda command: not command.startswith("uv run python"), CI))


def names_in(path: Path) -> set[str]:
    """Returns the functions, classes and constants of a module, those in classes as `Class.name`."""
    names: set[str] = set()

    def collect(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                collect(node.body, f"{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    collect(ast.parse(path.read_text()).body, "")
    return names


def recipe(*arguments: str) -> list[str]:
    """Returns the commands that a recipe of the justfile would run."""
    just = Path(sys.executable).with_name("just")
    done = subprocess.run([just, "--dry-run", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return [line.strip() for line in done.stderr.splitlines()]


@pytest.mark.parametrize(
    "document",
    [
        "CONTRIBUTING.md",
        *(f"docs/{name}.md" for name in ("guarantees", "failures", "reliability", "security")),
        *DECISIONS,
    ],
)
def test_tests_that_a_document_names_exist(document: str) -> None:
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", (ROOT / document).read_text()))
    folders = {"tests": "test_*.py", "examples": "test_*.py", "asyncwb/testing/contract": "*.py"}
    paths = (path for folder, pattern in folders.items() for path in (ROOT / folder).rglob(pattern))
    sources = "\n".join(path.read_text() for path in paths)
    missing = {name for name in named if not re.search(rf"def {name}\(", sources)}
    assert named
    assert not missing


def test_every_failure_has_a_test() -> None:
    rows = [line for line in (ROOT / "docs/failures.md").read_text().splitlines() if line.startswith("| ")]
    failures = [row for row in rows if not row.startswith(("| failure", "| ---"))]
    assert len(failures) > 20
    assert all("`test_" in row and row.count(" | ") == 5 for row in failures)


@pytest.mark.parametrize("document", FOR_DEVELOPERS)
def test_paths_that_a_document_names_exist(document: str) -> None:
    folders = "asyncwb|backends|tests|benchmarks|examples|docs|\\.ci"
    named = set(re.findall(rf"(?<![\w./-])((?:{folders})/[\w./-]*\w)", (ROOT / document).read_text()))
    assert named
    assert not {name for name in named if not (ROOT / name).exists()}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_of_a_document_lead_somewhere(document: str) -> None:
    path = ROOT / document
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", path.read_text())
    for name, heading in links:
        target = path.parent / name if name else path
        assert target.exists(), f"{name}: there is no such file"
        assert not heading or heading in _anchors(target), f"{name}#{heading}: there is no such heading"


def _anchors(document: Path) -> set[str]:
    """Returns the anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", FOR_DEVELOPERS)
def test_functions_that_a_document_names_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    everywhere = set().union(*map(names_in, (ROOT / "asyncwb").rglob("*.py")))
    classes = {name for name in everywhere if name[0].isupper() and "." not in name}
    bare = set(re.findall(r"`([A-Z]\w+\.\w+)`", text))
    assert not {name for name in bare if name.split(".")[0] in classes and name not in everywhere}
    for path, name in re.findall(r"`([\w/]+\.py)`\s+`([\w.]+)`", text):
        assert name in names_in(ROOT / path), f"{path} has no {name}"


def test_routes_name_a_function_at_each_step() -> None:
    for title in ("A write", "An update", "A read", "A failing record", "A failover"):
        (route,) = re.findall(rf"^## {title}.*?(?=^## )", ARCHITECTURE, re.MULTILINE | re.DOTALL)
        assert len(re.findall(r"`[\w/]+\.py`\s+`[\w.]+`", route)) >= 6


def test_every_layer_is_described() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][1]
    layers = {name for layer in contract["layers"] for name in layer.split(" | ")}
    rows = "".join(line.split(" | ")[0] for line in ARCHITECTURE.splitlines() if line.startswith("| `asyncwb/"))
    assert set(re.findall(r"`asyncwb/(\w+)(?:\.py)?`", rows)) == layers


def test_every_key_and_the_bytes_of_a_record_are_as_described() -> None:
    keys = PartitionKeys("users", 0, 1)
    for key in (namespace_key("users"), *keys.once, keys.record(b"KEY"), keys.writer("ID")):
        assert f"| `{key.decode()}` |" in ARCHITECTURE
    (example,) = re.findall(r"```text\n([0-9a-f ]+)\n```", ARCHITECTURE)
    assert unpack_record("KEY", bytes.fromhex(example)) == Record("KEY", make_version(3, 7), b'{"n":1}')


def test_every_field_of_meta_is_described() -> None:
    scripts = "\n".join(path.read_text() for path in (ROOT / "asyncwb/protocol/lua").rglob("*.lua"))
    known = {
        field
        for call in re.findall(r"'H(?:SET|MGET)', META,((?:[^()]|\([^()]*\))*)\)", scripts)
        for field in re.findall(r"'([a-z]+)'", call)
    } | set(re.findall(r"'HINCRBY', META, '(\w+)'", scripts))
    assert len(known) > 10
    assert not {field for field in known if f"`{field}`" not in ARCHITECTURE}


def test_recipes_and_hooks_run_what_ci_runs() -> None:
    assert len(LINTERS) == 4
    assert recipe("check") == LINTERS
    assert re.findall(r"entry: (.+)", (ROOT / ".pre-commit-config.yaml").read_text()) == LINTERS
    assert recipe("test") == [CI[-1]]
    assert recipe("proofs", "--ci")[0] in CI
    assert any(command.startswith(recipe("bench")[0]) for command in CI)


def test_recipes_are_described() -> None:
    rows = re.findall(r"^\| `uv run just (\w+)` \| (.+?) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert {name: re.findall(r"`(.+?)`", commands) for name, commands in rows} == {
        name: recipe(name) for name in RECIPES
    }


def test_every_decision_is_listed() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text()
    assert DECISIONS
    for decision in DECISIONS:
        text = (ROOT / decision).read_text()
        assert f"]({Path(decision).name})" in index
        assert re.findall("^## (.+)", text, re.MULTILINE) == ["Context", "Decision", "Consequences", "Rejected"]


def test_exporter_is_short() -> None:
    assert len((ROOT / "examples/prometheus_exporter.py").read_text().splitlines()) < 70


async def test_exporter_counts_every_event(valkey_url: str, namespace: str) -> None:
    metrics = runpy.run_path(str(ROOT / "examples/prometheus_exporter.py"))["Metrics"]("users")
    async with Buffer[int](valkey_url, backend=MemoryBackend(), namespace=namespace, observer=metrics) as buffer:
        await buffer.set("a", 1)
        await buffer.drain(timeout=5)
        await asyncio.sleep(0.05)
    events: list[Event] = [
        Retried("a", "odd", 1, 0.1),
        Bisected(8, 1, 7),
        DeadLetter("a", "odd", 10),
        FlusherCrashed(0, ValueError(), 1.0),
        CircuitChanged(open=True, reason="down"),
        ConnectionChanged(up=False, reason="gone"),
        SuitabilityChanged(suitable=False, reason="evicts"),
        FullChanged(0, full=True, limit="bytes"),
        EpochChanged(0, 7),
        Saved(5, 1, 2, 0.1),
    ]
    for event in events:
        metrics(event)
    text = generate_latest(REGISTRY).decode()
    for line in (
        'asyncwb_saved_records_total{namespace="users"} 6.0', 'asyncwb_stale_records_total{namespace="users"} 1.0',
        'asyncwb_conflicts_total{namespace="users"} 2.0', 'asyncwb_retries_total{namespace="users"} 1.0',
        'asyncwb_bisected_batches_total{namespace="users"} 1.0', 'asyncwb_dead_letters_total{namespace="users"} 1.0',
        'asyncwb_flusher_crashes_total{namespace="users"} 1.0', 'asyncwb_backend_outage{namespace="users"} 1.0',
        'asyncwb_redis_up{namespace="users"} 0.0', 'asyncwb_full{namespace="users",partition="0"} 1.0',
        'asyncwb_epoch{namespace="users",partition="0"} 7.0', 'asyncwb_redis_suitable{namespace="users"} 0.0',
    ):  # fmt: skip
        assert line in text
