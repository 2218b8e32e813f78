"""The runner of the suite on several Pythons: what it counts, what it tells, and what it never leaves behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.pythons.__main__ import Line, attempt, show
from tests.pythons.catalogue import LEFT_OUT
from tests.pythons.chroot import Chroot, Unavailable, check_available, remove
from tests.pythons.machines import Found, Here, find
from tests.pythons.suite import REPOSITORY, Clone, Failed, commands, read_results, run_bounded


def test_commands_are_the_two_of_readme() -> None:
    assert commands((REPOSITORY / "README.md").read_text("utf-8")) == (
        "pip install uv && uv run asyncwb demo",
        "uv run pytest -n 4",
    )


def test_what_ci_leaves_out_is_there() -> None:
    """Else a file that has got another name would be run, or a typing error would leave out nothing."""
    assert [path for path in LEFT_OUT if not list((REPOSITORY / "tests").glob(path))] == []


def test_tests_are_counted_with_the_reasons_of_those_that_were_skipped(tmp_path: Path) -> None:
    (tmp_path / "test_all.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('n', range(3))\n"
        "def test_passes(n): pass\n"
        "def test_fails(): assert False\n"
        "@pytest.fixture\n"
        "def broken(): raise OSError\n"
        "def test_has_an_error(broken): pass\n"
        "@pytest.mark.skipif(True, reason='no server')\n"
        "def test_is_skipped(): pass\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--junit-xml=results.xml",
        "-c",
        os.devnull,
    ]
    subprocess.run([*command, f"--rootdir={tmp_path}", "test_all.py"], cwd=tmp_path, capture_output=True, check=False)
    found = read_results(tmp_path / "results.xml")
    assert (found.passed, found.failed, found.skipped) == (3, 2, 1)
    assert found.reasons == {"no server": 1}


def test_python_that_cannot_be_had_is_told_and_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    line = attempt("3.99t", (), minutes=1, other=[])
    assert line.holds
    show([line])
    assert "not run: there is no python3.99t" in capsys.readouterr().out


@pytest.mark.parametrize("failure", ["the demo failed", ""])
def test_what_could_be_run_and_failed_is_a_failure(failure: str) -> None:
    line = Line("3.99", failure=failure)
    line.outcome.failed = int(not failure)
    assert not line.holds


def test_python_of_this_machine_is_found_by_its_version(tmp_path: Path) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        found = find(version, tmp_path)
    except Unavailable as reason:
        pytest.skip(str(reason))
    asked = subprocess.run([found.python, "-VV"], capture_output=True, text=True, check=True).stdout
    assert asked.startswith(f"Python {version}.")


@pytest.mark.long
def test_clone_has_what_a_commit_would_have_and_runs_commands_in_it(tmp_path: Path) -> None:
    clone = Clone(Found(Here(), sys.executable), tmp_path, seconds=60)
    assert (tmp_path / "asyncwb/README.md").exists()
    assert not (tmp_path / "asyncwb/.venv").exists()
    clone.other(["python", "-c", "import sys; open('prefix', 'w').write(sys.prefix)"])
    assert Path((tmp_path / "asyncwb/prefix").read_text()) == tmp_path / "venv"
    with pytest.raises(Failed, match="ended with 3"):
        clone.other(["sh", "-c", "exit 3"])


def test_command_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    script = f"sleep 60 & echo $! > {tmp_path}/pid; wait"
    with pytest.raises(Failed, match="not through in time"):
        run_bounded(["sh", "-c", script], dict(os.environ), 0.5)
    assert gone(int((tmp_path / "pid").read_text()))


# Another system in a folder


@pytest.fixture
def chroot(tmp_path: Path) -> Iterator[Chroot]:
    """One with nothing but a shell and `sleep`."""
    try:
        check_available()
    except Unavailable as reason:
        pytest.skip(str(reason))
    root = tmp_path / "root"
    for folder in ("dev", "proc", "work"):
        (root / folder).mkdir(parents=True)
    for program in ("/bin/sh", "/bin/sleep"):
        linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        files = [part for part in linked.split() if part.startswith("/")]
        for name in (program, *files):
            target = root / Path(name).relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, target)
    yield Chroot(root)
    remove(root)


def mounted_in(root: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(root) in line]


def gone(pid: int) -> bool:
    """Waits for a process to be gone, or at least a zombie of somebody else's."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_command_sees_the_folder_as_its_root_and_gives_its_status(chroot: Chroot) -> None:
    script = 'echo "$PWD" > where; read -r pid rest < /proc/self/stat; : > /dev/null; exit 7'
    assert run_bounded(chroot.command("/bin/sh", "-c", script, cwd=Path("/work")), chroot.environment({}), 30) == 7
    assert (chroot.root / "work/where").read_text() == "/work\n"


def test_what_the_tests_miss_in_the_folder_is_a_failure_and_not_a_skip(chroot: Chroot) -> None:
    """The folder has what they need from Debian, so whatever they miss there is missing from `PACKAGES`."""
    assert chroot.environment({"CI": ""})["CI"]


def test_nothing_is_mounted_outside_while_and_after_it_runs(chroot: Chroot) -> None:
    script = "while read -r line; do echo $line; done < /proc/self/mountinfo > mounts; : > ready; sleep 60"
    command = chroot.command("/bin/sh", "-c", script, cwd=Path("/work"))
    process = subprocess.Popen(command, env=chroot.environment({}))
    try:
        while not (chroot.root / "work/ready").exists():
            assert process.poll() is None
            time.sleep(0.02)
        assert " /dev " in (chroot.root / "work/mounts").read_text()
        assert mounted_in(chroot.root) == []
        within = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.send_signal(signal.SIGKILL)  # not even a chance to clean up
        process.wait()
    assert within
    assert all(gone(each.pid) for each in within)
    assert mounted_in(chroot.root) == []
    remove(chroot.root)
    assert Path("/dev/null").is_char_device()


def test_folder_in_which_something_is_mounted_is_not_removed(chroot: Chroot, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    script = (
        f"mount --bind {precious} {chroot.root}/work && cd {REPOSITORY}/tests && {sys.executable} -c "
        f"'from pathlib import Path; from pythons.chroot import remove; remove(Path(\"{chroot.root}\"))'"
    )
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert f"{chroot.root}/work is mounted" in done.stderr
    assert (precious / "file").exists()


def test_nobody_but_root_is_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Unavailable, match=r"root|Debian"):
        check_available()
