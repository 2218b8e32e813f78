"""The contract: epochs."""

import asyncio

from asyncwb.backend import Backend
from asyncwb.testing.contract.base import ContractBase, requires


class EpochContract(ContractBase):
    """Epochs are numbers that are never given twice."""

    async def test_first_epoch_is_none(self, backend: Backend) -> None:
        assert await backend.new_epoch(0) == 0
        assert await backend.new_epoch(0) == 0, "reading allots nothing"
        assert await backend.new_epoch(1) == 1

    async def test_epochs_are_never_given_twice(self, backend: Backend) -> None:
        epochs = await asyncio.gather(*(backend.new_epoch(1) for _ in range(20)))
        assert len(set(epochs)) == 20
        assert min(epochs) >= 1
        assert await backend.new_epoch(0) == max(epochs)

    async def test_epoch_is_at_least_what_is_asked(self, backend: Backend) -> None:
        assert await backend.new_epoch(7) >= 7
        assert await backend.new_epoch(3) > 7
        assert await backend.new_epoch(2**31 - 10) == 2**31 - 10
        assert await backend.new_epoch(0) == 2**31 - 10

    async def test_epoch_is_no_record(self, backend: Backend) -> None:
        await backend.save([self.put("1", 1)])
        assert await backend.new_epoch(5) == 5
        assert await backend.load(["epoch", "asyncwb"]) == {}
        assert set(await backend.load(["1"])) == {"1"}

    @requires("persistence")
    async def test_epoch_survives_the_object(self, backend: Backend, url: str) -> None:
        epoch = await backend.new_epoch(5)
        await backend.close()
        async with self.opened(url) as other:
            assert await other.new_epoch(0) == epoch
            assert await other.new_epoch(1) > epoch
