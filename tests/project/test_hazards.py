"""No bytes are ever executed: nothing in the sources unpickles, evaluates, or runs a shell."""

import ast
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [
    *(ROOT / "asyncwb").rglob("*.py"), *(ROOT / "backends").rglob("*.py"), *(ROOT / "examples").rglob("*.py"),
]  # fmt: skip

MODULES = {
    "pickle", "_pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "dbm", "copyreg", "code", "codeop",
    "imp",
    "runpy", "yaml", "jsonpickle", "joblib", "xmlrpc", "ctypes", "multiprocessing",
}  # fmt: skip
CALLS = {
    "eval", "exec", "compile", "__import__", "import_module", "loads", "literal_eval", "system", "popen", "getoutput",
    "create_subprocess_shell", "mktemp",
}  # fmt: skip
ALLOWED_CALLS = {"json.loads", "re.compile"}
METHODS = {"__getstate__", "__setstate__", "__reduce_ex__"}
# By names that stand in the sources, or that the author of a test has written; and calls of the operating system.
ALLOWED = {
    "asyncwb/embedded/server.py": {"import_module"},
    "asyncwb/testing/contract/inside.py": {"importlib.import_module"},
    "asyncwb/embedded/supervisor.py": {"ctypes"},
    "backends/asyncwb_backends/filesystem/disk.py": {"ctypes"},
    "asyncwb/__init__.py": {"import_module"},
    "asyncwb/cli/ingest/sources.py": {"import_module"},
    "asyncwb/cli/lazy.py": {"import_module"},
}


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    """Python 3.11 fails with "AST constructor recursion depth mismatch" if what is collected meanwhile runs deep."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def hazards(source: str) -> list[str]:
    """Returns the calls in a source that could execute what they read."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            found += [str(node.module)] * ((node.module or "").partition(".")[0] in MODULES)
            found += [alias.name for alias in node.names if alias.name in CALLS - {"compile"}]
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            found += [name] * (name.rpartition(".")[2] in CALLS and name not in ALLOWED_CALLS)
            found += ["shell=True" for word in node.keywords if word.arg == "shell"]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found += [node.name] * (node.name in METHODS)
    return found


def test_there_are_sources() -> None:
    assert len(SOURCES) > 80


def test_sources_run_nothing_that_they_read() -> None:
    found = {str(path.relative_to(ROOT)): set(hazards(path.read_text("utf-8"))) for path in SOURCES}
    assert {name: each for name, each in found.items() if each} == ALLOWED


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import marshal as m", "import shelve", "eval(x)", "exec(x)",
        "__import__(x)", "yaml.load(x)\nimport yaml", "m.loads(x)", "from importlib import import_module",
        "importlib.import_module(x)", "os.system(x)", "subprocess.run(x, shell=True)", "import xmlrpc.client",
        "class A:\n    def __setstate__(self, state): ...", "compile(x, y, z)",
    ],
)  # fmt: skip
def test_hazards_are_found(source: str) -> None:
    assert hazards(source)


def test_scripts_load_no_code() -> None:
    scripts = list((ROOT / "asyncwb").rglob("*.lua"))
    assert scripts
    for path in scripts:
        assert not {"loadstring", "load(", "dofile", "setfenv"} & set(
            path.read_text("utf-8").replace("(", "( ").split()
        )
