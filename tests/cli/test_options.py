"""Settings on the command line: each of them is an option and a variable, and nobody else reads the variables."""

import dataclasses
import json
import os
import subprocess
import sys
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from asyncwb import Settings
from asyncwb.cli import main
from asyncwb.cli.options import WRITING, settings_options
from tests.harness.commands import leaves

FIELDS = {field.name: field.default for field in dataclasses.fields(Settings)}
COMMANDS = dict(leaves(main))

#: A value of each setting that isn't its default, as it is written; a new setting is to be added.
OTHER = {
    "namespace": "users", "partitions": "3", "flushers": "0", "commit": "watch", "durability": "fsync", "replicas": "2",
    "max_dirty": "10", "max_bytes": "1000", "max_age_seconds": "0.5", "low_watermark": "0.5", "on_full": "wait",
    "full_timeout_seconds": "inf", "max_remembered_writes": "5", "max_delay_seconds": "0.25", "batch_size": "7",
    "batch_bytes": "100", "max_value_bytes": "50", "check_values": "False", "lease_seconds": "3",
    "save_timeout_seconds": "1e3", "drain_timeout_seconds": "0", "connect_timeout_seconds": "0.1",
    "redis_timeout_seconds": "0.2",
    "redis_retry_seconds": "0", "max_attempts": "none", "retry_initial_seconds": "0.01", "retry_max_seconds": "0.02",
    "probe_seconds": "0.03", "backoff_initial_seconds": "0.04", "backoff_max_seconds": "0.06",
}  # fmt: skip


def variable(name: str) -> str:
    return f"ASYNCWB_{name.upper()}"


def option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def options_of(command: click.Command) -> dict[str, click.Option]:
    """Returns a command's options for settings, by their names."""
    return {
        str(param.name): param for param in command.params if isinstance(param, click.Option) and param.name in FIELDS
    }


def made(
    *arguments: str, env: dict[str, str] | None = None, file: dict[str, Any] | None = None, **defaults: Any
) -> Any:
    """The settings that a command gets, or the result if it gets none."""
    found: list[Settings] = []

    @click.command()
    @settings_options(**defaults)
    def command(settings: Settings) -> None:
        found.append(settings)

    result = CliRunner().invoke(command, list(arguments), env=env, default_map=file)
    assert isinstance(result.exception, SystemExit | None), result.exception
    return found[0] if found else result


@pytest.mark.parametrize("path", [("worker",), ("ingest",)])
def test_every_setting_is_an_option_and_a_variable(path: tuple[str, ...]) -> None:
    options = options_of(COMMANDS[path])
    assert set(options) == set(FIELDS)
    for name, each in options.items():
        assert each.opts == [option(name)]
        assert each.envvar == variable(name)
        assert each.help, "what the docstring of Settings says of it"
    text = " ".join(CliRunner().invoke(main, [*path, "--help"]).stdout.split())
    for name in FIELDS:
        assert f"env var: {variable(name)}" in text


