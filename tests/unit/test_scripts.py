"""The Lua scripts as files: what they include, what they say of themselves, and the numbers that Python has, too."""

import re
from importlib.resources import files

import pytest

from asyncwb.protocol import scripts
from asyncwb.protocol.wire import OVERHEAD_BYTES
from asyncwb.records import MAX_SEQ
from asyncwb.redis.script import Script
from asyncwb.settings import LONGEST_DELAY_SECONDS

LUA = files("asyncwb.protocol") / "lua"
STEPS = sorted(path.name.removesuffix(".lua") for path in (LUA / "steps").iterdir())
INCLUDES = sorted(path.name.removesuffix(".lua") for path in (LUA / "includes").iterdir())


def text_of(folder: str, name: str) -> str:
    return (LUA / folder / f"{name}.lua").read_text("utf-8")


def code_of(text: str) -> str:
    """Returns the code of a script without comments and quoted strings."""
    return "\n".join(re.sub(r"'[^']*'", "''", line).partition("--")[0] for line in text.splitlines())


def included_by(text: str) -> set[str]:
    return set(re.findall(r"^-- @include (\w+)$", text, re.MULTILINE))


def defined_in(text: str) -> set[str]:
    """Returns the names of functions and values defined at the top level of a file."""
    names = re.findall(r"^local (?:function )?([\w, ]+)", text, re.MULTILINE)
    return {name.strip() for each in names for name in each.split(",")}


def test_every_step_is_loaded_and_every_include_is_used() -> None:
    loaded = {each.name for each in vars(scripts).values() if isinstance(each, Script)}
    assert loaded == set(STEPS)
    everywhere = [text_of("steps", name) for name in STEPS] + [text_of("includes", name) for name in INCLUDES]
    assert set().union(*map(included_by, everywhere)) == set(INCLUDES)


@pytest.mark.parametrize("name", STEPS)
def test_step_includes_what_it_uses_and_nothing_else(name: str) -> None:
    text = text_of("steps", name)
    code, included = code_of(text), included_by(text)
    for each in INCLUDES:
        used = any(re.search(rf"\b{word}\b", code) for word in defined_in(text_of("includes", each)))
        assert used is (each in included), f"{name}.lua and {each}"


@pytest.mark.parametrize("name", STEPS)
def test_step_opens_with_what_it_does_and_what_it_replies(name: str) -> None:
    opening = re.match(r"(?:--.*\n)+", text_of("steps", name))
    assert opening is not None
    assert opening[0].startswith(f"-- {name}: ")
    assert "\n-- Reply " in opening[0]


@pytest.mark.parametrize("name", STEPS)
def test_step_names_its_arguments_before_it_uses_them(name: str) -> None:
    for line in code_of(text_of("steps", name)).splitlines():
        if re.search(r"\b(?:ARGV|KEYS)\[\d+\]", line):
            assert re.match(r"local [A-Z_, ]+ = ", line), f"{name}.lua: {line}"


@pytest.mark.parametrize("path", [f"steps/{name}" for name in STEPS] + [f"includes/{name}" for name in INCLUDES])
def test_lines_of_a_script_fit_the_page(path: str) -> None:
    assert max(map(len, text_of(*path.split("/")).splitlines())) <= 120


def test_what_is_included_twice_stands_there_once_and_before_its_use() -> None:
    source = scripts.PUT.source
    assert "@include" not in source
    assert source.count("local function try(") == 1
    assert source.index("local function try(") < source.index("local function times(")


def test_numbers_that_lua_and_python_share_are_the_same() -> None:
    def number(name: str, include: str) -> int:
        found = re.search(rf"local {name} = (\d+)", text_of("includes", include))
        assert found is not None
        return int(found[1])

    assert number("HEADER", "header") == OVERHEAD_BYTES
    assert number("MAX_SEQ", "history") == MAX_SEQ
    assert number("LONGEST", "clock") == LONGEST_DELAY_SECONDS * 1000
