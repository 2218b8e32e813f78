"""The contract: calls have to return valid answers; asyncwb takes nothing as saved because of any other."""

from typing import Final

import pytest

from asyncwb.backend import Backend
from asyncwb.errors import SaveError
from asyncwb.plugins.answers import Judge
from asyncwb.testing.contract.base import ContractBase, tombstone

_JUDGE: Final = Judge("under test")


class AnswerContract(ContractBase):
    """What calls return, and what a SaveError names."""

    async def test_answers_are_of_their_types(self, backend: Backend) -> None:
        """In operation asyncwb refuses invalid answers: a bool or None as a number, or a record nobody asked for."""
        _JUDGE.limits(backend.limits)
        for at_least in (0, 1, 5, 0):
            _JUDGE.epoch(await backend.new_epoch(at_least), at_least)
        batch = [self.put("1", 5), self.put("2", 5), tombstone("3", 5)]
        for records in ([], batch, batch[:1], [self.put("1", 4), self.put("4", 4)]):
            _JUDGE.saved(await backend.save(records), records)
        for keys in ([], ["1"], ["1", "3", "99"], ["99"]):
            _JUDGE.loaded(await backend.load(keys), keys)

    async def test_save_error_names_records_of_its_batch(self, backend: Backend) -> None:
        """If it named any other key, nobody could tell which of the records were saved."""
        for number, poison in enumerate(self.poison_or_skip()):
            for batch in ([poison], [self.put(str(number), 1), poison]):
                with pytest.raises(SaveError) as caught:
                    await backend.save(batch)
                _JUDGE.failed(caught.value, batch)
