"""Keeps records short in an outage: folds updates that no flusher has read into one."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, NoReturn

from asyncwb.errors import AsyncwbError
from asyncwb.protocol.pending import Entry, PendingRecord, foldable, pack_entries
from asyncwb.protocol.queue import Queue
from asyncwb.protocol.wire import unpack
from asyncwb.updates import fold

_log: Final = logging.getLogger("asyncwb")


class Folder:
    """Folds the updates of records that have become long. Whether it does so or not, their values are the same."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._keys: dict[bytes, None] = {}
        self._arrival = asyncio.Event()

    def fold(self, keys: Sequence[bytes]) -> None:
        """Has the records of these keys folded soon."""
        self._keys.update(dict.fromkeys(keys))
        self._arrival.set()

    async def serve(self) -> NoReturn:
        """Folds records until cancelled."""
        while True:
            await self._arrival.wait()
            self._arrival.clear()
            while self._keys:
                key = next(iter(self._keys))
                del self._keys[key]
                try:
                    await self._fold(key)
                except AsyncwbError as error:  # it grows, and is tried again with one of its next updates
                    _log.debug("the updates of key %r weren't folded: %s", key, error)

    async def _fold(self, key: bytes) -> None:
        queue = self._queue
        packed = await queue.packed(key)
        record = unpack(key.decode(), packed) if packed is not None else None
        if not isinstance(record, PendingRecord):
            return
        entries = foldable(record)
        payloads = fold(record.codec, [entry.payload for entry in entries])
        if len(entries) < 2 or len(payloads) > 1:
            return
        folded = Entry(entries[0].first, entries[-1].last, payloads[0])
        at = record.at + len(pack_entries(record.entries[: len(record.entries) - len(entries)]))
        await queue.fold(key, at, entries, [folded])
