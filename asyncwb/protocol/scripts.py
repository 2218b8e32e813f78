"""The Lua scripts, one file for each step; code that several share is included by a line `-- @include NAME`."""

import re
from importlib.resources import files
from typing import Final

from asyncwb.redis.script import Script

_LUA: Final = files("asyncwb.protocol") / "lua"
_INCLUDE: Final = re.compile(r"^-- @include (\w+)\n", re.MULTILINE)


def _load(name: str) -> Script:
    """A step's script, preceded by all files that it includes: each once, and each after those that it includes."""
    parts: list[str] = []
    included: set[str] = set()

    def add(text: str) -> None:
        for each in _INCLUDE.findall(text):
            if each not in included:
                included.add(each)
                add((_LUA / "includes" / f"{each}.lua").read_text("utf-8"))
        parts.append(_INCLUDE.sub("", text))

    add((_LUA / "steps" / f"{name}.lua").read_text("utf-8"))
    return Script(name, "".join(parts))


ACK: Final = _load("ack")
ALLOT: Final = _load("allot")
AUDIT: Final = _load("audit")
CLAIM: Final = _load("claim")
CONFIRM: Final = _load("confirm")
DESCRIBE: Final = _load("describe")
DISOWN: Final = _load("disown")
DROP: Final = _load("drop")
ENTER: Final = _load("enter")
EXTEND: Final = _load("extend")
FLUSH: Final = _load("flush")
FOLD: Final = _load("fold")
FORGET: Final = _load("forget")
GET: Final = _load("get")
GIVE_BACK: Final = _load("give_back")
HASTEN: Final = _load("hasten")
HEARTBEAT: Final = _load("heartbeat")
READ_META: Final = _load("read_meta")
READ_UPDATES: Final = _load("read_updates")
INSTALL: Final = _load("install")
LEAVE: Final = _load("leave")
LEAVE_OUT: Final = _load("leave_out")
LIST: Final = _load("list")
PENDING: Final = _load("pending")
PUT: Final = _load("put")
RECOVER: Final = _load("recover")
RESTAMP: Final = _load("restamp")
RETRY: Final = _load("retry")
SIZES: Final = _load("sizes")
STATS: Final = _load("stats")
SUPERSEDE: Final = _load("supersede")
TAKE_TOKEN: Final = _load("take_token")
UNSAVED: Final = _load("unsaved")
