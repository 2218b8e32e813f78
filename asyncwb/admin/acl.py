"""The minimal permissions that a user of the server needs: the list of commands behind `asyncwb doctor --acl`."""

from typing import Final

from asyncwb.protocol.keys import patterns_of

# The server also checks commands inside scripts. One test compares this list with the sources, and another removes each
# command in turn.
SERVICES: Final = (
    "append", "blpop", "del", "eval", "evalsha", "exec", "exists", "get", "getrange", "hdel", "hexists", "hget",
    "hgetall", "hincrby", "hlen", "hmget", "hscan", "hset", "info", "llen", "lpush", "mget", "mset", "multi",
    "pexpire", "sadd", "scard", "set", "setrange", "smismember", "srem", "strlen", "time", "unwatch", "watch", "zadd",
    "zcard", "zcount", "zmscore", "zrange", "zrangebyscore", "zrem", "zremrangebyrank", "zremrangebyscore", "zscore",
)  # fmt: skip
"""The commands that services and workers call."""

OPERATORS: Final = tuple(sorted((*SERVICES, "scan", "type")))
"""The commands that operators' tools call: those of services and a few more. SCAN reveals the names of all keys."""

BESIDES: Final = {
    "a database other than 0": "select",
    'durability="fsync"': "waitaof",
    'durability="fsync" before Redis 7.2': "config|get",
    'durability="replicated"': "wait",
}
"""Setting -> the command that only it needs; not every server has all of these commands."""


def rule(namespace: str, commands: tuple[str, ...]) -> list[str]:
    """Returns the arguments of ACL SETUSER that permit these commands, on the keys of one namespace only."""
    keys = (f"~{pattern}" for pattern in patterns_of(namespace))
    return ["resetchannels", *keys, *(f"+{command}" for command in commands)]
