"""The whole error tree of asyncwb.

::

    AsyncwbError
    ├── ConfigurationError (ValueError)     a setting, a URL or a server is invalid
    │   ├── UnknownBackend                  no installed plugin has this URL scheme
    │   ├── MissingDependency               an extra isn't installed; the message names the pip command
    │   ├── NamespaceMismatch               the namespace was made with another layout, partition count or codec
    │   ├── PlaceTaken                      the table, collection or folder belongs to another namespace
    │   └── UnsuitableServer                an eviction policy, a replica, a cluster: unsafe as a write buffer
    │       └── ServerSucceeded             another server has taken over from this one
    ├── UsageError (RuntimeError)           used before open, after close, outside of its event loop, or after a fork
    ├── InvalidArgument (ValueError)        an argument of a call is invalid; nothing was done
    │   ├── InvalidKey                      empty, over-long or not text
    │   └── InvalidValue                    the codec can't encode it, or it is None
    │       └── ValueTooLarge               over `max_value_bytes`
    ├── VersionMismatch                     a write expected another version than the key has; nothing was written
    ├── PartialFailure                      a call for several keys failed for some of them; it says which
    ├── DecodeError                         what is stored isn't what the codec and `type=` expect
    ├── BufferFull                          a limit is reached; nothing of the refused call was written
    │   └── RedisOutOfMemory (RedisError)   the server is at `maxmemory`; it can still be drained
    ├── RedisError                          the server answered with an error of its own
    │   ├── RedisRefused                    it refused the credentials, or a command to this user
    │   ├── RedisUnavailable                it can't be reached; the request was not applied
    │   ├── NotConfirmed                    a write is in Redis, but its durability was not confirmed in time
    │   └── OutcomeUnknown                  a write was sent and nobody can know whether it was applied
    ├── BackendError                        a failure in the backend
    │   ├── BackendUnavailable              it can't be reached, or didn't answer in time
    │   │   ├── BackendReplaced             its file, folder or table is no longer the one that was opened
    │   │   └── BackendTimeout              it didn't answer in time
    │   ├── BrokenContract                  its plugin broke the contract of backends: a bug in the plugin
    │   ├── RecordRejected                  it will never accept this record as it is (permanent)
    │   └── SaveError                       some records of a batch failed, each with its own reason
    ├── FlushTimeout (TimeoutError)         not everything was saved in time; it is still safe in Redis
    ├── DeadLettered                        the backend refused records for good; they are still readable
    ├── WriteLost                           acknowledged writes are neither in Redis nor in the backend
    └── EmbeddedServerError                 the private server couldn't be started or reached
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any


class AsyncwbError(Exception):
    """Base of every error that asyncwb raises."""


class ConfigurationError(AsyncwbError, ValueError):
    """A setting, a URL or a server is invalid or unsuitable; the message says what to change."""


class UnknownBackend(ConfigurationError):
    """No installed plugin has this URL scheme."""


class MissingDependency(ConfigurationError):
    """A required package isn't installed; the message names the pip command."""


class NamespaceMismatch(ConfigurationError):
    """The namespace exists already, with another layout, partition count or codec."""


class PlaceTaken(ConfigurationError):
    """The place of a backend (a table, a collection, a folder) belongs to another namespace.

    If two namespaces shared a place, each one's writes could be discarded as stale because of the other's, and lost.

    Args:
        message: what happened, and what to do.
        owner: the namespace that the place belongs to.
        namespace: the namespace that was about to use it.
    """

    def __init__(self, message: str, *, owner: str = "", namespace: str = "") -> None:
        super().__init__(message)
        self.owner = owner
        self.namespace = namespace


class UnsuitableServer(ConfigurationError):
    """The server's configuration could lose acknowledged writes, or the server isn't a primary."""


class ServerSucceeded(UnsuitableServer):
    """Another server has taken over: this one is a former primary, or two servers were used with the same place."""


class UsageError(AsyncwbError, RuntimeError):
    """A buffer was used before open, after close, from another event loop, without asyncio, or in a forked process."""


class InvalidArgument(AsyncwbError, ValueError):
    """An argument of a call is invalid, for instance a version or a timeout; nothing was done."""


class InvalidKey(InvalidArgument):
    """A key is invalid: it has to be a str of 1 byte to 1 KiB in UTF-8."""


class InvalidValue(InvalidArgument):
    """The codec can't encode the value, or the value is None (which stands for absence)."""


class ValueTooLarge(InvalidValue):
    """The encoded value is longer than a limit that the message names."""


