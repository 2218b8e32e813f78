"""All settings of a buffer: one frozen dataclass, each field with its unit in its name."""

import dataclasses
import re
from dataclasses import dataclass
from typing import Final, Literal, TypedDict, get_args

from asyncwb.errors import ConfigurationError
from asyncwb.support.plain import excerpt, plain_int, plain_number, plain_str

Commit = Literal["script", "watch"]
Durability = Literal["memory", "fsync", "replicated"]
OnFull = Literal["raise", "wait", "write-through"]

MOST_PARTITIONS: Final = 1024
LONGEST_DELAY_SECONDS: Final = 600.0
"""No lease, delay or back-off is longer: a score further ahead means that the server's clock jumped."""

_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class SettingOptions(TypedDict, total=False):
    """`Settings` as keyword arguments of `Buffer`; a test keeps the two alike."""

    namespace: str
    partitions: int | None
    flushers: int
    commit: Commit
    durability: Durability
    replicas: int
    max_dirty: int | None
    max_bytes: int | None
    max_age_seconds: float | None
    low_watermark: float
    on_full: OnFull
    full_timeout_seconds: float
    max_remembered_writes: int
    max_delay_seconds: float
    batch_size: int | None
    batch_bytes: int
    max_value_bytes: int
    check_values: bool
    lease_seconds: float
    save_timeout_seconds: float
    drain_timeout_seconds: float
    connect_timeout_seconds: float
    redis_timeout_seconds: float
    redis_retry_seconds: float
    max_attempts: int | None
    retry_initial_seconds: float
    retry_max_seconds: float
    probe_seconds: float
    backoff_initial_seconds: float
    backoff_max_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How a buffer behaves. Every default is safe; raise `max_delay_seconds` to coalesce more writes of hot keys.

    Attributes:
        namespace: buffers with the same namespace on one server share their records; `[A-Za-z0-9_.-]{1,64}`.
        partitions: into how many independent queues the namespace is split; fixed at its first use. None takes it as it
            is, and makes one at its first use; another number than it has is refused.
        flushers: concurrent flusher coroutines; with 0, this process only writes, and another one has to flush.
        commit: "script" decides a whole batch in one Lua script, "watch" is the article's WATCH/MULTI/EXEC per record.
        durability: what a returned `set` means: "memory", the server has it; "fsync", it is in the append-only file;
            "replicated", `replicas` replicas have it. Opening the buffer fails if the server can't provide the level.
        replicas: how many replicas have to have a write, with durability="replicated".
        max_dirty: at most this many records per partition, dead letters included (None: no bound). The put script
            keeps to it exactly, over all processes; rewriting a record that is unsaved already adds none.
        max_bytes: at most about this many bytes of records per partition; `audit` corrects the estimate.
        max_age_seconds: no new records while the oldest unsaved write is older than this; failing ones don't count.
        low_watermark: once a limit is reached, the buffer counts as full until it is below this share of every limit.
        on_full: what becomes of a put at a limit, or at the server's maxmemory: "raise" `BufferFull` at once; "wait" in
            order for `full_timeout_seconds`, then raise it; "write-through": it goes to the backend directly.
        full_timeout_seconds: how long a put waits at a limit, with on_full="wait".
        max_remembered_writes: a process remembers the acknowledged writes of this many keys until it knows that they
            are saved, so that `drain` and `flush` can name what a server lost; it only counts further ones.
        max_delay_seconds: how long a write may wait for more writes of its key before it is saved.
        batch_size: at most this many records per save; None is what the backend prefers (most prefer 1000). Saves have
            fewer while the backend is too slow for that many.
        batch_bytes: at most this many bytes of values per save and per put (one larger record still goes alone).
        max_value_bytes: the largest encoded value.
        check_values: whether a write first checks that its value can be read back as it is, and is refused if it
            can't. The check takes about as long as encoding the value.
        lease_seconds: how long a claim protects its records if its flusher dies; renewed while a save runs.
        save_timeout_seconds: a save that takes longer is cancelled and tried again, in parts. Batches are kept small
            enough for a save to take much less.
        drain_timeout_seconds: how long leaving the buffer waits for everything to be saved.
        connect_timeout_seconds: how long opening waits for Redis and for the backend, each.
        redis_timeout_seconds: how long one command waits for its answer.
        redis_retry_seconds: how long a command is tried again after a lost connection.
        max_attempts: a record that has failed this many times, or has as often been alone in a save whose process died,
            is dead-lettered (None: never). An outage doesn't count.
        retry_initial_seconds: the pause after a record's first failure; it doubles with each, with jitter.
        retry_max_seconds: the longest pause after a failure of a record.
        probe_seconds: in an outage of the backend, the longest pause between two checks whether it is back.
        backoff_initial_seconds: the first pause after a crash of a flusher, and in an outage; it doubles, with jitter.
        backoff_max_seconds: the longest pause after a crash.
    """

    namespace: str = "default"
    partitions: int | None = None
    flushers: int = 4
    commit: Commit = "script"
    durability: Durability = "memory"
    replicas: int = 1
    max_dirty: int | None = None
    max_bytes: int | None = None
    max_age_seconds: float | None = None
    low_watermark: float = 0.9
    on_full: OnFull = "raise"
    full_timeout_seconds: float = 30.0
    max_remembered_writes: int = 100_000
    max_delay_seconds: float = 0.0
    batch_size: int | None = None
    batch_bytes: int = 8 * 2**20
    max_value_bytes: int = 16 * 2**20
    check_values: bool = True
    lease_seconds: float = 30.0
    save_timeout_seconds: float = 60.0
    drain_timeout_seconds: float = 30.0
    connect_timeout_seconds: float = 5.0
    redis_timeout_seconds: float = 5.0
    redis_retry_seconds: float = 15.0
    max_attempts: int | None = 10
    retry_initial_seconds: float = 0.1
    retry_max_seconds: float = 60.0
    probe_seconds: float = 0.5
    backoff_initial_seconds: float = 0.05
    backoff_max_seconds: float = 5.0

    def __post_init__(self) -> None:
        namespace = plain_str(self.namespace)
        if namespace is None or not _NAMESPACE.fullmatch(namespace):
            raise ConfigurationError(f"namespace {excerpt(self.namespace)}: use 1 to 64 of A-Z a-z 0-9 _ . -")
        self._set("namespace", namespace)
        for name, choices in (("commit", Commit), ("durability", Durability), ("on_full", OnFull)):
            self._set(name, check_choice(name, getattr(self, name), get_args(choices)))
        self._set("check_values", _checked_flag("check_values", self.check_values))
        for name, low, high in (
            ("flushers", 0, 1024),
            ("replicas", 1, 1000),
            ("max_remembered_writes", 1, 10_000_000),
            ("batch_bytes", 1, 2**30),
            ("max_value_bytes", 1, 256 * 2**20),
        ):
            self._set(name, _checked_whole(name, getattr(self, name), low, high))
        for name, low, high in (
            ("partitions", 1, MOST_PARTITIONS),
            ("max_dirty", 1, 2**53),
            ("max_bytes", 1, 2**53),
            ("batch_size", 1, 100_000),
            ("max_attempts", 1, 2**31),
        ):
            if getattr(self, name) is not None:
                self._set(name, _checked_whole(name, getattr(self, name), low, high))
        if self.max_age_seconds is not None:
            longest = 10 * 365 * 86400.0
            self._set("max_age_seconds", _checked_number("max_age_seconds", self.max_age_seconds, 0.001, longest))
        for name, least, most in (
            ("low_watermark", 0.0, 1.0),
            ("max_delay_seconds", 0.0, LONGEST_DELAY_SECONDS),
            ("lease_seconds", 0.1, LONGEST_DELAY_SECONDS),
            ("save_timeout_seconds", 0.01, float("inf")),
            ("drain_timeout_seconds", 0.0, float("inf")),
            ("full_timeout_seconds", 0.0, float("inf")),
            ("connect_timeout_seconds", 0.01, 3600.0),
            ("redis_timeout_seconds", 0.01, 3600.0),
            ("redis_retry_seconds", 0.0, 3600.0),
            ("retry_initial_seconds", 0.001, LONGEST_DELAY_SECONDS),
            ("retry_max_seconds", 0.001, LONGEST_DELAY_SECONDS),
            ("probe_seconds", 0.001, LONGEST_DELAY_SECONDS),
            ("backoff_initial_seconds", 0.001, LONGEST_DELAY_SECONDS),
            ("backoff_max_seconds", 0.001, LONGEST_DELAY_SECONDS),
        ):
            self._set(name, _checked_number(name, getattr(self, name), least, most))

    def _set(self, name: str, value: object) -> None:
        """What was passed, as plain Python: it may have been of a class of the user's."""
        object.__setattr__(self, name, value)

    def replace(self, options: SettingOptions) -> "Settings":
        """A copy with some settings changed.

        Raises:
            ConfigurationError: an unknown or impossible setting.
        """
        known = {field.name for field in dataclasses.fields(self)}
        if unknown := sorted(set(options) - known):
            raise ConfigurationError(f"unknown setting {unknown[0]!r}; the settings are {', '.join(sorted(known))}")
        return dataclasses.replace(self, **options)


def _checked_whole(name: str, value: object, low: int, high: int) -> int:
    number = plain_int(value)
    if number is None or not low <= number <= high:
        raise ConfigurationError(f"{name}={excerpt(value)}: use a whole number from {low} to {high}")
    return number


def _checked_number(name: str, value: object, low: float, high: float) -> float:
    number = plain_number(value)
    if number is None or not low <= number <= high:
        unit = " of seconds" if name.endswith("_seconds") else ""
        raise ConfigurationError(f"{name}={excerpt(value)}: use a number{unit} from {low:g} to {high:g}")
    return number


def _checked_flag(name: str, value: object) -> bool:
    if value is not True and value is not False:
        raise ConfigurationError(f"{name}={excerpt(value)}: use True or False")
    return value


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    """The choice as a plain str. Raises `ConfigurationError` for a value that isn't one of them."""
    text = plain_str(value)
    if text is None or text not in choices:
        raise ConfigurationError(
            f"{name}={excerpt(value)}: use {', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}"
        )
    return text
