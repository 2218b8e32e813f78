"""Debian's next suite in a folder, for Pythons that this machine lacks; all of it runs in mount namespaces of its own.

What is mounted there is seen by nobody else, and goes with the last process in it, however that ends. So the folder can
be removed from outside, where nothing is mounted in it.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.pythons.catalogue import PACKAGES, SUITE

SCRIPT: Final = Path("/usr/share/debootstrap/scripts/sid")
_ARCHIVE: Final = "Debian"

_SETTINGS: Final = (
    "/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pip.conf", "/etc/xdg/pip/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf",
    "/etc/uv/uv.toml", "~/.config/uv/uv.toml",
)  # fmt: skip
"""How this machine reaches the package index, as found."""

_ENTER: Final = """
set -eu
root=$1 folder=$2
shift 2
mount --rbind /dev "$root/dev"
status=0
chroot "$root" /bin/sh -c 'cd "$1" && shift && exec "$@"' sh "$folder" "$@" || status=$?
exit $status
"""
"""Stays the first process of its namespace, where it takes the status of all that others leave behind."""


class Unavailable(Exception):
    """This machine can't have such a folder, and why."""


class Chroot:
    """Such a folder, and commands that run in it.

    Attributes:
        root: where it is; `/` for what runs in it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def command(self, *arguments: str, cwd: Path) -> list[str]:
        """What runs a program in the folder, with processes and mounts of its own, which end with it.

        Args:
            cwd: as the program sees it.
        """
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", f"--mount-proc={self.root}/proc"]
        enter = ["/bin/sh", "-c", _ENTER, "sh", str(self.root), str(cwd), *arguments]
        return ["setpriv", "--pdeathsig", "KILL", *namespaces, *enter]

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """What is about this machine's folders means nothing there.

        `CI`: all that the tests need was put into the folder, so a test that misses something there has to fail.
        """
        kept = {name: value for name, value in inherited.items() if name not in ("PATH", "HOME", "TMPDIR")}
        return {**kept, "HOME": str(Path.home()), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "CI": "true"}

    def take_settings(self) -> None:
        """Copies how this machine resolves names and reaches the package index."""
        for name in _SETTINGS:
            source = Path(name).expanduser()
            if source.exists():
                target = self.root / source.relative_to("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                shutil.copyfile(source, target)


def check_available() -> None:
    """Raises Unavailable unless this is a Debian, and this is its root who may mount."""
    if sys.platform != "linux" or not Path("/etc/debian_version").exists() or shutil.which("apt-get") is None:
        raise Unavailable("this is no Debian, whose next suite has it")
    if os.geteuid() != 0:
        raise Unavailable("it needs root to unpack Debian's next suite")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        raise Unavailable("this root may not mount (`unshare --mount` fails)")


def debian(cache: Path) -> Chroot:
    """The folder with all packages, made unless it is there.

    Raises:
        Unavailable: as `check_available`.
        RuntimeError: it could be made here, but was not.
    """
    check_available()
    cache.mkdir(parents=True, exist_ok=True)
    content = "\n".join([SUITE, *PACKAGES])
    root = cache / f"debian-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    unfinished = root.with_suffix(".unfinished")
    for stale in cache.glob("debian-*"):
        if stale != root:  # of other packages, or not finished
            remove(stale)
    if not root.exists():
        _unpack(unfinished)
        unfinished.rename(root)
    chroot = Chroot(root)
    chroot.take_settings()
    return chroot


def remove(folder: Path) -> None:
    """Removes such a folder and nothing that is mounted in it.

    Raises:
        RuntimeError: something is mounted there, which could be anybody's.
    """
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines()]
    if within := [each for each in mounts if Path(each).is_relative_to(folder.resolve())]:
        raise RuntimeError(f"{within[0]} is mounted, so {folder} isn't removed: unmount it first")
    subprocess.run(["rm", "-rf", "--one-file-system", "--", str(folder)], check=True)


def mirror() -> str:
    """Where this machine's apt gets Debian from."""
    lines = _output("apt-get", "indextargets", "--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages").splitlines()
    found = [tuple(line.split("|", 1)) for line in lines]
    # The label is known once `apt-get update` has run.
    named = [uri for label, uri in found if label == _ARCHIVE or (not label and "security" not in uri)]
    if not named:
        raise RuntimeError("apt has no source of Debian's packages: see /etc/apt")
    return named[0]


def _unpack(folder: Path) -> None:
    if not SCRIPT.exists():
        raise RuntimeError("debootstrap isn't installed: apt-get install debootstrap")
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(folder), mirror()]
    environment = dict(os.environ)
    for scheme in ("http", "https"):
        if proxy := _output("apt-config", "dump", "--format", "%v", f"Acquire::{scheme}::Proxy"):
            environment[f"{scheme}_proxy"] = proxy
    # It mounts, too.
    done = subprocess.run(
        ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
         *command, str(SCRIPT)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"debootstrap failed with status {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
