"""Plugins through real entry points, some of them broken."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncwb import Backend, Codec, ConfigurationError, MissingDependency, UnknownBackend
from asyncwb.plugins.registry import backend_from_url, plugins
from asyncwb.testing import MemoryBackend

CODEC: Codec[Any] = Codec("json")
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a distribution with one plugin: `install("name", "scheme", source)`."""
    modules = []

    def make(name: str, scheme: str, source: str, *, extra: str | None = None) -> None:
        module = name.replace("-", "_").lower()
        modules.append(module)
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{module}.py").write_text(source)
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir()
        provides = f"Provides-Extra: {extra}\n" if extra else ""
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{provides}")
        (info / "entry_points.txt").write_text(f"[asyncwb.backends]\n{scheme} = {module}:make\n")
        monkeypatch.syspath_prepend(folder)

    yield make
    for module in modules:
        sys.modules.pop(module, None)


GOOD = """
from asyncwb.testing import MemoryBackend
def make(url, *, codec):
    backend = MemoryBackend()
    backend.url = url
    return backend
"""


def test_plugin_of_a_third_party_is_found(install: Install) -> None:
    install("wb-good", "good", GOOD)
    backend: Any = backend_from_url("good://anything?x=1", codec=CODEC)
    assert backend.url == "good://anything?x=1"
    assert type(backend_from_url("GOOD://x", codec=CODEC)) is type(backend)
    assert ("good", "wb-good 1.0", None) in [(each.scheme, each.distribution, each.problem) for each in plugins()]


def test_broken_plugin_does_not_hide_the_others(install: Install) -> None:
    install("wb-bad", "bad", "raise RuntimeError('oops')")
    found = {plugin.scheme: plugin.problem for plugin in plugins()}
    assert found["sqlite"] is None
    assert "oops" in str(found["bad"])
    with pytest.raises(ConfigurationError, match=r"wb_bad:make.*oops"):
        backend_from_url("bad://x", codec=CODEC)


def test_scheme_of_two_distributions_is_an_error_that_names_both(install: Install) -> None:
    install("wb-one", "twice", GOOD)
    install("wb-two", "twice", GOOD)
    with pytest.raises(ConfigurationError, match=r"'twice' is claimed by wb-one 1\.0 and wb-two 1\.0: uninstall"):
        backend_from_url("twice://x", codec=CODEC)
    found = [plugin for plugin in plugins() if plugin.scheme == "twice"]
    assert [plugin.distribution for plugin in found] == ["wb-one 1.0", "wb-two 1.0"]
    assert all("claimed by" in str(plugin.problem) for plugin in found)
    assert isinstance(backend_from_url("sqlite:///a.db", codec=CODEC), Backend), "disturbs nobody else"


def test_distribution_that_is_found_twice_is_one(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This happens with an editable installation beside a built one."""
    install("wb-good", "good", GOOD)
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "wb-good" / "wb_good-1.0.dist-info", copy / "wb_good-1.0.dist-info")
    monkeypatch.syspath_prepend(copy)
    assert isinstance(backend_from_url("good://x", codec=CODEC), MemoryBackend)


def test_only_the_plugin_that_is_used_is_loaded(install: Install) -> None:
    install("wb-good", "good", GOOD)
    install("wb-bad", "bad", "raise RuntimeError('oops')")
    backend_from_url("good://x", codec=CODEC)
    assert "wb_good" in sys.modules
    assert "wb_bad" not in sys.modules


def test_missing_driver_names_the_command(install: Install) -> None:
    install("wb-driverless", "driverless", "import no_such_driver")
    with pytest.raises(MissingDependency, match="pip install no_such_driver"):
        backend_from_url("driverless://x", codec=CODEC)
    install("wb-extra", "extra+tls", "import no_such_driver", extra="extra")
    with pytest.raises(MissingDependency, match=r"pip install 'wb-extra\[extra\]'"):
        backend_from_url("extra+tls://x", codec=CODEC)


def test_plugin_that_makes_something_else_is_told(install: Install) -> None:
    install("wb-odd", "odd", "def make(url, *, codec): return 7")
    with pytest.raises(ConfigurationError, match=r"which isn't an asyncwb\.Backend"):
        backend_from_url("odd://x", codec=CODEC)


def test_unknown_scheme_suggests_the_nearest() -> None:
    with pytest.raises(UnknownBackend, match=r"'sqllite'.*installed: .*sqlite.*Did you mean 'sqlite'") as caught:
        backend_from_url("sqllite://u:hunter2@h/a.db", codec=CODEC)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(UnknownBackend):
        backend_from_url("x-y-z://", codec=CODEC)


@pytest.mark.parametrize("url", ["", "app.db", ":x"])
def test_no_url_at_all(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"sqlite:///app\.db"):
        backend_from_url(url, codec=CODEC)
