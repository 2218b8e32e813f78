"""Calls against a dict: a few on every run, and a buffer that forgets is found out."""

from typing import Any

import pytest

from asyncwb import Buffer
from asyncwb.testing import MemoryBackend
from tests.harness.servers import Server
from tests.proofs.hostile.roundtrip import Player, play


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_few_calls(valkey_server: Server, number: int) -> None:
    report = play(valkey_server.url, number, 10)
    assert report.problems == []
    assert report.counts["hostile inputs"] > 100


async def test_wrong_answer_is_found_out(valkey_url: str, namespace: str) -> None:
    memory = MemoryBackend()
    async with Buffer[Any](valkey_url, backend=memory, namespace=namespace) as buffer:
        player = Player(buffer, memory)
        await player.play([("set", "a", 1), ("get", "a", None)])
        await buffer.set("a", 2)
        with pytest.raises(AssertionError):
            await player.play([("get", "a", None)])
