"""What concerns Redis stays in its layer: private parts of redis-py in one file, commands and bytes in two packages."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncwb.admin.acl import BESIDES, OPERATORS, SERVICES

ROOT = Path(__file__).parents[2]
INTERNALS = "asyncwb/redis/internals.py"
FILES = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in sorted((ROOT / "asyncwb").rglob("*.py"))}
# What files other than `INTERNALS` may take from redis-py: what its documentation describes.
DOCUMENTED = {
    "redis.Redis", "redis.asyncio.ConnectionPool", "redis.asyncio.Redis", "redis.asyncio.RedisCluster",
    "redis.asyncio.connection.AbstractConnection", "redis.asyncio.retry.Retry", "redis.asyncio.sentinel.Sentinel",
    "redis.backoff.NoBackoff",
    "redis.exceptions.ConnectionError", "redis.exceptions.InvalidResponse", "redis.exceptions.RedisError",
}  # fmt: skip

SPEAKERS = ("asyncwb/redis/", "asyncwb/protocol/")
"""The packages that know Redis commands and the bytes in which records are kept."""
COMMANDS = {name.partition("|")[0].upper() for name in (*OPERATORS, *SERVICES, *BESIDES.values())} | {"WAIT", "WAITAOF"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def privates_of_others(source: str) -> Iterator[str]:
    """Private attributes that a file uses of objects whose class isn't in the file."""
    tree = ast.parse(source)
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")) and node.attr not in own:
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr"):
            named = node.args[1]
            if isinstance(named, ast.Constant) and is_private(str(named.value)):
                yield ast.unparse(node)


def taken_from_redis_py(source: str) -> Iterator[str]:
    """What a file uses of redis-py, by its full names, and the classes of it that it derives from."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0]: "redis" for alias in node.names if alias.name.startswith("redis")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "redis":
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and id(node) not in inner:
            first, dot, rest = ast.unparse(node).partition(".")
            if first in names:
                yield names[first] + dot + rest
        elif isinstance(node, ast.ClassDef):
            for base in map(ast.unparse, node.bases):
                if base.partition(".")[0] in names:
                    yield f"a class derived from {base}"


@pytest.mark.parametrize("file", [file for file in FILES if file != INTERNALS and file.startswith("asyncwb/redis/")])
def test_only_one_file_uses_what_redis_py_does_not_document(file: str) -> None:
    assert not [*privates_of_others(FILES[file])], f"move it into {INTERNALS}"
    assert {*taken_from_redis_py(FILES[file])} <= DOCUMENTED, f"move it into {INTERNALS}"


def test_private_parts_are_found() -> None:
    assert [*privates_of_others(FILES[INTERNALS])] == ["connection._writer", "connection._reader"]
    found = {*taken_from_redis_py(FILES[INTERNALS])}
    assert "a class derived from UnixDomainSocketConnection" in found
    assert not found <= DOCUMENTED
    assert [*privates_of_others("getattr(connection, '_writer')\nself._x\nsuper()._connect()")] == [
        "getattr(connection, '_writer')", "super()._connect",
    ]  # fmt: skip


def commands_spelt(source: str) -> Iterator[str]:
    """The Redis commands with which a call's arguments, a tuple or a list begins, or that are an argument by name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            first = [*node.args[:1], *(word.value for word in node.keywords)]
        elif isinstance(node, ast.Tuple | ast.List):
            first = node.elts[:1]
        else:
            continue
        for each in first:
            if isinstance(each, ast.Constant) and each.value in COMMANDS:
                yield str(each.value)


def bytes_taken_apart(source: str) -> Iterator[str]:
    """What packs and unpacks numbers as bytes, and slices by the size of a header."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None)]
            found = "struct" in names
        elif isinstance(node, ast.Slice):
            found = "OVERHEAD_BYTES" in ast.unparse(node)
        else:
            found = isinstance(node, ast.Attribute) and node.attr in ("from_bytes", "to_bytes")
        if found:
            yield ast.unparse(node)


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith(SPEAKERS)])
def test_only_two_packages_know_commands_and_bytes(file: str) -> None:
    assert not [*commands_spelt(FILES[file])], f"write a function in one of {SPEAKERS}"
    assert not [*bytes_taken_apart(FILES[file])], f"write a function in {SPEAKERS[1]}"


def test_commands_and_bytes_are_found() -> None:
    spelt = {
        command for file, source in FILES.items() if file.startswith(SPEAKERS) for command in commands_spelt(source)
    }
    assert spelt >= {"BLPOP", "CONFIG", "GET", "MULTI", "SET", "TIME", "TYPE", "WAIT", "WAITAOF", "WATCH"}
    assert [*bytes_taken_apart(FILES["asyncwb/protocol/wire.py"])]
