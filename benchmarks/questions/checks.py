"""Checks: what it costs a write to see to it that its value can be read back as it is."""

import time
from functools import partial
from typing import Any, Final

import msgspec

from asyncwb import Buffer
from benchmarks.baselines.plain import empty
from benchmarks.harness.rounds import Bench, Contestant, Results, Sample
from benchmarks.questions.question import Figure, Question, at_least, cell
from benchmarks.workloads.loads import timed_calls
from benchmarks.workloads.payloads import KEYS, check_saved, keys

_COMMAND: Final = "uv run python -m benchmarks checks"
_WRITERS: Final = 1000
_METRIC: Final = "writes_per_s"


class _Pair(msgspec.Struct):
    name: str
    visits: int


class _Customer(msgspec.Struct):
    id: int
    name: str
    email: str
    street: str
    balance: float
    active: bool
    tags: list[str]
    parent: int | None


_CUSTOMER: Final = _Customer(
    42, "Ada Lovelace", "ada@example.org", "12 St James's Square, London SW1", 1234.56, True, ["first", "loyal"], None
)
_SHAPES: Final[dict[str, tuple[Any, Any, float]]] = {
    "Struct of 2 fields": (_Pair, _Pair("Ada Lovelace", 3), 0.95),
    "Struct of 8 fields": (_Customer, _CUSTOMER, 0.85),
    "untyped dict of 8": (Any, msgspec.to_builtins(_CUSTOMER), 0.7),
}
"""Type, value, and the least share of the speed without checks."""


async def _writes(bench: Bench, shape: str, check: bool) -> Sample:
    seconds: float = bench.pick(3.0, 0.3)
    type_, value, _ = _SHAPES[shape]
    all_keys = keys()
    await empty(bench.redis.url)
    with bench.folder() as folder:
        buffer: Buffer[Any] = Buffer(
            bench.redis.url, backend=f"file:{folder / 'checks'}", type=type_, flushers=0, check_values=check
        )
        async with buffer:
            cpu = time.process_time()
            count, took = await timed_calls(_WRITERS, seconds, lambda n: buffer.set(all_keys[n % KEYS], value))
            cpu = time.process_time() - cpu
            check_saved((await buffer.stats()).dirty, count)
    return {_METRIC: count / took, "cpu_us": 1e6 * cpu / count}


def _run(bench: Bench) -> None:
    contestants = [
        Contestant(name=_name(shape, check=check), run=partial(_writes, bench, shape, check))
        for shape in _SHAPES
        for check in (True, False)
    ]
    bench.measure("checks", contestants, rounds=9)


def _name(shape: str, *, check: bool) -> str:
    return f"{shape}, {'checked' if check else 'unchecked'}"


def _tables(results: Results) -> str:
    rows = [
        "| | writes per second, checked | unchecked | CPU of the process, µs a write, checked | unchecked |",
        "|---|---|---|---|---|",
    ]
    for shape in _SHAPES:
        cells = [
            cell(results, _name(shape, check=check), metric)
            for metric in (_METRIC, "cpu_us")
            for check in (True, False)
        ]
        rows.append(f"| {shape} | {' | '.join(cells)} |")
    return "\n".join([*rows, ""])


def _figures(results: Results) -> list[Figure]:
    return [
        figure
        for shape, (_, _, least) in _SHAPES.items()
        for figure in at_least(
            results, _name(shape, check=True), _name(shape, check=False), _METRIC, least,
            what=f"set of a checked value, {shape}: unchecked", command=_COMMAND,
        )
    ]  # fmt: skip


QUESTION: Final = Question(
    name="checks",
    title="Checked values",
    asks="What does it cost a write to see to it that its value can be read back as it is?",
    run=_run,
    fair={
        "unchecked": f"the same buffer with `check_values=False`, and the same values as JSON; {_WRITERS} writers, "
        "nobody flushes.",
    },
    tables=_tables,
    figures=_figures,
)
