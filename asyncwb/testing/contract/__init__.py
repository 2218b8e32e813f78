"""The contract of a backend as tests: subclass `BackendContract`, give it a `url` fixture, run pytest.

::

    class TestMyBackend(BackendContract):
        @pytest.fixture
        def url(self, tmp_path):
            return f"mystore:///{tmp_path}/data"

The URL names a storage that is empty at first, and in it a place (a table, say), where a backend can have several.
Where a backend isn't made from a URL by an entry point, override `make_backend`. What a backend can't do by its nature
it declares in `cannot`; those tests are skipped with the reason. So are those of outages and of purging until the
fixture `outage` tells how the storage fails, and `let_time_pass` how its tombstones grow old. pytest-asyncio has to run
in its auto mode.

Needs `pip install 'asyncwb[testing]'`.
"""

from asyncwb.testing.contract.answers import AnswerContract
from asyncwb.testing.contract.base import ABILITIES
from asyncwb.testing.contract.concurrency import ConcurrencyContract
from asyncwb.testing.contract.epochs import EpochContract
from asyncwb.testing.contract.keys import KeyContract
from asyncwb.testing.contract.lifetimes import LifetimeContract
from asyncwb.testing.contract.outage import Outage
from asyncwb.testing.contract.outages import OutageContract
from asyncwb.testing.contract.places import PlaceContract
from asyncwb.testing.contract.processes import ProcessContract
from asyncwb.testing.contract.purging import PurgeContract
from asyncwb.testing.contract.records import KEYS, NAMESPACE, put, tombstone, version
from asyncwb.testing.contract.stepping import run_until_suspension
from asyncwb.testing.contract.values import ValueContract
from asyncwb.testing.contract.versions import VersionContract

__all__ = [
    "ABILITIES",
    "KEYS",
    "NAMESPACE",
    "BackendContract",
    "Outage",
    "put",
    "run_until_suspension",
    "tombstone",
    "version",
]


class BackendContract(
    KeyContract,
    ValueContract,
    VersionContract,
    AnswerContract,
    ConcurrencyContract,
    EpochContract,
    PlaceContract,
    LifetimeContract,
    ProcessContract,
    PurgeContract,
    OutageContract,
):
    """What every backend promises; see `asyncwb.Backend`.

    Override: the fixture `url`; if need be `make_backend`, `cannot`, `value`, `poison` and `keys`; the fixture `outage`
    and `let_time_pass`, so that nothing is skipped that could be tested.
    """
