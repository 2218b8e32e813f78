"""The reliable queue of one partition: all steps of the protocol."""

from asyncwb.protocol.steps.epoch import EpochSteps
from asyncwb.protocol.steps.flusher import FlusherSteps
from asyncwb.protocol.steps.operator import OperatorSteps
from asyncwb.protocol.steps.reader import ReaderSteps
from asyncwb.protocol.steps.writer import WriterSteps


class Queue(EpochSteps, WriterSteps, ReaderSteps, FlusherSteps, OperatorSteps):
    """One partition of a namespace.

    No method sends a script again on its own. All methods but `put` may be repeated freely after a lost reply, because
    the scripts decide from versions and leases. A repeated `claim` first releases those taken by the claim whose reply
    was lost, unless that arrives later: then they become dirty again when their leases expire.

    Args:
        link: to the server.
        namespace: the namespace's name.
        partition: the partition's number, from 0.
        partitions: how many the namespace has.
        suitability: whether the server may be written to; by default, it may.
    """
