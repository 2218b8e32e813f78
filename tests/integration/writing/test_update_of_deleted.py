"""An update behind a delete begins from nothing, in the codec of the update."""

from typing import Any

import pytest

from asyncwb import Buffer
from asyncwb.records import CodecName
from asyncwb.testing import MemoryBackend


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_an_update_behind_a_delete_begins_from_nothing(valkey_url: str, namespace: str, codec: CodecName) -> None:
    options: dict[str, Any] = {"backend": MemoryBackend(), "namespace": namespace, "codec": codec}
    async with Buffer[Any](valkey_url, **options, flushers=0, drain_timeout_seconds=0.0) as buffer:
        await buffer.set("a", 1)
        await buffer.delete("a")
        await buffer.add("a", 300)
        assert await buffer.get("a") == 300
    async with Buffer[Any](valkey_url, **options) as buffer:
        await buffer.drain(timeout=5)
        assert await buffer.get("a") == 300
