"""Every public method of a buffer with every argument that it shouldn't get, beside callers who behave well.

What is nonsense is told to its caller, by an error of asyncwb's tree, and to nobody else: calls share requests, and
what can't be packed into one must not fail the others in it.
"""

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from asyncwb import Add, AsyncwbError, Buffer
from asyncwb.core.arguments import ANY_VERSION
from asyncwb.testing import MemoryBackend
from tests.harness.servers import Server
from tests.proofs.hostile.objects import name_of, nasty
from tests.proofs.runner.report import Report

VALID: Final[dict[str, Any]] = {
    "key": "mine", "value": 1, "values": {"mine": 1}, "keys": ["mine"], "durability": None, "version": None,
    "timeout": 5, "drain": False, "change": Add(1), "changes": {"mine": Add(1)}, "amount": 1, "field": None,
    "items": 1, "keep": None, "default": 1, "upsert": True, "expected": ANY_VERSION,
}  # fmt: skip
"""For each parameter of a method a value that is fine; a new parameter needs one here."""

_OWN_VALID: Final[dict[tuple[str, str], Any]] = {("insert_many", "values"): [1]}
"""The same where a method means something else by a name."""

_LONGEST_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Form:
    """A method and the parameter that gets nonsense."""

    method: str
    parameter: str


Call = tuple[Form, Any]
"""And the nonsense."""


def forms() -> list[Form]:
    """All public methods, also those that are added later."""
    found = []
    for name, method in inspect.getmembers(Buffer, inspect.isfunction):
        if name.startswith("_"):
            continue
        for parameter in list(inspect.signature(method).parameters)[1:]:
            assert parameter in VALID, f"{name}({parameter}=): say in hostile/calls.py what is a valid one"
            found.append(Form(name, parameter))
    return found


def called(buffer: Buffer[Any], form: Form, thing: Any) -> Any:
    """What the method returns if all its arguments are valid but one."""
    method = getattr(Buffer, form.method)
    positional: list[Any] = [buffer]
    named: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(method).parameters.items())[1:]:
        valid = _OWN_VALID.get((form.method, name), VALID[name])
        value = thing if name == form.parameter else valid
        if parameter.kind is parameter.KEYWORD_ONLY:
            named[name] = value
        else:  # of *items, one
            positional.append(value)
    return method(*positional, **named)


class Neighbour:
    """Writes, reads and waits on the same buffer, and shares its requests with everybody else."""

    def __init__(self, buffer: Buffer[Any], name: str) -> None:
        self._buffer = buffer
        self._value: Callable[[int], Any] = str if buffer._codec.name != "bytes" else lambda number: b"%d" % number
        self._keys = [f"{name}{number}" for number in range(3)]
        self._written = 0
        self.calls = 0

    def requests(self) -> Sequence[Awaitable[Any]]:
        """Some calls at once; their results are for `judge`."""
        self._written += 1
        one, two, three = self._keys
        return (
            self._buffer.set(one, self._value(self._written)),
            self._buffer.set_many({two: self._value(self._written), three: self._value(self._written)}),
            self._buffer.get("absent"),
            self._buffer.get_many(["absent", "also absent"]),
            self._buffer.flush(one, timeout=_LONGEST_SECONDS),
            self._buffer.delete("gone"),
        )

    async def judge(self, outcomes: Sequence[Any]) -> str:
        """What went wrong for it; "" if nothing did."""
        self.calls += len(outcomes)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                return f"a neighbour got {outcome!r}"
        try:
            found = await self._buffer.get_many(self._keys)
        except AsyncwbError as error:
            return f"a neighbour got {error!r}"
        if found != dict.fromkeys(self._keys, self._value(self._written)):
            return f"a neighbour wrote {self._written} and read {found}"
        return ""


async def attempt(buffer: Buffer[Any], calls: Sequence[Call], neighbour: Neighbour) -> list[str]:
    """Some calls with nonsense at once, amid calls of a neighbour; what went wrong."""
    requests = neighbour.requests()
    half = len(requests) // 2
    hostile = [called(buffer, form, thing) for form, thing in calls]
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            outcomes = await asyncio.gather(*requests[:half], *hostile, *requests[half:], return_exceptions=True)
    except TimeoutError:
        return [f"one of these hangs, or holds up its neighbours: {', '.join(map(_described, calls))}"]
    own = outcomes[half : half + len(calls)]
    problems = [
        f"{_described(call)}: raised {type(outcome).__name__}, which is none of asyncwb's errors: {outcome}"
        for call, outcome in zip(calls, own, strict=True)
        if isinstance(outcome, BaseException) and not isinstance(outcome, AsyncwbError)
    ]
    wrong = await neighbour.judge(outcomes[:half] + outcomes[half + len(calls) :])
    return [*problems, f"{wrong}, beside {', '.join(map(_described, calls))}"] if wrong else problems


def _described(call: Call) -> str:
    form, thing = call
    return f"{form.method}({form.parameter}={name_of(thing)})"


async def play(buffer: Buffer[Any], calls: Iterable[Call], report: Report, *, at_once: int) -> None:
    """Calls on an open buffer, which is open at the end."""
    neighbour = Neighbour(buffer, "neighbour")
    # These would close the buffer, rightly.
    sane = (call for call in calls if not (call[0].method == "aclose" and isinstance(call[1], bool)))
    while several := list(islice(sane, at_once)):
        problems = await attempt(buffer, several, neighbour)
        report.problems += problems
        if not problems:
            report.counts["hostile inputs"] += len(several)
            report.counts["hostile calls"] += len(several)
    report.counts["calls of their neighbours"] += neighbour.calls


def every() -> Iterator[Call]:
    """Each form with each object, once."""
    for form in forms():
        for thing in nasty():
            yield form, thing


def some(rng: random.Random, count: int) -> Iterator[Call]:
    """So many forms, with objects or with collections of them."""
    possible = forms()
    for _ in range(count):
        things = list(nasty())
        thing = rng.choice(things)
        wrap = rng.randrange(6)
        if wrap == 0:
            thing = [thing, rng.choice(things)]
        elif wrap == 1:
            thing = (each for each in ("mine", thing))
        elif wrap == 2:
            thing = {"mine": thing}
        elif wrap == 3:
            thing = {"also mine": 1, **({thing: 1} if _hashable(thing) else {})}
        yield rng.choice(possible), thing


def _hashable(thing: Any) -> bool:
    try:
        return {thing: 1} == {thing: 1}
    except Exception:
        return False


def run(number: int, count: int) -> Report:
    """One unit, on a server of its own."""
    rng = random.Random(number)
    report = Report()
    config: dict[str, Any] = {"appendonly": "yes", "appendfsync": "always"} if rng.random() < 0.5 else {}
    server = Server("valkey", **config)

    async def main() -> None:
        async with Buffer[Any](
            server.url, backend=MemoryBackend(), namespace=f"calls.{number}", partitions=rng.choice((1, 3)),
            codec=rng.choice(("json", "msgpack", "bytes")), commit=rng.choice(("script", "watch")), flushers=2,
        ) as buffer:  # fmt: skip
            await play(buffer, some(rng, count), report, at_once=rng.randint(1, 12))

    try:
        asyncio.run(main())
    except AsyncwbError as error:
        report.problems.append(f"the buffer itself: {error!r}")
    finally:
        server.stop()
    again = f"again: python -m tests.proofs.unit hostile {number}"
    report.problems[:] = [f"{each} ({again})" for each in report.problems[:5]]
    return report
