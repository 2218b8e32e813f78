"""What a buffer of lists is used for while faults happen: updates, and writes on the condition of a version."""

import asyncio
from typing import Any, Final

from asyncwb import Append, RecordRejected
from tests.proofs.faults.driver import Driver
from tests.proofs.faults.lists import PADDING
from tests.proofs.faults.workload import held_up

_ALMOST_LONG: Final = 1960
"""So many items make a record that is folded after a few updates, see put.lua."""


class ListDriver(Driver):
    """One buffer of lists in the hands of one caller."""

    padding = 0

    def whole(self, number: int) -> Any:
        return [number] + [PADDING] * self.padding

    async def append(self, *keys: str) -> None:
        """New items; several keys with one call."""
        numbers = {key: self.history.value() for key in keys}
        writes = [self.history.begin(key, number, adds=True) for key, number in numbers.items()]
        if len(keys) == 1:
            call = lambda: self.buffer.append(keys[0], numbers[keys[0]])  # noqa: E731 - one line for one call
            answer = await self._do("append", call)
            self._judge("append", writes, answer if isinstance(answer, BaseException) else {keys[0]: answer})
        else:
            changes = {key: Append(number) for key, number in numbers.items()}
            self._judge("update_many", writes, await self._do("update_many", lambda: self.buffer.update_many(changes)))
        await self._look_after_fault()

    async def replace(self, key: str) -> None:
        """Adds an item to the list that was read, if nobody has changed it since."""
        answer = await self.ask("get_versioned", lambda: self.buffer.get_versioned(key))
        if isinstance(answer, BaseException):
            return
        value, version = answer
        self.history.saw(key, value, "get_versioned", version)
        number = self.history.value()
        writes = [self.history.begin(key, number, adds=True)]
        replaced = [*(value or ()), number]
        answer = await self._do("set(expected=)", lambda: self.buffer.set(key, replaced, expected=version))
        self._judge("set(expected=)", writes, answer if isinstance(answer, BaseException) else {key: answer})
        await self._look_after_fault()


async def workload(driver: ListDriver) -> None:
    """Two openings of one buffer; see the workload of whole values."""
    backend = driver.backend
    await driver.open()
    await driver.append("a")  # where nothing is
    await driver.append("a")  # to a record with updates
    await driver.set("b")
    await driver.append("b")  # to a put
    await driver.delete("b")
    await driver.append("b", "c")  # to a delete
    await driver.flush("a")
    await driver.append("a")  # to what the backend alone has
    await driver.get("a", "b", "c")
    async with held_up(driver, "c"):
        await driver.append("c")  # to what is being saved, so that the ack leaves what is behind that
    await driver.flush("c")
    await driver.replace("c")  # the backend has it: a token
    await driver.replace("c")  # Redis has it
    await _folded(driver, "d")
    backend.fail_saves = 3  # both halves of a batch, too
    backend.poison["e"] = RecordRejected("it is never taken")
    await driver.append("b", "e")
    await driver.drain()
    backend.poison.clear()
    await driver.append("e")  # to a dead letter
    await driver.flush("e", may_be_dead=True)
    await driver.ask("audit", driver.buffer.audit)
    await driver.ask("stats", driver.buffer.stats)
    await driver.append("a", "f")
    await driver.close(drain=False)

    await driver.open()
    await driver.append("f", "g")
    await driver.delete("a")
    await driver.append("a")
    await driver.get("a", "d", "f")
    await driver.replace("g")
    await driver.close()


async def _folded(driver: ListDriver, key: str) -> None:
    """Updates of a record that becomes long meanwhile."""
    driver.padding = _ALMOST_LONG
    await driver.set(key)
    driver.padding = 0
    for _ in range(4):
        await driver.append(key)
    await asyncio.sleep(0.02)  # folding goes on in the background


async def verification(driver: ListDriver) -> None:
    """The successor: reads everything, writes on, and drains. Faults are over."""
    await driver.open()
    await driver.look()
    await driver.get(*driver.history.keys, "never written")
    await driver.append("a", "d")
    await driver.set("b")
    await driver.replace("g")
