"""What the buffer is used for while faults happen: every operation of its public API, in a fixed order."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from asyncwb import RecordRejected
from tests.proofs.faults.driver import Driver

MAX_DIRTY = 5
BATCH_SIZE = 2


async def workload(driver: Driver) -> None:
    """Two openings of one buffer; writes are delayed, so that flushers claim when they are asked to, and not before."""
    backend = driver.backend
    await driver.open()
    await driver.set("a")
    await driver.set("a")
    await driver.set("b", "c")
    await driver.delete("b")
    await driver.flush("a")
    await driver.get("a", "b", "c")
    async with held_up(driver, "c"):
        await driver.set("c")

    backend.fail_saves = 3  # both halves of a batch, too
    backend.poison["e"] = RecordRejected("it is never taken")
    await driver.set("d", "e")
    await driver.drain()
    backend.poison.clear()
    await driver.get("e")
    await driver.ask("retry", lambda: driver.buffer.retry_dead(["e"]))
    await driver.flush("e", may_be_dead=True)
    await driver.set("a", "f")
    await driver.ask("audit", driver.buffer.audit)
    await driver.ask("stats", driver.buffer.stats)
    await driver.close(drain=False)

    await driver.open()
    await driver.set("g", "h", "i")
    await driver.set("a", "j")  # is over the limit: written through, also what was buffered of a key of it
    await driver.get("a", "f", "j")
    await driver.delete("a")
    await driver.close()


@contextlib.asynccontextmanager
async def held_up(driver: Driver, key: str) -> AsyncIterator[None]:
    """A key is being saved during the block, and for longer than its lease without renewal."""
    with driver.held_saves():
        flushing = asyncio.ensure_future(driver.flush(key))
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await driver.backend.save_started.wait()
            yield
            await asyncio.sleep(0.11)
            driver.backend.before_save.set()
            await flushing
        finally:
            flushing.cancel()
            await asyncio.wait([flushing])


async def verification(driver: Driver) -> None:
    """The successor: reads everything, writes on, and drains. Faults are over."""
    await driver.open()
    await driver.look()
    await driver.get(*driver.history.keys, "never written")
    await driver.set("a")
    await driver.delete("c")


async def verification_ends(driver: Driver) -> None:
    """When everything late has arrived as well."""
    await driver.get(*driver.history.keys)
    await driver.ask("retry", lambda: driver.buffer.retry_dead(driver.history.keys))
    await driver.drain()
    await driver.get(*driver.history.keys)
    await driver.close()
