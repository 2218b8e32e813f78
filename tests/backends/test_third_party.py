"""A third party's plugin, its wheel installed beside asyncwb's; and what plugins that are broken do to the others."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.harness.databases import PostgreSQL
from tests.harness.environments import PLUGIN, Environment


@pytest.fixture(scope="module")
def environment(wheels: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with both wheels and what the plugin's own tests need, but no driver of another backend."""
    asyncwb, plugin = wheels
    environment = Environment(tmp_path_factory.mktemp("environment") / "venv")
    environment.install(str(asyncwb), f"asyncwb-postgresql[test] @ {plugin.as_uri()}")
    return environment


def listed(environment: Environment) -> dict[tuple[str, str], Any]:
    done = environment.run("asyncwb", "backends", "--json")
    assert done.returncode == 0, done.stderr
    return {
        (row["scheme"], row["distribution"].partition(" ")[0]): row["problem"]
        for row in json.loads(done.stdout)["backends"]
    }


def test_plugin_is_found(environment: Environment) -> None:
    assert listed(environment)["postgresql", "asyncwb-postgresql"] is None


@pytest.mark.long
def test_plugin_passes_the_contract(environment: Environment, postgresql: PostgreSQL) -> None:
    done = environment.run(
        "python", "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(PLUGIN / "tests"),
        f"--rootdir={PLUGIN}", f"--config-file={PLUGIN / 'pyproject.toml'}",
        env={"ASYNCWB_POSTGRESQL_URL": postgresql.url, "HYPOTHESIS_STORAGE_DIRECTORY": "hypothesis"}, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 60
    skipped = sorted(set(re.findall(r"^SKIPPED \[\d+\] \S+ (.+)$", done.stdout, re.MULTILINE)))
    assert len(skipped) == 2, done.stdout
    # Its outages are in test_postgresql_outages.py, for they need more of the server than its URL.
    assert "doesn't tell how its storage fails" in skipped[0]
    assert "no method load_durable" in skipped[1]


def test_plugin_is_short_and_uses_public_names_alone() -> None:
    source = (PLUGIN / "asyncwb_postgresql.py").read_text()
    assert len(source.splitlines()) < 300
    assert re.findall(r"^\s*(?:from|import) (asyncwb\S*)", source, re.MULTILINE) == ["asyncwb", "asyncwb.plugins"]


def test_missing_driver_names_the_command_that_installs_it(environment: Environment) -> None:
    found = listed(environment)
    assert found["mongodb", "asyncwb"] == (
        "backend 'mongodb' needs 'bson', which isn't installed: run pip install 'asyncwb[mongodb]'"
    )
    assert found["mongodb+srv", "asyncwb"].endswith("run pip install 'asyncwb[mongodb]'")
    assert found["sqlite", "asyncwb"].endswith("run pip install 'asyncwb[sqlite]'")
    assert found["file", "asyncwb"] is None
    done = environment.run(
        "asyncwb", "worker", "--backend", "mongodb://localhost/app", "--redis", "redis://127.0.0.1:1"
    )
    assert done.returncode == 2, done.stdout
    assert done.stderr.strip().endswith("run pip install 'asyncwb[mongodb]'")
    assert "Traceback" not in done.stderr


def test_broken_and_duplicate_plugins_are_reported_and_disturb_nobody(
    wheels: tuple[Path, Path], tmp_path: Path
) -> None:
    environment = Environment(tmp_path / "venv")
    asyncwb, plugin = wheels
    projects = [
        project(tmp_path, "asyncwb-broken", "broken", "raise RuntimeError('boom')"),
        project(tmp_path, "asyncwb-postgres-too", "postgresql", "def from_url(url, *, codec): ..."),
    ]
    environment.install(str(asyncwb), str(plugin), *map(str, projects))
    found = listed(environment)
    assert "can't be loaded: RuntimeError('boom')" in found["broken", "asyncwb-broken"]
    both = (
        "scheme 'postgresql' is claimed by asyncwb-postgres-too 1.0 and asyncwb-postgresql 0.1.0: "
        "uninstall all but one of them"
    )
    assert found["postgresql", "asyncwb-postgresql"] == found["postgresql", "asyncwb-postgres-too"] == both
    assert found["file", "asyncwb"] is None
    for_people = environment.run("asyncwb", "backends")
    assert for_people.returncode == 0
    lines = for_people.stdout.splitlines()
    assert lines.count(both) == 1
    assert any("'broken' (asyncwb-broken 1.0) can't be loaded: RuntimeError('boom')" in line for line in lines)
    assert any(line.endswith("run pip install 'asyncwb[mongodb]'") for line in lines)
    script = (
        "import sys; from asyncwb.plugins.registry import backend_from_url; from asyncwb import Codec\n"
        "backend_from_url(sys.argv[1], codec=Codec())"
    )
    assert environment.run("python", "-c", script, "file:///tmp/x").returncode == 0
    for url, problem in (("postgresql://localhost/x", both), ("broken:x", "boom")):
        done = environment.run("python", "-c", script, url)
        assert done.returncode == 1
        assert problem in done.stderr


def project(folder: Path, name: str, scheme: str, source: str) -> Path:
    """Writes a distribution with one module and one entry point."""
    module = name.replace("-", "_")
    path = folder / name
    path.mkdir()
    (path / f"{module}.py").write_text(source)
    (path / "pyproject.toml").write_text(
        f"""
        [build-system]
        requires = ["hatchling"]
        build-backend = "hatchling.build"
        [project]
        name = "{name}"
        version = "1.0"
        [project.entry-points."asyncwb.backends"]
        {scheme} = "{module}:from_url"
        [tool.hatch.build.targets.wheel]
        only-include = ["{module}.py"]
        """
    )
    return path
