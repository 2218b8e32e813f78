"""The contract of a backend as tests: subclass `BackendContract`, give it a `url` fixture, and run pytest.

::

    class TestMyBackend(BackendContract):
        @pytest.fixture
        def url(self, tmp_path):
            return f"mystore:///{tmp_path}/data"

The URL names a storage that is empty at first, and a place in it (a table, for example) if the storage can have
several. If the backend isn't made from a URL through an entry point, override `make_backend`. What a backend can't do
by its nature is declared in `cannot`; the tests for it are skipped, with the reason. The tests of outages are skipped
until you override the fixture `outage`, which says how the storage fails, those of purging until you override
`let_time_pass`, which makes tombstones older, and one of values of other programs until you override
`add_unversioned`, which adds such a value. pytest-asyncio has to run in auto mode.

Needs `pip install 'asyncwb[testing]'`.
"""

from asyncwb.testing.contract.answers import AnswerContract
from asyncwb.testing.contract.base import ABILITIES
from asyncwb.testing.contract.based_on import BasedOnContract
from asyncwb.testing.contract.concurrency import ConcurrencyContract
from asyncwb.testing.contract.epochs import EpochContract
from asyncwb.testing.contract.keys import KeyContract
from asyncwb.testing.contract.lifetimes import LifetimeContract
from asyncwb.testing.contract.outage import Outage
from asyncwb.testing.contract.outages import OutageContract
from asyncwb.testing.contract.places import PlaceContract
from asyncwb.testing.contract.processes import ProcessContract
from asyncwb.testing.contract.purging import PurgeContract
from asyncwb.testing.contract.races import RaceContract
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
    BasedOnContract,
    AnswerContract,
    ConcurrencyContract,
    EpochContract,
    PlaceContract,
    LifetimeContract,
    RaceContract,
    ProcessContract,
    PurgeContract,
    OutageContract,
):
    """Tests of what every backend promises; see `asyncwb.Backend`.

    Override the fixture `url`; if necessary `make_backend`, `cannot`, `value`, `poison` and `keys`; and the fixture
    `outage`, `let_time_pass` and `add_unversioned`, so that nothing is skipped that could be tested.
    """
