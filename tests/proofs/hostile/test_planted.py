"""The planting itself: each kind once, and a buffer that would give way is found out."""

import random

import pytest

from asyncwb.protocol.keys import PartitionKeys
from asyncwb.redis.connection import RedisLink
from tests.harness.servers import Server
from tests.proofs.hostile.planted import Scene, Violation, play
from tests.proofs.hostile.plants import PLANTS, Field, Plant


@pytest.mark.parametrize("part", [0, 1])
async def test_every_plant_once(valkey_server: Server, part: int) -> None:
    names = sorted(PLANTS)[part::2]
    counts, problems = await play(valkey_server.url, names, random.Random(part), f"once{part}")
    assert problems == []
    assert counts["hostile inputs"] >= len(names) - 2


async def test_neighbour_that_is_lost_is_found_out(valkey_server: Server) -> None:
    """What asyncwb can't survive: every record of the namespace is deleted."""
    link = RedisLink.from_url(valkey_server.url, timeout_seconds=5)

    async def vandal(field: Field) -> bool:
        for name in await field.scan(b"rec:"):
            await field.do("DEL", name)
        return True

    scene = Scene(valkey_server.url, link, "vandal", Plant(vandal, moment="dirty"), random.Random(1))
    with pytest.raises(Violation, match="neighbour"):
        await scene.play()
    await link.close()


async def test_plants_are_planted(valkey_server: Server) -> None:
    link = RedisLink.from_url(valkey_server.url, timeout_seconds=5)
    field = Field(link, PartitionKeys("n", 0, 1), "n", b"victim", random.Random(1))
    await PLANTS["dirty of another type"].plant(field)
    assert await link.command("TYPE", field.keys.dirty) != b"zset"
    await PLANTS["a record"].plant(field)
    assert await link.command("EXISTS", field.keys.record(b"victim")) == 1
    await link.close()
