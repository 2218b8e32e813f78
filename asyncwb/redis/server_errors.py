"""What each error of a server means: whether the command was executed, and what has to happen next. The only table."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from asyncwb.errors import RedisError, RedisOutOfMemory, RedisRefused, RedisUnavailable


class Meaning(Enum):
    """What follows from an error.

    All but `FAILED` and `FORBIDDEN` say that nothing was executed. That holds for scripts as well: the server checks
    its own state (a replica, memory, disk, replicas) at a script's first write and never after it, and SCRIPT KILL ends
    only scripts that have not written.
    """

    WAIT = auto()
    """Not executed. It passes, or somebody ends it; the connection is fine, and the same server will answer again."""
    ELSEWHERE = auto()
    """Not executed. Another server may be the primary by now: connect anew."""
    FULL = auto()
    """Not executed: the server is at maxmemory."""
    UNKNOWN_SCRIPT = auto()
    """Not executed: the script has to be sent whole."""
    CREDENTIALS = auto()
    """Not executed: a person has to correct the URL or the server's users."""
    FORBIDDEN = auto()
    """A person has to permit it to this user. A script may have been executed in part, up to what it may not do."""
    FAILED = auto()
    """A script may have been executed in part; trying again does not help."""


@dataclass(frozen=True, slots=True)
class ServerError:
    """One row: what an error means, and what to say after the server's name, with what to do."""

    meaning: Meaning
    says: str


_NOT_OURS: Final = ServerError(Meaning.FAILED, "answered with an error")
"""In answer to commands that asyncwb never sends."""
_CLUSTER: Final = ServerError(Meaning.ELSEWHERE, "is a cluster node, and clusters aren't supported yet")
_LACKS_COMMAND: Final = ServerError(
    Meaning.FAILED, "lacks a command, or has it renamed: asyncwb needs Redis 6.2 or newer, or Valkey"
)
_WRONG_PASSWORD: Final = ServerError(Meaning.CREDENTIALS, "refused the credentials")
_NOT_PERMITTED: Final = ServerError(
    Meaning.FORBIDDEN,
    "doesn't permit {what} to this user: `asyncwb doctor --acl` prints the rule that it needs",
)

# Every code in the sources of Redis 6.2, 7 and 8 and of Valkey, their Sentinels included.
CODES: Final[Mapping[str, ServerError]] = {
    "ASK": _CLUSTER,
    "BUSY": ServerError(
        Meaning.WAIT, "is busy with a script that takes long (SCRIPT KILL or FUNCTION KILL on the server ends it)"
    ),
    "BUSYGROUP": _NOT_OURS,
    "BUSYKEY": _NOT_OURS,
    "CLUSTERDOWN": _CLUSTER,
    "CROSSSLOT": _CLUSTER,
    "DENIED": ServerError(
        Meaning.CREDENTIALS,
        "is in protected mode and takes connections from its own machine only: give it a password or ACL users",
    ),
    # What it was for stands in the replies before it, or behind it: see `_BARE`.
    "EXECABORT": ServerError(Meaning.WAIT, "discarded a transaction"),
    "INPROG": _NOT_OURS,
    "INVALIDOBJ": _NOT_OURS,
    "IOERR": _NOT_OURS,
    "LOADING": ServerError(Meaning.ELSEWHERE, "is loading its data"),
    "MASTERDOWN": ServerError(Meaning.ELSEWHERE, "is a replica without its primary"),
    "MISCONF": ServerError(
        Meaning.WAIT, "takes no writes, since it can't save to its disk: its log says why; free space or mend the disk"
    ),
    "MOVED": _CLUSTER,
    "NOAUTH": _WRONG_PASSWORD,
    "NOGOODSLAVE": _NOT_OURS,
    "NOGROUP": _NOT_OURS,
    "NOMASTERLINK": _NOT_OURS,
    "NOPERM": _NOT_PERMITTED,
    "NOPROTO": _NOT_OURS,
    "NOQUORUM": _NOT_OURS,
    "NOREPLICAS": ServerError(
        Meaning.WAIT, "takes no writes, since fewer replicas than min-replicas-to-write are connected and up to date"
    ),
    "NOSCRIPT": ServerError(Meaning.UNKNOWN_SCRIPT, "doesn't know a script"),
    "NOSUB": _NOT_OURS,
    "NOTBUSY": _NOT_OURS,
    "OOM": ServerError(Meaning.FULL, "is at maxmemory and takes no new writes; it has to be drained first"),
    "READONLY": ServerError(Meaning.ELSEWHERE, "is a replica now"),
    "REDIRECT": ServerError(Meaning.ELSEWHERE, "hands over to another server"),
    "TRYAGAIN": _CLUSTER,
    "UNBLOCKED": ServerError(Meaning.ELSEWHERE, "ended a wait, perhaps because it is a replica now"),
    "UNKILLABLE": _NOT_OURS,
    "WRONGPASS": _WRONG_PASSWORD,
    "WRONGTYPE": ServerError(
        Meaning.FAILED, "has a key of asyncwb that another program has overwritten: `asyncwb doctor` names it"
    ),
}

