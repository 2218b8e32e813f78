"""A partition has updates and conditional writes, or is written through: the first use decides."""

import pytest

from asyncwb.errors import NamespaceMismatch
from asyncwb.protocol.body import conditional
from tests.harness.rig import Rig, body, update_body


async def test_first_use_decides_between_updates_and_writing_through(rig: Rig) -> None:
    await rig.put("a")
    assert not (await rig.queue.read_meta()).updates
    await rig.update("a")
    assert (await rig.queue.read_meta()).updates
    with pytest.raises(NamespaceMismatch, match="updates"):
        await rig.queue.allot(1, epoch=1, writer="w", request=50)


@pytest.mark.parametrize("sent", [update_body(), conditional(body(b"1"), None)])
async def test_partition_that_is_written_through_has_neither_updates_nor_conditions(rig: Rig, sent: bytes) -> None:
    await rig.put("a")
    assert await rig.queue.allot(1, epoch=1, writer="w", request=50) == (1, 1)
    with pytest.raises(NamespaceMismatch, match="write-through"):
        await rig.send(("a", sent), ("b", body(b"1")), request=51)
    assert await rig.record("b") is None
    assert not (await rig.queue.read_meta()).updates
    await rig.put("a", b"2")


async def test_mode_outlives_an_epoch(rig: Rig) -> None:
    await rig.update("a")
    await rig.prepare(2)
    assert (await rig.queue.read_meta()).updates
