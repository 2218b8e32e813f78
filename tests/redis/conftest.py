from collections.abc import AsyncIterator

import pytest
from rig import Rig, open_rig
from servers import Server


@pytest.fixture
async def rig(redis_server: Server) -> AsyncIterator[Rig]:
    """A partition on each supported server in turn."""
    async with open_rig(redis_server) as rig:
        yield rig
