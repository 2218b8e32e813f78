"""The contract: opening and closing, what survives closing, and what mustn't be left behind."""

import asyncio
import gc
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from asyncwb.backend import Backend
from asyncwb.testing.contract.base import NAMESPACE, ContractBase, requires, tombstone
from asyncwb.testing.contract.views import view, view_of

T = TypeVar("T")

_SETTLE_SECONDS: Final = 3.0
_WORKER: Final = re.compile(r"(.+)_\d+")
"""Matches the names of a ThreadPoolExecutor's threads; each executor has a name of its own."""
_DESCRIPTORS: Final = Path("/proc/self/fd" if sys.platform == "linux" else "/dev/fd")


class LifetimeContract(ContractBase):
    """Open, close, and open again."""

    @requires("persistence")
    async def test_everything_survives_the_object(self, backend: Backend, url: str) -> None:
        records = [self.put("1", 1), tombstone("2", 2), self.put("3", 5)]
        await backend.save(records)
        await backend.close()
        async with self.opened(url) as other:
            assert view(await other.load(["1", "2", "3"])) == view_of(*records)
            assert await other.save([self.put("1", 1), self.put("2", 1), self.put("3", 6)]) == 2

    async def test_backend_can_be_opened_again(self, backend: Backend) -> None:
        epoch = await backend.new_epoch(1)
        await backend.save([self.put("1", 1)])
        for _ in range(3):
            await backend.close()
            await backend.open(namespace=NAMESPACE)
        assert view(await backend.load(["1"])) == view_of(self.put("1", 1))
        assert await backend.save([self.put("1", 2)]) == 0
        assert await backend.new_epoch(0) == epoch

    @requires("sharing")
    async def test_closing_one_object_leaves_the_others_open(self, backend: Backend, url: str) -> None:
        """Objects in one process may share a pool, a file or a lock: closing the first of them mustn't close that."""
        async with self.opened(url) as other:
            for seq in (10, 20):
                async with self.opened(url) as third:
                    await third.save([self.put("3", seq)])
                    saving = asyncio.gather(*(each.save([self.put("1", seq)]) for each in (backend, other)))
                assert sorted(await saving) == [0, 1], "closed while others were saving"
                for number, each in enumerate((backend, other), 1):
                    assert await each.save([self.put("1", seq + number)]) == 0, "another object was closed"
                    assert view(await each.load(["1", "3"])) == view_of(self.put("1", seq + number), self.put("3", seq))
                    assert await each.new_epoch(seq + number) >= seq + number
        assert await backend.save([self.put("2", 1)]) == 0, "another object was closed"
        assert view(await backend.load(["2"])) == view_of(self.put("2", 1))

    async def test_closing_twice_is_fine(self, backend: Backend) -> None:
        await backend.close()
        await backend.close()

    async def test_closing_what_was_never_opened_is_fine(self, url: str) -> None:
        await self.make_backend(url).close()

    async def test_closing_while_a_save_is_cancelled_is_fine(self, backend: Backend) -> None:
        saves = [asyncio.create_task(backend.save([self.put("1", seq)])) for seq in range(1, 5)]
        await asyncio.sleep(0)
        for save in saves:
            save.cancel()
        async with asyncio.timeout(_SETTLE_SECONDS):
            await backend.close()
            await asyncio.gather(*saves, return_exceptions=True)
            await backend.open(namespace=NAMESPACE)
            assert await backend.save([self.put("1", 9)]) == 0

    async def test_nothing_is_left_behind(self, url: str) -> None:
        """No thread, task, connection or file handle is left after close and the end of the event loop."""
        await _apart(lambda: self._life(url))  # some drivers keep a pool of threads for the process
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            before = _Held()
            for _ in range(3):
                await _apart(lambda: self._life(url))
            gc.collect()
            left = await settled(before.left, _SETTLE_SECONDS)
        assert not left, f"still there after close: {left}"
        unclosed = [str(each.message) for each in caught if issubclass(each.category, ResourceWarning)]
        assert not unclosed, f"never closed: {unclosed}"

    async def _life(self, url: str) -> None:
        backend = self.make_backend(url)
        try:
            await backend.open(namespace=NAMESPACE)
            await backend.save([self.put("1", 1)])
            await backend.load(["1"])
            await backend.new_epoch(0)
        finally:
            await backend.close()
        tasks = await settled(lambda: asyncio.all_tasks() - {asyncio.current_task()}, _SETTLE_SECONDS)
        assert not tasks, f"tasks left after close: {tasks}"


async def _apart(life: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a coroutine in a thread and an event loop of its own."""
    with ThreadPoolExecutor(1) as executor:
        await asyncio.get_running_loop().run_in_executor(executor, lambda: asyncio.run(life()))


async def settled(left: Callable[[], T], seconds: float) -> T:
    """Polls `left` until it is empty, or for `seconds`, and returns it: some drivers clean up soon after close."""
    deadline = time.monotonic() + seconds
    while True:
        found = left()
        if not found or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.02)


class _Held:
    """The threads and file descriptors of this process at one moment."""

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._descriptors = _descriptors()

    def left(self) -> list[str]:
        """Returns what is new since then, except for threads of a pool that existed already, since pools may grow."""
        new = [thread.name for thread in threading.enumerate() if thread not in self._threads]
        names = {thread.name for thread in self._threads}
        pools = {match[1] for match in map(_WORKER.fullmatch, names) if match}
        threads = [
            name for name in new
            if name in names or not ((match := _WORKER.fullmatch(name)) and match[1] in pools)
        ]  # fmt: skip
        surplus = len(_descriptors()) - len(self._descriptors)
        return threads + ([f"{surplus} file descriptor(s)"] if surplus > 0 else [])


def _descriptors() -> list[str]:
    return os.listdir(_DESCRIPTORS)  # noqa: PTH208 - names are all that is wanted
