from collections.abc import AsyncIterator, Callable

import pytest

from tests.harness.rig import Rig, open_rig
from tests.harness.servers import KINDS, Server
from tests.proofs.simulation.direct import DirectLink
from tests.proofs.simulation.lua import LUA_MISSING


@pytest.fixture(params=[*KINDS, "model"])
async def rig(request: pytest.FixtureRequest, shared_server: Callable[[str], Server]) -> AsyncIterator[Rig]:
    """A partition on each supported server in turn, and on the model of a server that the simulation has."""
    if request.param == "model" and LUA_MISSING:
        pytest.skip(LUA_MISSING)
    server = DirectLink() if request.param == "model" else shared_server(request.param)
    async with open_rig(server) as rig:
        yield rig
