"""A process that has imported everything, and forks workers: quicker than to start them. `python zygote.py`

It does what comes as lines of JSON on stdin, and tells on stdout: ["fork", job] → ["forked", worker, pid];
["signal", pid, number] → ["signalled", pid, number, time], only to a process that it has forked and not yet reaped;
["ended", pid] when one has ended. Workers tell on the same stdout. When stdin closes, it ends, and they with it. If the
world has been killed, so do its servers and their folders: ["guard", pid, folder] names one, ["release"] says that the
world ends them itself.
"""

import contextlib
import gc
import json
import os
import select
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import msgspec

from tests.proofs.chaos.worker import Job, end_with_parent, run, tell


class Zygote:
    """The loop."""

    def __init__(self) -> None:
        self._pids: set[int] = set()
        self._unread = b""
        self._guarded: dict[int, str] = {}

    def serve(self) -> None:
        while True:
            if select.select([0], [], [], 0.01 if self._pids else 1.0)[0]:
                data = os.read(0, 2**16)
                if not data:
                    return
                *lines, self._unread = (self._unread + data).split(b"\n")
                for line in lines:
                    self._do(line)
            self._reap()

    def end(self) -> None:
        """Also after a pipe broke, because the world is gone."""
        for pid in self._pids:
            os.kill(pid, signal.SIGKILL)
        for guarded, folder in self._guarded.items():
            if guarded >= 0:
                with contextlib.suppress(ProcessLookupError):  # the world has ended it itself
                    signal.pidfd_send_signal(guarded, signal.SIGKILL)
            shutil.rmtree(folder, ignore_errors=True)

    def _do(self, line: bytes) -> None:
        what, *rest = json.loads(line)
        if what == "fork":
            job = msgspec.convert(rest[0], Job)
            pid = os.fork()
            if not pid:
                self._become(job)
            self._pids.add(pid)
            tell("forked", job.worker, pid)
        elif what == "guard":
            pid, folder = rest
            self._guard(pid, folder)
        elif what == "release":
            self._guarded.clear()
        else:
            pid, number = rest
            if pid in self._pids:
                os.kill(pid, number)
            tell("signalled", pid, number, time.monotonic_ns() if pid in self._pids else 0)

    def _guard(self, pid: int, folder: str) -> None:
        guarded = -1 - len(self._guarded)
        if pid and hasattr(os, "pidfd_open"):
            # By its descriptor: its id may be another process's one day.
            with contextlib.suppress(ProcessLookupError):
                guarded = os.pidfd_open(pid)
        self._guarded[guarded] = folder

    def _become(self, job: Job) -> None:
        try:
            end_with_parent()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            run(job)
        except BaseException:  # nothing may go on in the zygote's loop
            tell("failed", job.worker, traceback.format_exc())
        finally:
            os._exit(1)

    def _reap(self) -> None:
        while self._pids:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            self._pids.discard(pid)
            tell("ended", pid)


if __name__ == "__main__":
    gc.freeze()
    zygote = Zygote()
    try:
        with contextlib.suppress(BrokenPipeError):
            zygote.serve()
    finally:
        zygote.end()
    os._exit(0)
