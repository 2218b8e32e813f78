"""The project's .lua files, run by a real Lua 5.1 over a model of the server."""

import struct
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import msgspec

Call = Callable[[list[bytes]], Any]

LUA_MISSING = "" if find_spec("lupa") else "lupa isn't installed (it has no wheel for Python 3.15)"
"""Why no script can be run here, if so."""


class ScriptHost:
    """Runs scripts one at a time; their `redis.call` goes to whoever runs them."""

    def __init__(self) -> None:
        from lupa import lua51  # noqa: PLC0415 - the newest Python has no lupa, and still imports the proofs

        self._lua = lua51.LuaRuntime(encoding=None, unpack_returned_tuples=True, register_eval=False)
        self._call: Call | None = None
        self._compiled: dict[str, Any] = {}
        self._environment = (
            self._lua.table_from({b"call": self._redis_call}),
            self._lua.table_from({b"pack": _struct_pack, b"unpack": _struct_unpack}),
            self._lua.table_from({b"pack": self._msgpack, b"unpack": self._msgunpack}),
        )

    def run(self, source: str, keys: Sequence[bytes], args: Sequence[bytes], call: Call) -> Any:
        """The reply as a client gets it: bytes, integers, None and lists."""
        function = self._compiled.get(source)
        if function is None:
            text = f"return function(KEYS, ARGV, redis, struct, cmsgpack) {source}\nend"
            function = self._compiled[source] = self._lua.execute(text.encode())
        self._call = call
        table = self._lua.table_from
        try:
            return self._reply(function(table(list(keys)), table(list(args)), *self._environment))
        finally:
            self._call = None

    def _redis_call(self, *args: bytes | float) -> Any:
        assert self._call is not None
        return self._answer(self._call([arg if type(arg) is bytes else _number(arg) for arg in args]))

    def _answer(self, reply: Any) -> Any:
        if type(reply) is list:
            return self._lua.table_from([self._answer(item) for item in reply])
        return False if reply is None else reply

    def _reply(self, value: Any) -> Any:
        if value is None or value is False:
            return None
        if value is True:
            return 1
        if isinstance(value, bytes):
            return value
        if isinstance(value, int | float):
            return int(value)
        items = []
        for number in range(1, len(value) + 1):
            if (item := value[number]) is None:
                break
            items.append(self._reply(item))
        return items

    def _msgpack(self, value: Any) -> bytes:
        return msgspec.msgpack.encode(self._plain(value))

    def _msgunpack(self, packed: bytes) -> Any:
        return self._lua_value(msgspec.msgpack.decode(packed))

    def _plain(self, value: Any) -> Any:
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, bytes | int | float | bool):
            return value
        return [self._plain(value[number]) for number in range(1, len(value) + 1)]

    def _lua_value(self, value: Any) -> Any:
        return self._lua.table_from([self._lua_value(item) for item in value]) if isinstance(value, list) else value


def _number(value: Any) -> bytes:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return (b"%d" % value) if isinstance(value, int) else repr(value).encode()


@cache
def _layout(text: bytes) -> struct.Struct:
    """Only what the scripts use: big-endian unsigned integers of 4 and 8 bytes."""
    sizes = {b"I4": "I", b"I8": "Q"}
    assert text[:1] == b">", text
    return struct.Struct(">" + "".join(sizes[text[at : at + 2]] for at in range(1, len(text), 2)))


def _struct_pack(layout: bytes, *values: float) -> bytes:
    return _layout(layout).pack(*map(int, values))


def _struct_unpack(layout: bytes, packed: bytes, position: int = 1) -> Any:
    form = _layout(layout)
    if len(packed) - (position - 1) < form.size:
        raise ValueError("data string too short")
    return (*form.unpack_from(packed, position - 1), position + form.size)
