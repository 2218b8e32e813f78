"""The Lua scripts, one file a step, each behind the shared prelude."""

from importlib.resources import files
from typing import Final

from asyncwb.redis.script import Script

_LUA: Final = files("asyncwb.protocol") / "lua"
_PRELUDE: Final = (_LUA / "prelude.lua").read_text("utf-8")


def _load(name: str) -> Script:
    return Script(name, _PRELUDE + (_LUA / f"{name}.lua").read_text("utf-8"))


ACK: Final = _load("ack")
ALLOT: Final = _load("allot")
AUDIT: Final = _load("audit")
CLAIM: Final = _load("claim")
CONFIRM: Final = _load("confirm")
DESCRIBE: Final = _load("describe")
DISOWN: Final = _load("disown")
DROP: Final = _load("drop")
EXTEND: Final = _load("extend")
FLUSH: Final = _load("flush")
FORGET: Final = _load("forget")
GET: Final = _load("get")
HASTEN: Final = _load("hasten")
HEARTBEAT: Final = _load("heartbeat")
READ_META: Final = _load("read_meta")
INSTALL: Final = _load("install")
LEAVE: Final = _load("leave")
LIST: Final = _load("list")
PENDING: Final = _load("pending")
PUT: Final = _load("put")
RECOVER: Final = _load("recover")
RESTAMP: Final = _load("restamp")
RETRY: Final = _load("retry")
STATS: Final = _load("stats")
SUPERSEDE: Final = _load("supersede")
UNSAVED: Final = _load("unsaved")

ALL: Final = (
    ACK,
    ALLOT,
    AUDIT,
    CLAIM,
    CONFIRM,
    DESCRIBE,
    DISOWN,
    DROP,
    EXTEND,
    FLUSH,
    FORGET,
    GET,
    HASTEN,
    HEARTBEAT,
    READ_META,
    INSTALL,
    LEAVE,
    LIST,
    PENDING,
    PUT,
    RECOVER,
    RESTAMP,
    RETRY,
    STATS,
    SUPERSEDE,
    UNSAVED,
)
