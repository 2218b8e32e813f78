"""The epoch handshake: an epoch names a history of Redis; the backend allots its number and a script installs it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from asyncwb.errors import BackendError, RedisUnavailable, ServerSucceeded
from asyncwb.events import EpochChanged, Observer, ServerReturned, unobserved
from asyncwb.plugins.succession import Began, successor_of
from asyncwb.protocol.handshake import can_begin, is_acceptable, number_to_allot
from asyncwb.protocol.messages import PartitionMeta
from asyncwb.protocol.namespace import Made, Namespace
from asyncwb.protocol.queue import Queue
from asyncwb.records import MAX_SEQ, Record, Version, epoch_of

T = TypeVar("T", bound=tuple[Any, ...])

_log: Final = logging.getLogger("asyncwb")

_SPARE_SEQS: Final = 100_000
"""A new epoch begins when fewer sequence numbers are left than the largest put needs; see `Settings.batch_size`."""

NewEpoch = Callable[[int], Awaitable[int]]
"""`Backend.new_epoch`, with a timeout, raising asyncwb's errors only."""
NoteServer = Callable[[int, int, str], Awaitable[Sequence[Began]]]
"""`Backend.note_server`, likewise with a timeout and asyncwb's errors only."""


async def _note_nothing(_partition: int, _epoch: int, _server: str) -> Sequence[Began]:
    return ()


