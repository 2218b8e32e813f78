from collections.abc import AsyncIterator, Callable

import pytest
from rig import Rig, open_rig
from servers import KINDS, Server
from simulation.direct import DirectLink


@pytest.fixture(params=[*KINDS, "model"])
async def rig(request: pytest.FixtureRequest, shared_server: Callable[[str], Server]) -> AsyncIterator[Rig]:
    """A partition on each supported server in turn, and on the model of a server that the simulation has."""
    server = DirectLink() if request.param == "model" else shared_server(request.param)
    async with open_rig(server) as rig:
        yield rig
