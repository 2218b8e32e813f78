"""Backends that let two processes save on the same version."""

import asyncio
from collections.abc import Sequence

import msgspec

from asyncwb import Record

from .sound import OnDisk, OneFile


class LooksThenLocks(OneFile):
    """It finds the records whose bases are stored, and saves them as if they had none, with a lock for that only."""

    pause_seconds = 0.0

    async def save(self, records: Sequence[Record]) -> int:
        held = self.read()["records"]
        applies = [
            msgspec.structs.replace(each, based_on=None)
            for each in records
            if each.based_on is None or each.based_on == held.get(each.key, [0])[0]
        ]
        await asyncio.sleep(self.pause_seconds)
        return len(records) - len(applies) + await super().save(applies)


class TestLooksThenLocks(OnDisk):
    made = LooksThenLocks


class LooksLongBefore(LooksThenLocks):
    pause_seconds = 0.005


class TestLooksLongBefore(OnDisk):
    made = LooksLongBefore


class OrdersOnlyItsOwnTasks(LooksLongBefore):
    """Its lock belongs to the object."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self._turn = asyncio.Lock()

    async def save(self, records: Sequence[Record]) -> int:
        async with self._turn:
            return await super().save(records)


class TestOrdersOnlyItsOwnTasks(OnDisk):
    made = OrdersOnlyItsOwnTasks
