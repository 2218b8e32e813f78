"""Any sequence of calls with any keys and values, through a real buffer and a real server: a dict is the oracle."""

import asyncio
import random
import string
from typing import Any, Final, Literal

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from asyncwb import Buffer, InvalidKey, InvalidValue
from asyncwb.core.userkeys import MAX_KEY_BYTES
from asyncwb.records import CodecName
from asyncwb.testing import MemoryBackend
from tests.harness.servers import Server
from tests.proofs.runner.report import Report

Op = tuple[Literal["set", "delete", "get", "flush"], str, Any]

_PIECES: Final = st.sampled_from(
    ["{wb:", "}", "{wb:n:0}:rec:", "{wb:n:1}:meta", "\0", "\n", "\r\n", "*1\r\n$4\r\nPING\r\n", "%", "é", "e\u0301",
    "\ud800", "\udfff",
     "\U0001f4a9", "\u202e", "\ufeff", "..", "/", "\\", '"', "'", " ", "\x1b[2J", "NaN", "a", "A", "\xff", "k" * 400]
)  # fmt: skip
_KEYS: Final = st.one_of(
    st.text(string.ascii_letters, min_size=1, max_size=2),
    st.lists(_PIECES, max_size=4).map("".join),
    st.text(st.characters(codec=None), max_size=12),
)
_NUMBERS: Final = st.one_of(
    st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False), st.booleans()
)
_JSON: Final = st.recursive(
    st.one_of(st.none(), _NUMBERS, st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
_VALUES: Final[dict[CodecName, st.SearchStrategy[Any]]] = {
    "json": _JSON,
    "msgpack": st.one_of(_JSON, st.binary(max_size=40), st.floats(allow_nan=False)),
    "bytes": st.binary(max_size=100),
}


def ops(codec: CodecName) -> st.SearchStrategy[list[Op]]:
    """Calls, some of them refused: empty and over-long keys, lone surrogates, None."""
    value = _VALUES[codec]
    one = st.one_of(
        st.tuples(st.just("set"), _KEYS, value), st.tuples(st.just("delete"), _KEYS, st.none()),
        st.tuples(st.just("get"), _KEYS, st.none()), st.tuples(st.just("flush"), _KEYS, st.none()),
    )  # fmt: skip
    return st.lists(one, min_size=15, max_size=60)


def is_key(key: str) -> bool:
    """What the documents say of keys, written down once more."""
    try:
        return 0 < len(key.encode()) <= MAX_KEY_BYTES
    except UnicodeEncodeError:
        return False


def is_text(value: object) -> bool:
    """Whether all text in a value can be encoded."""
    if isinstance(value, str):
        return is_key(value) or not value
    if isinstance(value, dict):
        return all(is_text(part) for pair in value.items() for part in pair)
    return not isinstance(value, list) or all(map(is_text, value))


class Player:
    """Plays calls on a buffer, and on a dict beside it."""

    def __init__(self, buffer: Buffer[Any], memory: MemoryBackend) -> None:
        self._buffer = buffer
        self._memory = memory
        self._oracle: dict[str, Any] = {}
        self.checked = 0

    async def play(self, calls: list[Op]) -> None:
        """Raises AssertionError where they differ."""
        for what, key, value in calls:
            await self._one(what, key, value)
            self.checked += 1
        keys = [key for _, key, _ in calls if is_key(key)]
        found = await self._buffer.get_many(keys)
        assert found == {key: self._oracle[key] for key in keys if key in self._oracle}

    async def _one(self, what: str, key: str, value: Any) -> None:
        buffer = self._buffer
        try:
            if what == "set":
                await buffer.set(key, value)
            elif what == "delete":
                await buffer.delete(key)
            elif what == "flush":
                await buffer.flush(key, timeout=60)
            else:
                found = await buffer.get(key)
        except InvalidKey:
            assert not is_key(key), f"key {key!r} is refused"
            return
        except InvalidValue:
            assert value is None or not is_text(value), f"value {value!r} is refused"
            return
        assert is_key(key), f"{key!r} is taken"
        if what == "set":
            self._oracle[key] = value
        elif what == "delete":
            self._oracle.pop(key, None)
        elif what == "get":
            assert found == self._oracle.get(key)
            assert repr(found) == repr(self._oracle.get(key)) or isinstance(found, dict | list | float)
        elif key in self._oracle:
            assert self._memory.records[key].value == self._oracle[key]
        else:
            assert key not in self._memory.records or self._memory.records[key].deleted

    async def end(self) -> None:
        """After a drain the backend holds exactly what the dict holds."""
        await self._buffer.drain(timeout=60)
        assert self._memory.values == self._oracle
        assert self._buffer.totals.crashes == self._buffer.totals.dead == 0


def play(url: str, number: int, examples: int) -> Report:
    """So many sequences, on one buffer: what one leaves behind, the next one finds."""
    rng = random.Random(number)
    codec: CodecName = rng.choice(("json", "msgpack", "bytes"))
    report = Report()
    memory = MemoryBackend()
    with asyncio.Runner() as runner:
        buffer = Buffer[Any](
            url, backend=memory, namespace=f"roundtrip.{number}", codec=codec, partitions=rng.choice((1, 3)),
            commit=rng.choice(("script", "watch")), flushers=2, max_delay_seconds=rng.choice((0.0, 0.02)),
        )  # fmt: skip
        runner.run(buffer.open())
        player = Player(buffer, memory)

        @seed(number)
        @settings(
            max_examples=examples, deadline=None, database=None, phases=(Phase.generate,), print_blob=False,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(ops(codec))
        def sequence(calls: list[Op]) -> None:
            runner.run(player.play(calls))

        try:
            sequence()
            runner.run(player.end())
        except AssertionError as error:
            report.problems.append(f"{codec}: {error}")
        finally:
            runner.run(buffer.aclose(drain=False))
    report.counts.update({"hostile inputs": player.checked, "calls against the oracle": player.checked})
    return report


def run(number: int, examples: int) -> Report:
    """One unit's, on a server of its own."""
    server = Server("valkey")
    try:
        return play(server.url, number, examples)
    finally:
        server.stop()
