"""asyncwb: Redis as a write buffer for asyncio.

Writes are acknowledged by Redis at memory speed, and a supervised pool of flushers carries every one of them to a
slower backend. Start at `Buffer`.
"""

from typing import TYPE_CHECKING

__all__ = [
    "UNSET",
    "Add",
    "Append",
    "AsyncwbError",
    "Backend",
    "BackendError",
    "BackendFactory",
    "BackendReplaced",
    "BackendTimeout",
    "BackendUnavailable",
    "BatchSizeChanged",
    "Bisected",
    "Bookkeeping",
    "BrokenContract",
    "Buffer",
    "BufferFull",
    "CircuitChanged",
    "Codec",
    "CodecName",
    "ConfigurationError",
    "ConnectionChanged",
    "DeadLetter",
    "DeadLettered",
    "DecodeError",
    "Durability",
    "EmbeddedServerError",
    "EpochChanged",
    "Event",
    "FlushTimeout",
    "FlusherCrashed",
    "ForeignVersions",
    "FullChanged",
    "InvalidArgument",
    "InvalidKey",
    "InvalidValue",
    "Limits",
    "Max",
    "Min",
    "MissingDependency",
    "NamespaceMismatch",
    "NotConfirmed",
    "Observer",
    "OutcomeUnknown",
    "PartialFailure",
    "PlaceTaken",
    "Record",
    "RecordRejected",
    "RedisError",
    "RedisOutOfMemory",
    "RedisRefused",
    "RedisUnavailable",
    "Retried",
    "SaveError",
    "Saved",
    "ServerReturned",
    "ServerSucceeded",
    "Settings",
    "Stats",
    "SuitabilityChanged",
    "TaskCrashed",
    "Totals",
    "UnknownBackend",
    "UnsuitableServer",
    "UsageError",
    "ValueTooLarge",
    "Version",
    "VersionMismatch",
    "WriteLost",
    "allot_epoch",
    "claim_place",
    "default_name",
    "newest_per_key",
    "takes_place",
]

# Each name is imported when it is first asked for (PEP 562): Redis's client, msgspec and anyio take most of a second,
# and neither `asyncwb --help` nor whoever catches an error needs them. Type checkers read the first branch.
if TYPE_CHECKING:
    from asyncwb.backend import Backend, BackendFactory, Limits, newest_per_key
    from asyncwb.buffer import Buffer
    from asyncwb.codecs import Codec
    from asyncwb.errors import (
        AsyncwbError,
        BackendError,
        BackendReplaced,
        BackendTimeout,
        BackendUnavailable,
        BrokenContract,
        BufferFull,
        ConfigurationError,
        DeadLettered,
        DecodeError,
        EmbeddedServerError,
        FlushTimeout,
        InvalidArgument,
        InvalidKey,
        InvalidValue,
        MissingDependency,
        NamespaceMismatch,
        NotConfirmed,
        OutcomeUnknown,
        PartialFailure,
        PlaceTaken,
        RecordRejected,
        RedisError,
        RedisOutOfMemory,
        RedisRefused,
        RedisUnavailable,
        SaveError,
        ServerSucceeded,
        UnknownBackend,
        UnsuitableServer,
        UsageError,
        ValueTooLarge,
        VersionMismatch,
        WriteLost,
    )
    from asyncwb.events import (
        BatchSizeChanged,
        Bisected,
        CircuitChanged,
        ConnectionChanged,
        DeadLetter,
        EpochChanged,
        Event,
        FlusherCrashed,
        ForeignVersions,
        FullChanged,
        Observer,
        Retried,
        Saved,
        ServerReturned,
        SuitabilityChanged,
        TaskCrashed,
    )
    from asyncwb.plugins.places import Bookkeeping, allot_epoch, claim_place, default_name, takes_place
    from asyncwb.records import CodecName, Record, Version
    from asyncwb.settings import Durability, Settings
    from asyncwb.stats import Stats, Totals
    from asyncwb.updates.operations import UNSET, Add, Append, Max, Min
else:
    from importlib import import_module

    # What a module imports comes before it, so that looking through them in this order imports nothing in vain.
    _MODULES = (
        "errors",
        "settings",
        "stats",
        "records",
        "events",
        "codecs",
        "backend",
        "plugins.places",
        "updates.operations",
        "buffer",
    )

    def __getattr__(name: str) -> object:
        if name in __all__:
            for module in _MODULES:
                names = vars(import_module(f"{__name__}.{module}"))
                if name in names:
                    return globals().setdefault(name, names[name])
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
