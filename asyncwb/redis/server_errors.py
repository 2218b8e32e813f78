"""The table of a server's errors: whether each says that the command was executed, and what has to happen next."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from asyncwb.errors import RedisError, RedisOutOfMemory, RedisRefused, RedisUnavailable


class Meaning(Enum):
    """What an error means to the caller.

    All but `FAILED` and `FORBIDDEN` mean that nothing was executed. That holds for scripts as well: the server checks
    its own state (whether it is a replica, memory, disk, the number of replicas) at a script's first write and never
    after it, and SCRIPT KILL ends only scripts that have not written.
    """

    WAIT = auto()
    """Not executed. The cause passes by itself or is put right; the connection is fine: try the same server again."""
    ELSEWHERE = auto()
    """Not executed. Another server may be the primary by now: connect again."""
    FULL = auto()
    """Not executed: the server is at maxmemory."""
    UNKNOWN_SCRIPT = auto()
    """Not executed: the source of the script has to be sent."""
    CREDENTIALS = auto()
    """Not executed: a person has to correct the URL or the server's users."""
    FORBIDDEN = auto()
    """A person has to give this user the permission. A script may have been executed up to the forbidden command."""
    FAILED = auto()
    """A script may have been executed in part; trying again does not help."""


@dataclass(frozen=True, slots=True)
class ServerError:
    """A row of the table: what an error means, and the text for messages, which follows the server's name."""

    meaning: Meaning
    says: str


_NOT_OURS: Final = ServerError(Meaning.FAILED, "answered with an error")
"""For errors of commands that asyncwb never sends, and for unknown errors."""
_CLUSTER: Final = ServerError(Meaning.ELSEWHERE, "is a cluster node, and clusters aren't supported yet")
_LACKS_COMMAND: Final = ServerError(
    Meaning.FAILED, "lacks a command, or has it renamed: asyncwb needs Redis 6.2 or newer, or Valkey"
)
_WRONG_PASSWORD: Final = ServerError(Meaning.CREDENTIALS, "refused the credentials")
_NOT_PERMITTED: Final = ServerError(
    Meaning.FORBIDDEN,
    "doesn't permit {what} to this user: `asyncwb doctor --acl` prints the rule that it needs",
)

# Every error code in the sources of Redis 6.2, 7 and 8 and of Valkey, Sentinel's included.
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
    # The reason is in earlier replies, or follows in the text: see `_BARE`.
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

# Errors that have no code of their own, by a part of their text.
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

# Skips what precedes the code of an error in a script, or of an error for which a transaction was discarded. Redis 6.2
# wraps "-NOREPLICAS …" as "ERR Error running script (call to f_…): @user_script:1: @user_script: 1: -NOREPLICAS …". All
# servers put ERR before an error that a script has caught and raised again.
_BARE: Final = re.compile(
    r"(?:EXECABORT Transaction discarded because of: )?"
    r"(?:ERR Error running script \(call to \w+\): )?(?:(?:@user_script|=\[C\]): ?-?\d+: )*"
    r"-?(?:ERR )?(?P<code>[A-Z]+)(?=\s|$)"
)


_PLACE: Final = re.compile(r",? ?script: .*$", re.DOTALL)
_COMMAND: Final = re.compile(r"the '(\S+)' command")


def judge(text: str) -> tuple[ServerError, str]:
    """The row of an error, and a text for messages that follows the server's name.

    Args:
        text: the error as the server sent it, with its code.
    """
    bare = _BARE.match(text)
    if bare is not None and bare["code"] in CODES:
        row, text = CODES[bare["code"]], text[bare.start("code") :]
    else:
        row = next((row for part, row in TEXTS.items() if part in text), _NOT_OURS)
    if row.meaning is Meaning.FORBIDDEN:
        # The server's text isn't shown, because it may name the user.
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
"""Meaning -> the exception that callers get. After a `RedisUnavailable`, they retry for `redis_retry_seconds`."""