def test_every_command_takes_the_settings_that_matter_to_it() -> None:
    looking = {"namespace", "redis_timeout_seconds"}
    storing = looking | {"connect_timeout_seconds", "save_timeout_seconds"}
    taken = {path: set(options_of(command)) for path, command in COMMANDS.items()}
    assert taken == {
        ("worker",): set(FIELDS),
        ("ingest",): set(FIELDS),
        ("flush",): set(FIELDS) - {*WRITING, "partitions", "drain_timeout_seconds"},
        ("demo",): {"partitions", "flushers", "commit", "batch_size"},
        ("status",): looking,
        ("keys",): looking,
        ("audit",): looking,
        ("dead", "list"): looking,
        ("dead", "show"): looking,
        ("dead", "retry"): storing,
        ("dead", "drop"): looking,
        ("show",): storing,
        ("doctor",): storing,
        ("adopt-server",): storing,
        ("hand-over",): storing,  # its namespace is the one of --to
        ("backends",): set(),
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_names_the_variables(path: tuple[str, ...]) -> None:
    text = " ".join(CliRunner().invoke(main, [*path, "--help"]).stdout.split())
    variables = [param.envvar for param in COMMANDS[path].params if isinstance(param, click.Option) and param.envvar]
    assert variables or path == ("backends",)
    for each in variables:
        assert f"env var: {each}" in text


def test_defaults_are_those_of_settings() -> None:
    assert made() == Settings()
    assert made(max_dirty=5, on_full="wait", max_attempts=None) == Settings(
        max_dirty=5, on_full="wait", max_attempts=None
    )


def test_every_setting_can_be_given_in_every_way() -> None:
    assert set(OTHER) == set(FIELDS)
    wanted = made(*(f"{option(name)}={value}" for name, value in OTHER.items()))
    changed = {name for name in FIELDS if getattr(wanted, name) != FIELDS[name]}
    assert changed == set(FIELDS)
    assert made(env={variable(name): value for name, value in OTHER.items()}) == wanted
    # A file will be read into click's default_map; its values have types, but TOML has no null.
    typed = {name: getattr(wanted, name) for name in FIELDS}
    assert made(file={name: "none" if value is None else value for name, value in typed.items()}) == wanted


def test_option_comes_before_variable_before_file_before_default() -> None:
    file = {"max_dirty": 3, "max_bytes": 3, "batch_size": 3}
    env = {"ASYNCWB_MAX_DIRTY": "2", "ASYNCWB_MAX_BYTES": "2"}
    found = made("--max-dirty", "1", env=env, file=file, max_dirty=4, max_bytes=4, batch_size=4, max_attempts=4)
    assert (found.max_dirty, found.max_bytes, found.batch_size, found.max_attempts) == (1, 2, 3, 4)


@pytest.mark.parametrize("name", FIELDS)
def test_none_is_taken_where_a_setting_may_be_none(name: str) -> None:
    optional = {"partitions", "max_dirty", "max_bytes", "max_age_seconds", "batch_size", "max_attempts"}
    if name == "namespace":
        assert made("--namespace", "none").namespace == "none"
        return
    found = made(option(name), "none")
    if name in optional:
        assert getattr(found, name) is None
        assert getattr(made(env={variable(name): "NONE"}), name) is None
    else:
        assert isinstance(found, Result)
        assert found.exit_code == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_attempts", "ten"), ("max_attempts", "0"), ("lease_seconds", "nan"), ("flushers", "1.5"), ("commit", "lua"),
     ("namespace", "a b"), ("low_watermark", "2"), ("max_dirty", "-1")],
)  # fmt: skip
def test_invalid_value_in_a_variable_names_it_and_what_is_possible(name: str, value: str) -> None:
    result = CliRunner().invoke(main, ["worker", "--backend", "sqlite:///a.db"], env={variable(name): value})
    assert result.exit_code == 2
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
    assert f"'{variable(name)}'" in line
    assert "use " in line
    assert ("or none" in line) == (name in ("max_attempts", "max_dirty"))


@pytest.mark.parametrize("path", [("worker",), ("flush", "--all"), ("demo",)], ids=lambda path: path[0])
def test_command_that_flushes_needs_a_flusher(path: tuple[str, ...]) -> None:
    backend = [] if path == ("demo",) else ["--backend", "sqlite:///a.db"]
    result = CliRunner().invoke(main, [*path, *backend], env={"ASYNCWB_FLUSHERS": "0"})
    assert result.exit_code == 2
    assert "'ASYNCWB_FLUSHERS'" in result.stderr


def test_buffer_in_code_reads_no_variables() -> None:
    code = """
import json
from asyncwb import Buffer, Settings
from asyncwb.testing import MemoryBackend
buffer = Buffer(backend=MemoryBackend())
print(json.dumps([buffer.settings == Settings(), buffer.settings.namespace, Settings().max_attempts, buffer._redis]))
"""
    variables = {variable(name): value for name, value in OTHER.items()}
    variables |= {"ASYNCWB_REDIS": "redis://127.0.0.1:1", "ASYNCWB_BACKEND": "nosuch://"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **variables}, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [True, "default", 10, None]