# Errors that have no code of their own, by what they say.
TEXTS: Final[Mapping[str, ServerError]] = {
    "max number of clients reached": ServerError(
        Meaning.WAIT, "takes no more connections: raise its maxclients, or open fewer buffers"
    ),
    "Script killed by user": ServerError(Meaning.WAIT, "had a script ended by SCRIPT KILL before it wrote anything"),
    "WAIT cannot be used with replica": ServerError(Meaning.ELSEWHERE, "is a replica now"),
    "WAITAOF cannot be used with replica": ServerError(Meaning.ELSEWHERE, "is a replica now"),
    "invalid password": _WRONG_PASSWORD,
    "AUTH <password> called without any password": _WRONG_PASSWORD,
    "Client sent AUTH, but no password is set": _WRONG_PASSWORD,
    "ACL failure in script": _NOT_PERMITTED,
    "ermissions to": _NOT_PERMITTED,
    "user executing the script can't": _NOT_PERMITTED,
    "DB index is out of range": ServerError(
        Meaning.FAILED, "has no database of this number: see `databases` in its configuration"
    ),
    "SELECT is not allowed in cluster mode": _CLUSTER,
    "unknown command": _LACKS_COMMAND,
    "Unknown command called": _LACKS_COMMAND,
    "Unknown Redis command": _LACKS_COMMAND,
}

# What stands before an error that a script met, and before one that a transaction was discarded for. Redis 6.2 wraps
# "-NOREPLICAS …" as "ERR Error running script (call to f_…): @user_script:1: @user_script: 1: -NOREPLICAS …"; an error
# that a script has caught and raised again gets an ERR before it on all servers.
_BARE: Final = re.compile(
    r"(?:EXECABORT Transaction discarded because of: )?"
    r"(?:ERR Error running script \(call to \w+\): )?(?:(?:@user_script|=\[C\]): ?-?\d+: )*"
    r"-?(?:ERR )?(?P<code>[A-Z]+)(?=\s|$)"
)


_PLACE: Final = re.compile(r",? ?script: .*$", re.DOTALL)
_COMMAND: Final = re.compile(r"the '(\S+)' command")


def judge(text: str) -> tuple[ServerError, str]:
    """The row of an error as the server sent it, its code included; and what to say of it after the server's name."""
    bare = _BARE.match(text)
    if bare is not None and bare["code"] in CODES:
        row, text = CODES[bare["code"]], text[bare.start("code") :]
    else:
        row = next((row for part, row in TEXTS.items() if part in text), _NOT_OURS)
    if row.meaning is Meaning.FORBIDDEN:
        # Not the whole text: it may name the user.
        command = _COMMAND.search(text)
        return row, row.says.format(what=command[1] if command else "a command, or a key,")
    return row, f"{row.says} ({_PLACE.sub('', text).rstrip(' .')})"


class UnknownScript(RedisError):
    """NOSCRIPT: certainly not executed."""


ERRORS: Final[Mapping[Meaning, type[RedisError]]] = {
    Meaning.WAIT: RedisUnavailable,
    Meaning.ELSEWHERE: RedisUnavailable,
    Meaning.FULL: RedisOutOfMemory,
    Meaning.UNKNOWN_SCRIPT: UnknownScript,
    Meaning.CREDENTIALS: RedisRefused,
    Meaning.FORBIDDEN: RedisRefused,
    Meaning.FAILED: RedisError,
}
"""What callers get. `RedisUnavailable` is tried again for `redis_retry_seconds`."""