class PartialFailure(AsyncwbError):
    """A call for several keys failed for some of them; each key either succeeded or is in `failed`, never both.

    If all keys failed with the same class of error, that error is raised instead.

    Args:
        text: what happened.
        failed: see below; likewise `versions` and `values`.

    Attributes:
        failed: key -> its own error. A `NotConfirmed` means that the key was written; the error has its version.
        versions: for `set_many` and `delete_many`: key -> version of each write that is as durable as asked for.
        values: for `get_many`: key -> value. Keys that are neither here nor in `failed` have no value.
    """

    def __init__(
        self,
        text: str,
        *,
        failed: Mapping[str, AsyncwbError] | None = None,
        versions: Mapping[str, int] | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(text)
        self.failed: dict[str, AsyncwbError] = dict(failed or {})
        self.versions: dict[str, int] = dict(versions or {})
        self.values: dict[str, Any] = dict(values or {})


class VersionMismatch(AsyncwbError):
    """A write with `expected=` found another version than the expected one; nothing was written.

    Args:
        message: what happened.
        version: see below.

    Attributes:
        version: the version that the key has, also if it was deleted; None if it has none.
    """

    def __init__(self, message: str, *, version: int | None = None) -> None:
        super().__init__(message)
        self.version = version


class DecodeError(AsyncwbError):
    """The stored bytes don't decode to what the codec and `type=` expect."""


class BufferFull(AsyncwbError):
    """A limit of the buffer is reached; nothing of the refused call was written."""


class RedisError(AsyncwbError):
    """The server answered with an error of its own."""


class RedisOutOfMemory(BufferFull, RedisError):
    """The server is at `maxmemory`: it accepts no new writes, but it can still be drained."""


class RedisRefused(RedisError):
    """The server refused the credentials, or a command that this user isn't allowed; see `asyncwb doctor --acl`."""


class RedisUnavailable(RedisError):
    """The server can't be reached; the request was certainly not applied."""


class NotConfirmed(RedisError):
    """A write is in Redis and will be saved, but the durability that was asked for was not confirmed in time.

    Attributes:
        versions: key -> version of each write that this error is about.
    """

    def __init__(self, text: str, *, versions: Mapping[str, int] | None = None) -> None:
        super().__init__(text)
        self.versions: dict[str, int] = dict(versions or {})


class OutcomeUnknown(RedisError):
    """A write was sent, its answer was lost, and nobody can know whether it was applied.

    Write again with the same buffer, or read the key. If you write again, a late arrival of the first attempt can't
    overwrite the retry; until then a read may show either. An update that adds or appends may count twice if it is made
    again; a write with `expected=` can't.
    """


class BackendError(AsyncwbError):
    """A failure in the backend; temporary unless it is a `RecordRejected`."""


class BackendUnavailable(BackendError):
    """The backend can't be reached or didn't answer in time."""


class BackendReplaced(BackendUnavailable):
    """The backend's file, folder or table was deleted or replaced while open; nothing is known to be saved there.

    A backend that raises this is closed and opened again before its next call, so that it can prepare the new one.
    """


class BackendTimeout(BackendUnavailable):
    """The backend didn't answer in time."""


class BrokenContract(BackendError):
    """The backend's plugin broke the contract (`asyncwb.Backend`), which is a bug in the plugin; the message says how.

    The whole answer of the plugin is disregarded: no record counts as saved because of it.
    """


class RecordRejected(BackendError):
    """The backend will never accept this record as it is: trying again is useless."""


class SaveError(BackendError):
    """Some records of a batch weren't saved; all others were, durably.

    Args:
        failed: key -> why it wasn't saved. A `RecordRejected` is permanent; after any other error the record is tried
            again.
        stale: how many of the records that did not fail were older than what the backend holds.
    """

    def __init__(self, failed: Mapping[str, Exception], *, stale: int = 0) -> None:
        self.failed = dict(failed)
        self.stale = stale
        some = ", ".join(f"{key!r}: {reason}" for key, reason in list(self.failed.items())[:3])
        super().__init__(f"{len(self.failed)} record(s) were not saved, among them {some}")

    def __reduce__(self) -> tuple[Any, ...]:
        # By default an exception is copied by calling its class with `args`, which here is only the message.
        return _save_error, (self.failed, self.stale)


def _save_error(failed: Mapping[str, Exception], stale: int) -> SaveError:
    return SaveError(failed, stale=stale)


class FlushTimeout(AsyncwbError, TimeoutError):
    """Not everything was saved in time; what is left stays safely in Redis."""


class DeadLettered(AsyncwbError):
    """Records were dead-lettered: the backend refused them for good, or they failed too often.

    They stay readable, and the next write of such a key makes it dirty again. But where an update can't be applied, the
    key has no value and takes no further updates until it is set, deleted, retried or dropped.

    Args:
        message: what happened.
        reasons: key -> why it was dead-lettered, usually what the backend said last.
    """

    def __init__(self, message: str, *, reasons: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.reasons = dict(reasons or {})


class WriteLost(AsyncwbError):
    """Acknowledged writes are neither in Redis nor in the backend: the server lost data after acknowledging them.

    Args:
        message: what happened.
        keys: the keys of the writes, as far as this process remembers them.
    """

    def __init__(self, message: str, *, keys: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.keys = tuple(keys)


class EmbeddedServerError(AsyncwbError):
    """The private Valkey server couldn't be started or reached."""


def twin(error: Exception) -> Exception:
    """Returns a copy of an error for one more caller, with the original as its cause.

    If several tasks raised the same exception object, it would collect all their tracebacks. An error that can't be
    copied, which depends on how a plugin defines its class, is returned itself.
    """
    try:
        copied = copy.copy(error)
    except Exception:  # noqa: BLE001 - the code of that class may raise anything
        return error
    if not isinstance(copied, type(error)):
        return error
    copied.__cause__ = error
    return copied
