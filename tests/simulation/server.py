"""A model of a Redis server in memory: the commands that asyncwb uses, their rules at maxmemory, and its history."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from simulation.lua import ScriptHost

Command = Sequence[bytes]


class ServerError(Exception):
    """What a server answers instead of a reply."""


class WrongType(ServerError):
    def __init__(self) -> None:
        super().__init__("WRONGTYPE Operation against a key holding the wrong kind of value")


class Client:
    """A connection: what it watches, and what it has queued in MULTI."""

    def __init__(self) -> None:
        self.watched: set[bytes] = set()
        self.queued: list[Command] | None = None
        self.touched = False

    def reset(self) -> None:
        self.watched, self.queued, self.touched = set(), None, False


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

        def call(command: list[bytes]) -> Any:
            nonlocal wrote
            name = command[0].upper()
            if name in _WRITES and self.primary:
                if self.full and not wrote and name in _DENIED_AT_MAXMEMORY:
                    raise ServerError("OOM command not allowed when used memory > 'maxmemory'.")
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
            if name == b"MULTI":
                client.queued = []
                return b"OK"
            if name == b"EXEC":
                return self._exec(client)
            if client.queued is not None:
                client.queued.append(command)
                return b"QUEUED"
            if name == b"WATCH":
                for key in command[1:]:
                    client.watched.add(key)
                    self._watchers.setdefault(key, set()).add(client)
                return b"OK"
            if name == b"UNWATCH":
                self.forget(client)
                return b"OK"
        if self.full and name in _DENIED_AT_MAXMEMORY:
            raise ServerError("OOM command not allowed when used memory > 'maxmemory'.")
        try:
            return self._run(command)
        finally:
            self._end_step()

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
        queued, touched = client.queued or [], client.touched
        self.forget(client)
        if touched:
            return None
        if self.full and any(command[0].upper() in _DENIED_AT_MAXMEMORY for command in queued):
            raise ServerError("OOM command not allowed when used memory > 'maxmemory'.")
        try:
            return [self._run(command) for command in queued]
        finally:
            self._end_step()

    def _end_step(self) -> None:
        if len(self.log) > self.boundaries[-1]:
            self.boundaries.append(len(self.log))

    def _run(self, command: Command) -> Any:
        name = command[0].upper()
        function = _COMMANDS.get(name)
        if function is None:
            raise ServerError(f"ERR unknown command '{name.decode('utf-8', 'replace')}'")
        if name not in _WRITES:
            return function(self, command)
        if not self.primary:
            raise ServerError("READONLY You can't write against a read only replica.")
        reply = function(self, command)
        if self._replaying is None:
            self.log.append((self.now(), command))
        for key in _keys_of(name, command):
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


class ZSet(dict[bytes, float]):
    """Member to score."""

    def ordered(self) -> list[tuple[bytes, float]]:
        return sorted(self.items(), key=lambda pair: (pair[1], pair[0]))


def _text(score: float) -> bytes:
    return b"%d" % score if score.is_integer() else repr(score).encode()


def _limit(text: bytes) -> tuple[float, bool]:
    """A bound of ZRANGEBYSCORE, and whether it is exclusive."""
    exclusive = text.startswith(b"(")
    return float(text[1:] if exclusive else text), exclusive


def _time(server: ModelServer, _: Command) -> list[bytes]:
    seconds, ms = divmod(server.now(), 1000)
    return [b"%d" % seconds, b"%d" % (ms * 1000)]


def _info(server: ModelServer, _: Command) -> bytes:
    role = "master" if server.primary else "slave"
    fields = {"role": role, "master_replid": server.identity, "maxmemory_policy": "noeviction", **server.info}
    return "\r\n".join(f"{name}:{value}" for name, value in fields.items()).encode()


def _config(server: ModelServer, command: Command) -> Any:
    if command[1].upper() == b"GET":
        return [command[2], server.info.get(command[2].decode(), "").encode()]
    if command[2] == b"maxmemory":
        server.full = command[3] != b"0"
    return b"OK"


def _ping(server: ModelServer, _: Command) -> bytes:
    return b"PONG"


def _get(server: ModelServer, command: Command) -> Any:
    return server.value(command[1], bytes)


def _mget(server: ModelServer, command: Command) -> list[bytes | None]:
    found = []
    for key in command[1:]:
        try:
            found.append(server.value(key, bytes))
        except WrongType:
            found.append(None)
    return found


def _set(server: ModelServer, command: Command) -> Any:
    key, options = command[1], [option.upper() for option in command[3:]]
    if b"NX" in options and server.exists(key):
        return None
    server.drop(key)
    server.data[key] = command[2]
    if b"PX" in options:
        server.expire(key, int(options[options.index(b"PX") + 1]))
    return b"OK"


def _mset(server: ModelServer, command: Command) -> bytes:
    for key, value in zip(command[1::2], command[2::2], strict=True):
        server.drop(key)
        server.data[key] = value
    return b"OK"


def _del(server: ModelServer, command: Command) -> int:
    return sum(server.exists(key) and server.drop(key) for key in command[1:])


def _exists(server: ModelServer, command: Command) -> int:
    return sum(map(server.exists, command[1:]))


def _strlen(server: ModelServer, command: Command) -> int:
    return len(server.value(command[1], bytes) or b"")


def _getrange(server: ModelServer, command: Command) -> bytes:
    value: bytes = server.value(command[1], bytes) or b""
    return value[int(command[2]) : int(command[3]) + 1]


def _pexpire(server: ModelServer, command: Command) -> int:
    if not server.exists(command[1]):
        return 0
    server.expire(command[1], int(command[2]))
    return 1


def _pttl(server: ModelServer, command: Command) -> int:
    return server._expires[command[1]] - server.now() if server.exists(command[1]) else -2


def _zadd(server: ModelServer, command: Command) -> int:
    zset, at, options = server.make(command[1], ZSet), 2, set()
    while command[at].upper() in (b"NX", b"XX", b"LT", b"GT", b"CH"):
        options.add(command[at].upper())
        at += 1
    added = changed = 0
    for score_text, member in zip(command[at::2], command[at + 1 :: 2], strict=True):
        score, old = float(score_text), zset.get(member)
        if old is None:
            if b"XX" in options:
                continue
            zset[member] = score
            added += 1
        elif b"NX" not in options and not (b"LT" in options and score >= old) and score != old:
            zset[member] = score
            changed += 1
    server.tidy(command[1])
    return added + changed if b"CH" in options else added


def _zrem(server: ModelServer, command: Command) -> int:
    zset = server.value(command[1], ZSet) or {}
    removed = sum(zset.pop(member, None) is not None for member in command[2:])
    server.tidy(command[1])
    return removed


def _zcard(server: ModelServer, command: Command) -> int:
    return len(server.value(command[1], ZSet) or ())


def _zscore(server: ModelServer, command: Command) -> bytes | None:
    return _zmscore(server, command)[0]


def _zmscore(server: ModelServer, command: Command) -> list[bytes | None]:
    zset: dict[bytes, float] = server.value(command[1], ZSet) or {}
    return [None if (score := zset.get(member)) is None else _text(score) for member in command[2:]]


def _zrange(server: ModelServer, command: Command) -> list[bytes]:
    zset = server.value(command[1], ZSet) or ZSet()
    pairs, stop = zset.ordered(), int(command[3])
    pairs = pairs[int(command[2]) : None if stop == -1 else stop + 1]
    if command[-1].upper() == b"WITHSCORES":
        return [part for member, score in pairs for part in (member, _text(score))]
    return [member for member, _ in pairs]


def _zrangebyscore(server: ModelServer, command: Command) -> list[bytes]:
    zset = server.value(command[1], ZSet) or ZSet()
    (low, low_out), (high, high_out) = _limit(command[2]), _limit(command[3])
    found = [
        member
        for member, score in zset.ordered()
        if (score > low or (score == low and not low_out)) and (score < high or (score == high and not high_out))
    ]
    if len(command) > 4:
        offset, count = int(command[5]), int(command[6])
        return found[offset : offset + count]
    return found


def _hset(server: ModelServer, command: Command) -> int:
    fields = server.make(command[1], dict)
    before = len(fields)
    fields.update(zip(command[2::2], command[3::2], strict=True))
    return len(fields) - before


def _hget(server: ModelServer, command: Command) -> Any:
    return (server.value(command[1], dict) or {}).get(command[2])


def _hmget(server: ModelServer, command: Command) -> list[bytes | None]:
    fields = server.value(command[1], dict) or {}
    return [fields.get(field) for field in command[2:]]


def _hgetall(server: ModelServer, command: Command) -> list[bytes]:
    return [part for pair in (server.value(command[1], dict) or {}).items() for part in pair]


def _hscan(server: ModelServer, command: Command) -> list[Any]:
    return [b"0", _hgetall(server, command)]


def _hdel(server: ModelServer, command: Command) -> int:
    fields = server.value(command[1], dict) or {}
    removed = sum(fields.pop(field, None) is not None for field in command[2:])
    server.tidy(command[1])
    return removed


def _hlen(server: ModelServer, command: Command) -> int:
    return len(server.value(command[1], dict) or ())


def _hexists(server: ModelServer, command: Command) -> int:
    return int(command[2] in (server.value(command[1], dict) or {}))


def _hincrby(server: ModelServer, command: Command) -> int:
    fields = server.make(command[1], dict)
    number = int(fields.get(command[2], b"0")) + int(command[3])
    fields[command[2]] = b"%d" % number
    return number


def _lpush(server: ModelServer, command: Command) -> int:
    items = server.make(command[1], deque)
    items.extendleft(command[2:])
    length = len(items)
    server.serve_waiting(command[1])
    return length


def _rpop(server: ModelServer, command: Command) -> bytes | None:
    items = server.value(command[1], deque)
    item: bytes | None = items.pop() if items else None
    server.tidy(command[1])
    return item


def _llen(server: ModelServer, command: Command) -> int:
    return len(server.value(command[1], deque) or ())


def _scan(server: ModelServer, command: Command) -> list[Any]:
    prefix = command[command.index(b"MATCH") + 1].removesuffix(b"*")
    return [b"0", [key for key in list(server.data) if key.startswith(prefix)]]


def _keys(server: ModelServer, command: Command) -> list[bytes]:
    return [key for key in list(server.data) if server.exists(key)]


_COMMANDS: dict[bytes, Callable[[ModelServer, Command], Any]] = {
    b"CONFIG": _config, b"DEL": _del, b"EXISTS": _exists, b"GET": _get, b"GETRANGE": _getrange, b"HDEL": _hdel,
    b"HEXISTS": _hexists, b"HGET": _hget, b"HGETALL": _hgetall, b"HINCRBY": _hincrby, b"HLEN": _hlen, b"HMGET": _hmget,
    b"HSCAN": _hscan, b"HSET": _hset, b"INFO": _info, b"KEYS": _keys, b"LLEN": _llen, b"LPUSH": _lpush, b"MGET": _mget,
    b"MSET": _mset, b"PEXPIRE": _pexpire, b"PING": _ping, b"PTTL": _pttl, b"RPOP": _rpop, b"SCAN": _scan, b"SET": _set,
    b"STRLEN": _strlen, b"TIME": _time, b"ZADD": _zadd, b"ZCARD": _zcard, b"ZMSCORE": _zmscore, b"ZRANGE": _zrange,
    b"ZRANGEBYSCORE": _zrangebyscore, b"ZREM": _zrem, b"ZSCORE": _zscore,
}  # fmt: skip

_DENIED_AT_MAXMEMORY = frozenset({b"HINCRBY", b"HSET", b"LPUSH", b"MSET", b"SET", b"ZADD"})
_WRITES = _DENIED_AT_MAXMEMORY | {b"DEL", b"HDEL", b"PEXPIRE", b"RPOP", b"ZREM"}


def _keys_of(name: bytes, command: Command) -> Sequence[bytes]:
    if name == b"MSET":
        return command[1::2]
    return command[1:] if name == b"DEL" else command[1:2]
