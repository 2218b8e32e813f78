"""Points of a workload: every command by its name and occurrence, and what may befall it there."""

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Final, Literal, NamedTuple, get_args

from asyncwb.protocol import scripts
from asyncwb.redis.script import Script

Kind = Literal[
    "drop request",
    "drop reply",
    "cut",
    "delay request",
    "delay request to the end",
    "delay reply",
    "cancel before",
    "cancel after",
    "stop before",
    "stop after",
]
"""What befalls a command.

drop request: its connection is cut, and the server never sees it.
drop reply: the server has executed it, and its connection is cut.
cut: the server has executed it, and all connections are cut.
delay request: it is held, and delivered after the client has given up, tried again and been answered.
delay request to the end: it is held, and delivered when the buffer is closed and its successor has written already.
delay reply: the server has executed it, and the client has given up when the reply comes.
cancel before, cancel after: the caller is cancelled before the server sees the command, or before its reply comes.
stop before, stop after: so is all of the buffer, flushers included: it is closed without a drain.
"""

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

NEEDS_REPLY: Final[frozenset[Kind]] = frozenset({"drop reply", "cut", "delay reply", "cancel after", "stop after"})
"""Kinds that a command without a reply can't suffer: a BLPOP that waits when its buffer is closed."""

Mode = Literal["once", "from then on"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)


def modes_of(kind: Kind) -> tuple[Mode, ...]:
    """A buffer stops once."""
    return ("once",) if kind.startswith("stop") else MODES


class Point(NamedTuple):
    """The nth command of a name, from 1."""

    name: str
    nth: int

    def __str__(self) -> str:
        return f"{self.name}#{self.nth}"

    @classmethod
    def parse(cls, text: str) -> "Point":
        """What `str` gave."""
        name, _, nth = text.rpartition("#")
        return cls(name, int(nth))


_SCRIPTS: Final = {script.sha.encode(): script.name for script in vars(scripts).values() if isinstance(script, Script)}


@cache
def _name_of_source(source: bytes) -> str:
    sha = hashlib.sha1(source, usedforsecurity=False).hexdigest().encode()
    return f"EVAL {_SCRIPTS.get(sha, '?')}"


def name_of(command: Sequence[bytes]) -> str:
    """`put` for the script, `EVAL put` where its source is sent, `CLIENT SETINFO`, `WATCH` and so on for commands."""
    word = command[0].upper()
    if word == b"EVALSHA":
        return _SCRIPTS.get(command[1], "?")
    if word == b"EVAL":
        return _name_of_source(command[1])
    if word in (b"CLIENT", b"CONFIG"):
        return (word + b" " + command[1].upper()).decode()
    return word.decode()


def arguments_of(command: Sequence[bytes]) -> Sequence[bytes]:
    """ARGV of a script, from ARGV[1]."""
    return command[3 + int(command[2]) :]
