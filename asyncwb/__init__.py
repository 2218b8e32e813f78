"""asyncwb: Redis as a write buffer for asyncio.

Writes are acknowledged by Redis at memory speed, and a supervised pool of flushers carries every one of them to a
slower backend. Start at `Buffer`.
"""

from asyncwb.backend import Backend, BackendFactory, Limits, allot_epoch, newest_per_key
from asyncwb.buffer import Buffer
from asyncwb.codecs import Codec
from asyncwb.errors import (
    AsyncwbError,
    BackendError,
    BackendUnavailable,
    BufferFull,
    ConfigurationError,
    DeadLettered,
    DecodeError,
    EmbeddedServerError,
    FlushTimeout,
    InvalidKey,
    InvalidValue,
    MissingDependency,
    NamespaceMismatch,
    OutcomeUnknown,
    RecordRejected,
    RedisError,
    RedisOutOfMemory,
    RedisUnavailable,
    SaveError,
    UnknownBackend,
    UnsuitableServer,
    UsageError,
    ValueTooLarge,
    WriteLost,
)
from asyncwb.events import (
    Bisected,
    CircuitChanged,
    DeadLetter,
    EpochChanged,
    Event,
    FlusherCrashed,
    FullChanged,
    Observer,
    Retried,
    Saved,
)
from asyncwb.records import Record, Version
from asyncwb.settings import Settings
from asyncwb.stats import Stats, Totals

__all__ = [
    "AsyncwbError",
    "Backend",
    "BackendError",
    "BackendFactory",
    "BackendUnavailable",
    "Bisected",
    "Buffer",
    "BufferFull",
    "CircuitChanged",
    "Codec",
    "ConfigurationError",
    "DeadLetter",
    "DeadLettered",
    "DecodeError",
    "EmbeddedServerError",
    "EpochChanged",
    "Event",
    "FlushTimeout",
    "FlusherCrashed",
    "FullChanged",
    "InvalidKey",
    "InvalidValue",
    "Limits",
    "MissingDependency",
    "NamespaceMismatch",
    "Observer",
    "OutcomeUnknown",
    "Record",
    "RecordRejected",
    "RedisError",
    "RedisOutOfMemory",
    "RedisUnavailable",
    "Retried",
    "SaveError",
    "Saved",
    "Settings",
    "Stats",
    "Totals",
    "UnknownBackend",
    "UnsuitableServer",
    "UsageError",
    "ValueTooLarge",
    "Version",
    "WriteLost",
    "allot_epoch",
    "newest_per_key",
]
