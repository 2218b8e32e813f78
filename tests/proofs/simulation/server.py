"""A model of a Redis server in memory: its steps, its rules at maxmemory, and its history."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from tests.proofs.simulation.commands import (
    COMMANDS,
    DENIED_AT_MAXMEMORY,
    WRITES,
    Command,
    ServerError,
    WrongType,
    keys_of,
)
from tests.proofs.simulation.lua import ScriptHost

_TRANSACTIONS: Final = {b"MULTI", b"EXEC", b"WATCH", b"UNWATCH"}


class Client:
    """A connection: what it watches, and what it has queued in MULTI; whether one of its commands was refused."""

    def __init__(self) -> None:
        self.watched: set[bytes] = set()
        self.queued: list[Command] | None = None
        self.touched = self.refused = False

    def reset(self) -> None:
        self.watched, self.queued, self.touched, self.refused = set(), None, False, False


class ModelServer:
    """One server. A script or a transaction is one step, as on the real one.

    Args:
        clock: milliseconds.
        identity: its `master_replid`.
        host: runs its scripts.
        on_write: is told of each command that wrote, before the next one runs.

    Attributes:
        primary: a replica answers writes with READONLY.
        full: at maxmemory.
        busy: what every command is answered with, "" for none: somebody's script takes long.
        evicts: whether its policy permits that; it has never reason to.
        refuses_writes: what a step is answered with at its first write, "" for none: no replicas, or a full disk.
        log: every write with its time, as a replica or an append-only file would get it.
        boundaries: lengths of the log between steps: a script or a transaction is replicated and logged whole.
    """

    def __init__(
        self,
        clock: Callable[[], int],
        identity: str,
        host: ScriptHost,
        *,
        on_write: Callable[[Command], None] = lambda _: None,
    ) -> None:
        self.clock = clock
        self.identity = identity
        self.on_write = on_write
        self.primary = True
        self.full = False
        self.evicts = False
        self.busy = ""
        self.refuses_writes = ""
        self.info: dict[str, str] = {}
        self.log: list[tuple[int, Command]] = []
        self.boundaries = [0]
        self.data: dict[bytes, Any] = {}
        self.waiting: list[tuple[list[bytes], Callable[[Any], bool]]] = []
        self._expires: dict[bytes, int] = {}
        self._watchers: dict[bytes, set[Client]] = {}
        self._host = host
        self._replaying: int | None = None

    # Steps

    def script(self, source: str, keys: Sequence[bytes], args: Sequence[bytes]) -> Any:
        """Runs a script."""
        wrote = False
        self._accept()

        def call(command: list[bytes]) -> Any:
            nonlocal wrote
            name = command[0].upper()
            if name in WRITES and self.primary:
                if not wrote:
                    self._accept(name)
                wrote = True
            return self._run(command)

        try:
            return self._host.run(source, keys, args, call)
        finally:
            self._end_step()

    def command(self, command: Command, client: Client | None = None) -> Any:
        """Runs one command of a client."""
        name = command[0].upper()
        if client is not None:
            if name in _TRANSACTIONS:
                return self._transaction(name, command, client)
            if client.queued is not None:
                try:
                    self._accept(name)
                except ServerError:
                    client.refused = True
                    raise
                client.queued.append(command)
                return b"QUEUED"
        self._accept()
        self._accept(name)
        try:
            return self._run(command)
        finally:
            self._end_step()

    def _transaction(self, name: bytes, command: Command, client: Client) -> Any:
        """These are taken also while the server is busy, but for EXEC."""
        if name == b"EXEC":
            return self._exec(client)
        if name == b"MULTI":
            client.queued = []
        elif name == b"UNWATCH":
            self.forget(client)
        else:
            for key in command[1:]:
                client.watched.add(key)
                self._watchers.setdefault(key, set()).add(client)
        return b"OK"

    def forget(self, client: Client) -> None:
        """A connection was closed, or watches no more."""
        for key in client.watched:
            self._watchers.get(key, set()).discard(client)
        client.reset()

    def successor(self, length: int, identity: str) -> "ModelServer":
        """A server with the first `length` writes of this one: a promoted replica, or this one after a restart."""
        other = ModelServer(self.clock, identity, self._host)
        other.info = dict(self.info)
        for at, command in self.log[:length]:
            other._replaying = at
            other._run(command)
        other._replaying = None
        other.log = self.log[:length]
        other.boundaries = [each for each in self.boundaries if each <= length]
        other.on_write = self.on_write
        return other

    def _exec(self, client: Client) -> Any:
        queued, touched, refused = client.queued or [], client.touched, client.refused
        self.forget(client)
        if self.busy:
            raise ServerError(f"EXECABORT Transaction discarded because of: {self.busy}")
        if refused:
            raise ServerError("EXECABORT Transaction discarded because of previous errors.")
        if touched:
            return None
        for command in queued:
            self._accept(command[0].upper())
        try:
            return [self._run(command) for command in queued]
        finally:
            self._end_step()

    def _accept(self, name: bytes = b"") -> None:
        """Refuses a command before it has any effect; a server does that at a step's first write at the latest."""
        if self.busy:
            raise ServerError(self.busy)
        if self.refuses_writes and name in WRITES:
            raise ServerError(self.refuses_writes)
        if self.full and name in DENIED_AT_MAXMEMORY:
            raise ServerError("OOM command not allowed when used memory > 'maxmemory'.")

    def _end_step(self) -> None:
        if len(self.log) > self.boundaries[-1]:
            self.boundaries.append(len(self.log))

    def _run(self, command: Command) -> Any:
        name = command[0].upper()
        function = COMMANDS.get(name)
        if function is None:
            raise ServerError(f"ERR unknown command '{name.decode('utf-8', 'replace')}'")
        if name not in WRITES:
            return function(self, command)
        if not self.primary:
            raise ServerError("READONLY You can't write against a read only replica.")
        reply = function(self, command)
        if self._replaying is None:
            self.log.append((self.now(), command))
        for key in keys_of(name, command):
            for client in self._watchers.get(key, ()):
                client.touched = True
        self.on_write(command)
        return reply

    # Keys

    def now(self) -> int:
        return self.clock() if self._replaying is None else self._replaying

    def value(self, key: bytes, kind: type) -> Any:
        """The value of a key, None for its absence."""
        expires = self._expires.get(key)
        if expires is not None and expires <= self.now():
            self.drop(key)
        value = self.data.get(key)
        if value is not None and type(value) is not kind:
            raise WrongType
        return value

    def make(self, key: bytes, kind: type) -> Any:
        """The value of a key, made if it is absent."""
        value = self.value(key, kind)
        if value is None:
            value = self.data[key] = kind()
        return value

    def drop(self, key: bytes) -> bool:
        self._expires.pop(key, None)
        return self.data.pop(key, None) is not None

    def tidy(self, key: bytes) -> None:
        """An empty collection is no key."""
        if not self.data.get(key, True):
            self.drop(key)

    def expire(self, key: bytes, ms: int) -> None:
        self._expires[key] = self.now() + ms

    def expires(self, key: bytes) -> bool:
        return key in self._expires

    def time_to_live(self, key: bytes) -> int:
        return self._expires[key] - self.now()

    def exists(self, key: bytes) -> bool:
        if key in self.data:
            self.value(key, type(self.data[key]))
        return key in self.data

    def serve_waiting(self, key: bytes) -> None:
        """Hands what was pushed to whoever blocks on the list."""
        for entry in list(self.waiting):
            keys, deliver = entry
            if key in keys and (items := self.data.get(key)):
                self.waiting.remove(entry)
                if deliver([key, items[-1]]):
                    self._run((b"RPOP", key))