class Epochs:
    """What this process knows of the epoch of each partition of a namespace.

    An epoch is a history of Redis. A process begins a new one if the server isn't the one named in the partition's meta
    (it was promoted, or started without its data), or if the server is behind the backend's epoch (a former primary
    that came back). So versions of two histories are never mixed up.

    Args:
        queues: the queues of all partitions, in the order of their numbers; at least one.
        new_epoch: allots an epoch.
        codec: the name of the namespace's codec.
        note_server: notes which server took over, and returns those that are noted.
        emit: gets an `EpochChanged` for each partition that enters a new epoch, and a `ServerReturned` if another
            server has taken over since this one did: this one came back, or both are in use.
    """

    def __init__(
        self,
        queues: Sequence[Queue],
        new_epoch: NewEpoch,
        *,
        codec: str,
        note_server: NoteServer = _note_nothing,
        emit: Observer = unobserved,
    ) -> None:
        self._emit = emit
        self._queues = queues
        self._namespace = Namespace(queues[0].link, queues[0].namespace)
        self._new_epoch = new_epoch
        self._note_server = note_server
        self._opening = self._adopting = False
        self._codec = codec
        self._known = [0] * len(queues)
        self._lock = asyncio.Lock()
        self._behind = 0
        self._told: dict[int, Began] = {}  # partition -> the successor of its server that was last reported
        self._spare = 0  # the epoch that `begin_above` returned last
        self._foreign: list[tuple[int, tuple[tuple[int, int], ...]]] = [(0, ())] * len(queues)
        self._asked = ""  # the identity of the server that answered the handshake last

    def known(self, partition: int) -> int:
        """The epoch of a partition, 0 before the first handshake."""
        return self._known[partition]

    def foreign(self, partition: int) -> tuple[tuple[int, int], ...] | None:
        """The foreign ranges of epochs (see `PartitionMeta`); None if this process has to read meta to know them."""
        epoch, ranges = self._foreign[partition]
        return ranges if epoch == self._known[partition] else None

    async def call(self, partition: int, ask: Callable[..., Awaitable[T | None]]) -> T:
        """Sends a request in a partition's known epoch, and learns a later one if the reply has one.

        Args:
            partition: the partition to ask.
            ask: sends the request; gets the known epoch as `epoch`, and returns None if the server refuses it.

        Returns:
            What `ask` returned, a tuple that begins with the epoch of the reply.

        Raises:
            RedisUnavailable: the server refused that epoch. The present one has been learned, so the caller can retry.
            BackendError, RedisError, NamespaceMismatch: raised by `refresh` or `ask`.
        """
        known = self._known[partition]
        reply = await ask(epoch=known)
        if reply is None:
            await self.refresh(partition, known)
            raise RedisUnavailable("the server's history changed meanwhile")
        if reply[0] != known:
            # Another process began an epoch, perhaps after somebody has emptied the server and made the namespace anew,
            # with another codec. Nothing may be written there before that is checked.
            await self.refresh(partition, known)
        return reply

    async def refresh(self, partition: int, refused: int) -> None:
        """After a script refused an epoch, learns the present one, or begins a new one in all partitions that need it.

        Args:
            partition: the partition whose epoch was refused.
            refused: that epoch; if another one has been learned since, nothing is done. 0 always asks.

        Raises:
            BackendError: a new epoch is needed and the backend can't allot one.
            RedisError: the server can't be asked, or is a replica now.
            NamespaceMismatch: the namespace was made with another layout, number of partitions or codec.
        """
        async with self._lock:
            if self._known[partition] == refused or not refused:
                await self._handshake(at_least=0)

    async def join(self) -> None:
        """Learns the present epochs; asks the backend only if a new one has to begin. Raises what `refresh` raises."""
        async with self._lock:
            await self._handshake(at_least=0)

    async def adopt(self) -> None:
        """Begins an epoch and notes this server as the present one, even if others have taken over since.

        Raises:
            BackendError: the backend can't allot an epoch, or can't note the server.
            RedisError: the server can't be asked, or is a replica now.
            NamespaceMismatch: the namespace was made with another layout, number of partitions or codec.
        """
        highest = await self._new_epoch(0)
        self._adopting = True
        try:
            async with self._lock:
                await self._handshake(at_least=highest + 1)
        finally:
            self._adopting = False

    async def check_at_open(self) -> None:
        """Does what `check` does, but raises ServerSucceeded if another server has taken over since this one did."""
        self._opening = True
        try:
            await self.check()
        finally:
            self._opening = False

    async def check(self) -> None:
        """Compares the epoch in meta with the backend's, and begins a new one if the server is behind.

        A server can be behind although meta still has its identity: a former primary that came back, for example.

        Raises:
            BackendError: the backend can't be asked, or can't allot an epoch.
            RedisError: the server can't be asked, or is a replica now.
            NamespaceMismatch: the namespace was made with another layout, number of partitions or codec.
        """
        highest = await self._new_epoch(0)
        async with self._lock:
            if any(epoch < highest for epoch in self._known):
                self._behind += 1
                if self._behind == 5:
                    _log.warning(
                        "the backend's epoch has moved on %d times in a row: does another Redis save into the same "
                        "place? Each needs a table, collection or folder of its own",
                        self._behind,
                    )
            else:
                self._behind = 0
            await self._handshake(at_least=highest)

    async def disown(self, first: int, last: int) -> None:
        """Notes as foreign some epochs that came with a place's data and were never allotted. Raises RedisError."""
        # Epochs that the server itself has been in are left out: it may have been used with another place before.
        first = max(first, 1 + max([(await queue.read_meta()).epoch for queue in self._queues]))
        if first <= last:
            for queue in self._queues:
                await queue.disown(first, last)

    async def begin_above(self, foreign: Version, *, allotted: int, records: Iterable[Record]) -> int:
        """Begins an epoch in all partitions above a foreign version, which no history of this namespace has made.

        Args:
            foreign: the foreign version, which the backend holds.
            allotted: when it was found, the highest epoch that the backend had allotted or that the server was in.
            records: the records that can't be saved because of it.

        Returns:
            An epoch for new versions of these records. It is above their epochs and above that of `foreign`, but below
            the one that begins, so that no later write can be taken for older than they are.

        Raises:
            BackendError: the backend can't allot an epoch.
            RedisError: the server can't be asked, or is a replica now.
            NamespaceMismatch: the namespace was made with another layout, number of partitions or codec.
        """
        async with self._lock:
            lowest = 1 + max(epoch_of(foreign), *(epoch_of(each.version) for each in records))
            # A server used with another place before may be in a later epoch than this place has allotted, and other
            # processes may have begun epochs since `allotted` was read.
            known = max(await self._new_epoch(0), allotted, *self._known)
            if self._spare >= lowest and all(epoch > self._spare for epoch in self._known):
                return self._spare
            if epoch_of(foreign) > known:
                # This has to precede the new epoch: after it, these versions look like those of an earlier history.
                for queue in self._queues:
                    await queue.disown(known + 1, epoch_of(foreign))
            self._spare = await self._new_epoch(max(lowest, known + 1))
            await self._handshake(at_least=self._spare + 1)
            return self._spare

    async def _handshake(self, *, at_least: int) -> None:
        await self._enter()
        # An allotted number is always installed or replaced by a higher one, never dropped: otherwise meta would be
        # behind the backend, and every client would begin yet another epoch.
        mine, before = 0, -1
        while mine != before:  # repeat after a number was allotted, so that earlier partitions get the same one
            before = mine
            for queue in self._queues:
                mine = await self._begin_epoch(queue, max(at_least, mine), mine)

    async def _begin_epoch(self, queue: Queue, at_least: int, mine: int) -> int:
        """Learns or begins the epoch of one partition.

        Args:
            queue: the partition's queue.
            at_least: the lowest acceptable epoch.
            mine: the number that this handshake has been allotted so far, 0 for none.

        Returns:
            The number allotted so far, 0 if none was needed.

        Raises:
            BackendError, RedisError, NamespaceMismatch: as in `refresh`.
            ServerSucceeded: the buffer is being opened, and another server has taken over.
        """
        reset = False
        while True:
            meta = await queue.read_meta()
            if mine and meta.identity != self._asked:
                # `mine` was allotted for another server, and later epochs may have begun there since.
                at_least = max(at_least, await self._new_epoch(0))
            self._asked = meta.identity
            if not meta.identity:
                await queue.link.reset()  # the next connection may find the new primary
                raise RedisUnavailable("the server is a replica now; its primary has to be found")
            self._check(queue, meta)
            lowest = max(at_least, self._known[queue.partition])
            behind = meta.epoch < lowest
            if behind and not mine and not reset:
                # An old connection may still lead to a former primary. In that case ask its successor instead of
                # beginning an epoch above the successor's. If a new connection leads to the same server, it is the
                # primary again.
                reset = True
                await queue.link.reset()
                await self._enter()
                continue
            looks = self._opening or self._adopting
            began = await self._servers(queue.partition) if meta.is_sound and (behind or looks) else ()
            successor = None if self._adopting else successor_of(meta.identity, began)
            if successor is not None:
                await self._tell_return(queue, meta, successor)
            sound = meta.is_sound and meta.seq <= MAX_SEQ - _SPARE_SEQS
            if is_acceptable(meta.epoch, sound=sound, lowest=lowest):
                self._learn(queue.partition, meta.epoch)
                self._foreign[queue.partition] = (meta.epoch, meta.foreign)
                if looks:
                    await self._note(queue.partition, meta.epoch, meta.identity, began)
                return mine
            if not can_begin(mine, lowest=lowest, epoch=meta.epoch, known=self._known[queue.partition]):
                mine = await self._new_epoch(number_to_allot(lowest=lowest, epoch=meta.epoch))
            if await queue.install_epoch(meta, mine, codec=self._codec):
                _log.info("partition %d begins epoch %d", queue.partition, mine)
                self._learn(queue.partition, mine)
                self._foreign[queue.partition] = (mine, meta.foreign)
                if successor is None:
                    await self._note(queue.partition, mine, meta.identity, began)
                return mine
            await self._enter()

    def _learn(self, partition: int, epoch: int) -> None:
        """Remembers an epoch that a handshake has found or begun."""
        known = self._known[partition]
        if epoch > known:
            self._known[partition] = epoch
            if known:  # learning the first one is not a change
                self._emit(EpochChanged(partition, epoch))

    async def _servers(self, partition: int) -> Sequence[Began]:
        """Which servers have taken over the partition, by epoch; if the backend can't tell, nothing.

        Raises:
            BackendError: the backend can't tell, and the buffer is being opened or the server adopted.
        """
        try:
            return await self._note_server(partition, 0, "")
        except BackendError as error:
            if self._opening or self._adopting:
                raise
            _log.warning("partition %d: it can't be told which servers have taken over: %s", partition, error)
            return ()

    async def _tell_return(self, queue: Queue, meta: PartitionMeta, successor: Began) -> None:
        """Reports that another server has taken over, although meta still has this one's identity.

        Raises:
            ServerSucceeded: the buffer is being opened.
        """
        if self._opening:
            await queue.link.reset()  # a retry, on another connection, may reach the other server
            raise ServerSucceeded(
                f"{queue.link.where} (replication id {meta.identity[:8]}…) isn't the present server of this "
                f"namespace: another one (replication id {successor[1][:8]}…) took over with epoch {successor[0]}. It "
                "is a former primary that still runs, or two servers were used with one place. Connect to the other "
                "one; if it is to be this one, stop the other and run `asyncwb adopt-server`"
            )
        if self._told.get(queue.partition) == successor:
            return
        self._told[queue.partition] = successor
        _log.warning(
            "partition %d: %s is in epoch %d, and another server (replication id %s…) took over with epoch %d: it is a "
            "former primary that still runs, or two servers save into one place, where either one's saves may be "
            "discarded as stale. No other process can open this server until that is settled",
            queue.partition,
            queue.link.where,
            meta.epoch,
            successor[1][:8],
            successor[0],
        )
        self._emit(ServerReturned(queue.partition, meta.epoch, successor[0]))

    async def _note(self, partition: int, epoch: int, server: str, began: Sequence[Began]) -> None:
        """Notes the server as the present one, unless it is noted as that already or a later epoch is noted.

        `adopt` notes it in any case. If noting fails, the epoch is valid all the same, and the next process that opens
        the server notes it.

        Raises:
            BackendError: the server can't be noted, and it is being adopted.
        """
        if not self._adopting and began and (began[-1][1] == server or began[-1][0] > epoch):
            return
        try:
            await self._note_server(partition, epoch, server)
        except BackendError as error:
            if self._adopting:
                raise
            _log.warning("partition %d: it can't be noted which server began epoch %d: %s", partition, epoch, error)

    async def _enter(self) -> None:
        """Reads the namespace's key, and makes it if it is missing: somebody may have emptied the server.

        It comes first in a handshake, and again wherever the server may be another one or have been changed by others.
        """
        await self._namespace.enter(partitions=len(self._queues), codec=self._codec)

    def _check(self, queue: Queue, meta: PartitionMeta) -> None:
        """Checks that an epoch is one of the same namespace, as the same step has read it."""
        if meta.layout:
            key, codec = queue.keys.meta.decode(), meta.codec
            made = Made(namespace=queue.namespace, key=key, layout=meta.layout, partitions=meta.partitions, codec=codec)
            made.check(partitions=len(self._queues), codec=self._codec)
