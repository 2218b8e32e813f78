"""The commands of Redis that asyncwb uses, over a model of its data."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tests.proofs.simulation.server import ModelServer

Command = Sequence[bytes]


class ServerError(Exception):
    """What a server answers instead of a reply."""


class WrongType(ServerError):
    def __init__(self) -> None:
        super().__init__("WRONGTYPE Operation against a key holding the wrong kind of value")


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


def _time(server: "ModelServer", _: Command) -> list[bytes]:
    seconds, ms = divmod(server.now(), 1000)
    return [b"%d" % seconds, b"%d" % (ms * 1000)]


def _info(server: "ModelServer", _: Command) -> bytes:
    role = "master" if server.primary else "slave"
    fields = {"role": role, "master_replid": server.identity, **server.info}
    fields["maxmemory_policy"] = "allkeys-lru" if server.evicts else "noeviction"
    return "\r\n".join(f"{name}:{value}" for name, value in fields.items()).encode()


def _config(server: "ModelServer", command: Command) -> Any:
    if command[1].upper() == b"GET":
        return [command[2], server.info.get(command[2].decode(), "").encode()]
    if command[2] == b"maxmemory":
        server.full = command[3] != b"0"
    return b"OK"


def _ping(server: "ModelServer", _: Command) -> bytes:
    return b"PONG"


def _get(server: "ModelServer", command: Command) -> Any:
    return server.value(command[1], bytes)


def _mget(server: "ModelServer", command: Command) -> list[bytes | None]:
    found = []
    for key in command[1:]:
        try:
            found.append(server.value(key, bytes))
        except WrongType:
            found.append(None)
    return found


def _set(server: "ModelServer", command: Command) -> Any:
    key, options = command[1], [option.upper() for option in command[3:]]
    if b"NX" in options and server.exists(key):
        return None
    if b"KEEPTTL" not in options:
        server.drop(key)
    server.data[key] = command[2]
    if b"PX" in options:
        server.expire(key, int(options[options.index(b"PX") + 1]))
    return b"OK"


def _mset(server: "ModelServer", command: Command) -> bytes:
    for key, value in zip(command[1::2], command[2::2], strict=True):
        server.drop(key)
        server.data[key] = value
    return b"OK"


def _del(server: "ModelServer", command: Command) -> int:
    return sum(server.exists(key) and server.drop(key) for key in command[1:])


def _exists(server: "ModelServer", command: Command) -> int:
    return sum(map(server.exists, command[1:]))


def _strlen(server: "ModelServer", command: Command) -> int:
    return len(server.value(command[1], bytes) or b"")


def _getrange(server: "ModelServer", command: Command) -> bytes:
    value: bytes = server.value(command[1], bytes) or b""
    return value[int(command[2]) : int(command[3]) + 1]


def _setrange(server: "ModelServer", command: Command) -> int:
    key, at, part = command[1], int(command[2]), command[3]
    value: bytes = server.value(key, bytes) or b""
    server.data[key] = value[:at].ljust(at, b"\0") + part + value[at + len(part) :]
    return len(server.data[key])


def _append(server: "ModelServer", command: Command) -> int:
    value: bytes = server.value(command[1], bytes) or b""
    server.data[command[1]] = value + command[2]
    return len(server.data[command[1]])


def _pexpire(server: "ModelServer", command: Command) -> int:
    if not server.exists(command[1]):
        return 0
    server.expire(command[1], int(command[2]))
    return 1


def _pttl(server: "ModelServer", command: Command) -> int:
    return server.time_to_live(command[1]) if server.exists(command[1]) else -2


def _zadd(server: "ModelServer", command: Command) -> int:
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


def _zrem(server: "ModelServer", command: Command) -> int:
    zset = server.value(command[1], ZSet) or {}
    removed = sum(zset.pop(member, None) is not None for member in command[2:])
    server.tidy(command[1])
    return removed


def _zremrangebyrank(server: "ModelServer", command: Command) -> int:
    first, last = int(command[2]), int(command[3])
    assert 0 <= first <= last, "no others are modelled"
    members = [member for member, _ in (server.value(command[1], ZSet) or ZSet()).ordered()][first : last + 1]
    return _zrem(server, [b"ZREM", command[1], *members])


def _zremrangebyscore(server: "ModelServer", command: Command) -> int:
    return _zrem(server, [b"ZREM", command[1], *_zrangebyscore(server, command)])


def _zcount(server: "ModelServer", command: Command) -> int:
    return len(_zrangebyscore(server, command))


def _zcard(server: "ModelServer", command: Command) -> int:
    return len(server.value(command[1], ZSet) or ())


def _zscore(server: "ModelServer", command: Command) -> bytes | None:
    return _zmscore(server, command)[0]


def _zmscore(server: "ModelServer", command: Command) -> list[bytes | None]:
    zset: dict[bytes, float] = server.value(command[1], ZSet) or {}
    return [None if (score := zset.get(member)) is None else _text(score) for member in command[2:]]


def _zrange(server: "ModelServer", command: Command) -> list[bytes]:
    zset = server.value(command[1], ZSet) or ZSet()
    pairs, stop = zset.ordered(), int(command[3])
    pairs = pairs[int(command[2]) : None if stop == -1 else stop + 1]
    if command[-1].upper() == b"WITHSCORES":
        return [part for member, score in pairs for part in (member, _text(score))]
    return [member for member, _ in pairs]


def _zrangebyscore(server: "ModelServer", command: Command) -> list[bytes]:
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


def _hset(server: "ModelServer", command: Command) -> int:
    fields = server.make(command[1], dict)
    before = len(fields)
    fields.update(zip(command[2::2], command[3::2], strict=True))
    return len(fields) - before


def _hget(server: "ModelServer", command: Command) -> Any:
    return (server.value(command[1], dict) or {}).get(command[2])


def _hmget(server: "ModelServer", command: Command) -> list[bytes | None]:
    fields = server.value(command[1], dict) or {}
    return [fields.get(field) for field in command[2:]]


def _hgetall(server: "ModelServer", command: Command) -> list[bytes]:
    return [part for pair in (server.value(command[1], dict) or {}).items() for part in pair]


def _hscan(server: "ModelServer", command: Command) -> list[Any]:
    return [b"0", _hgetall(server, command)]


def _hdel(server: "ModelServer", command: Command) -> int:
    fields = server.value(command[1], dict) or {}
    removed = sum(fields.pop(field, None) is not None for field in command[2:])
    server.tidy(command[1])
    return removed


def _hlen(server: "ModelServer", command: Command) -> int:
    return len(server.value(command[1], dict) or ())


def _hexists(server: "ModelServer", command: Command) -> int:
    return int(command[2] in (server.value(command[1], dict) or {}))


def _hincrby(server: "ModelServer", command: Command) -> int:
    fields = server.make(command[1], dict)
    number = int(fields.get(command[2], b"0")) + int(command[3])
    fields[command[2]] = b"%d" % number
    return number


def _lpush(server: "ModelServer", command: Command) -> int:
    items = server.make(command[1], deque)
    items.extendleft(command[2:])
    length = len(items)
    server.serve_waiting(command[1])
    return length


def _rpop(server: "ModelServer", command: Command) -> bytes | None:
    items = server.value(command[1], deque)
    item: bytes | None = items.pop() if items else None
    server.tidy(command[1])
    return item


def _llen(server: "ModelServer", command: Command) -> int:
    return len(server.value(command[1], deque) or ())


def _sadd(server: "ModelServer", command: Command) -> int:
    members = server.make(command[1], set)
    before = len(members)
    members.update(command[2:])
    return len(members) - before


def _srem(server: "ModelServer", command: Command) -> int:
    members = server.value(command[1], set) or set()
    before = len(members)
    members.difference_update(command[2:])
    removed = before - len(members)
    server.tidy(command[1])
    return removed


def _scard(server: "ModelServer", command: Command) -> int:
    return len(server.value(command[1], set) or ())


def _smismember(server: "ModelServer", command: Command) -> list[int]:
    members = server.value(command[1], set) or set()
    return [int(member in members) for member in command[2:]]


def _scan(server: "ModelServer", command: Command) -> list[Any]:
    prefix = command[command.index(b"MATCH") + 1].removesuffix(b"*")
    return [b"0", [key for key in list(server.data) if key.startswith(prefix)]]


def _keys(server: "ModelServer", command: Command) -> list[bytes]:
    return [key for key in list(server.data) if server.exists(key)]


COMMANDS: "Final[dict[bytes, Callable[[ModelServer, Command], Any]]]" = {
    b"CONFIG": _config, b"DEL": _del, b"EXISTS": _exists, b"GET": _get, b"GETRANGE": _getrange, b"HDEL": _hdel,
    b"HEXISTS": _hexists, b"HGET": _hget, b"HGETALL": _hgetall, b"HINCRBY": _hincrby, b"HLEN": _hlen, b"HMGET": _hmget,
    b"HSCAN": _hscan, b"HSET": _hset, b"INFO": _info, b"KEYS": _keys, b"LLEN": _llen, b"LPUSH": _lpush, b"MGET": _mget,
    b"MSET": _mset, b"PEXPIRE": _pexpire, b"PING": _ping, b"PTTL": _pttl, b"RPOP": _rpop, b"SCAN": _scan, b"SET": _set,
    b"APPEND": _append, b"SADD": _sadd, b"SCARD": _scard, b"SETRANGE": _setrange, b"SMISMEMBER": _smismember,
    b"SREM": _srem, b"STRLEN": _strlen, b"TIME": _time, b"ZADD": _zadd, b"ZCARD": _zcard, b"ZMSCORE": _zmscore,
    b"ZRANGE": _zrange, b"ZCOUNT": _zcount, b"ZRANGEBYSCORE": _zrangebyscore, b"ZREM": _zrem,
    b"ZREMRANGEBYRANK": _zremrangebyrank, b"ZREMRANGEBYSCORE": _zremrangebyscore, b"ZSCORE": _zscore,
}  # fmt: skip

DENIED_AT_MAXMEMORY: Final = frozenset(
    {b"HINCRBY", b"HSET", b"LPUSH", b"MSET", b"SADD", b"SET", b"ZADD", b"APPEND", b"SETRANGE"}
)
WRITES: Final = DENIED_AT_MAXMEMORY | {
    b"DEL", b"HDEL", b"PEXPIRE", b"RPOP", b"SREM", b"ZREM", b"ZREMRANGEBYRANK", b"ZREMRANGEBYSCORE",
}  # fmt: skip


def keys_of(name: bytes, command: Command) -> Sequence[bytes]:
    """The keys that a command writes."""
    if name == b"MSET":
        return command[1::2]
    return command[1:] if name == b"DEL" else command[1:2]
