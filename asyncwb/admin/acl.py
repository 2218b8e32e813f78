"""The least that a user of the server has to be permitted: the only list of commands, for `asyncwb doctor --acl`."""

from typing import Final

from asyncwb.protocol.keys import pattern_of

# The commands inside scripts are checked as well. A test compares this with the sources, and one takes each away.
SERVICES: Final = (
    "blpop", "del", "eval", "evalsha", "exec", "exists", "get", "getrange", "hdel", "hexists", "hgetall",
    "hincrby", "hlen", "hmget", "hscan", "hset", "info", "llen", "lpush", "mget", "mset", "multi", "pexpire", "set",
    "strlen", "time", "unwatch", "watch", "zadd", "zcard", "zcount", "zmscore", "zrange", "zrangebyscore", "zrem",
    "zremrangebyrank", "zremrangebyscore",
)  # fmt: skip
"""What services and workers call."""

OPERATORS: Final = tuple(sorted((*SERVICES, "hget", "scan", "type", "zscore")))
"""What operators' commands call besides; SCAN shows the names of everybody's keys."""

BESIDES: Final = {
    "a database other than 0": "select",
    'durability="fsync"': "waitaof",
    'durability="fsync" before Redis 7.2': "config|get",
    'durability="replicated"': "wait",
}
"""What only some settings need, and not every server knows."""


def rule(namespace: str, commands: tuple[str, ...]) -> list[str]:
    """The words of ACL SETUSER that permit these commands on the keys of one namespace, and nothing else."""
    return ["resetchannels", f"~{pattern_of(namespace)}", *(f"+{command}" for command in commands)]
