"""Updates whose server loses data before they are saved: what later updates have led to confirms none of them."""

import asyncio
from typing import Any

import pytest

from asyncwb import Buffer, OutcomeUnknown
from asyncwb.records import epoch_of
from asyncwb.testing import MemoryBackend
from tests.harness.buffers import int_buffer


async def test_flush_and_drain_tell_an_update_that_was_lost_before_others_were_made(
    private_server: Any, namespace: str
) -> None:
    server = await asyncio.to_thread(private_server, "valkey")
    memory = MemoryBackend()
    options: Any = {"redis_retry_seconds": 10}
    async with int_buffer(server.url, namespace, memory, flushers=0, **options) as writer:
        saved = await writer.add("n", 5)
        async with int_buffer(server.url, namespace, memory, **options):
            await writer.flush("n", version=saved, timeout=5)
        lost = await writer.add("n", 7)
        replaced = await writer.add("m", 7)
        await asyncio.to_thread(server.restart, keep_data=False)
        async with int_buffer(server.url, namespace, memory, **options) as flusher:
            kept = await flusher.add("n", 1)
            put = await flusher.set("m", 100)
            await flusher.drain(timeout=10)
        assert epoch_of(saved) == epoch_of(lost) < epoch_of(kept)
        assert memory.values == {"n": 6, "m": 100}
        for version in (saved, lost, None):
            with pytest.raises(OutcomeUnknown, match="whether version"):
                await writer.flush("n", version=version, timeout=5)
        with pytest.raises(OutcomeUnknown):
            await writer.flush("m", version=replaced, timeout=5)
        for key, version in (("n", kept), ("m", put)):
            await writer.flush(key, version=version, timeout=5)
        with pytest.raises(OutcomeUnknown) as caught:
            await writer.drain(timeout=5)
        assert "2 key(s)" in str(caught.value)
        assert "'n'" in str(caught.value)
        await writer.drain(timeout=5)  # told once


async def test_puts_alone_are_confirmed_by_later_ones_as_ever(private_server: Any, namespace: str) -> None:
    """Nothing is built on what a put replaces."""
    server = await asyncio.to_thread(private_server, "valkey")
    memory = MemoryBackend()
    async with int_buffer(server.url, namespace, memory, flushers=0, redis_retry_seconds=10) as writer:
        lost = await writer.set("n", 7)
        await asyncio.to_thread(server.restart, keep_data=False)
        async with Buffer[int](server.url, backend=memory, namespace=namespace, type=int) as flusher:
            await flusher.set("n", 1)
            await flusher.drain(timeout=10)
        await writer.flush("n", version=lost, timeout=5)
        await writer.drain(timeout=5)
