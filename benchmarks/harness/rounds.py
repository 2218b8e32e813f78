"""Measures contestants in turn, round after round, so that the noise of a shared machine meets all of them alike."""

import asyncio
import gc
import json
import selectors
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.harness.machine import describe_machine
from benchmarks.harness.servers import Mongod, Server

Sample = dict[str, float]
"""What one run of a contestant measured: metric, with its unit in the name, to number."""

Label = str | int | float

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One thing that is measured.

    Attributes:
        name: unique within its question; what plots and targets refer to.
        run: measures once, and raises if the result isn't sane (nothing was done, something is missing).
        labels: where it stands on the axes of the question, as {"writers": 200}.
        loop: the event loop that `run` gets; each run has a new one. "select" is asyncio on select(), whose timers keep
            to microseconds, where those of the others wait for whole milliseconds: for calls that begin on a schedule.
    """

    name: str
    run: Callable[[], Awaitable[Sample]]
    labels: Mapping[str, Label] = field(default_factory=dict)
    loop: Literal["asyncio", "uvloop", "select"] = "asyncio"


@dataclass(slots=True)
class Series:
    """A contestant's samples, one a round."""

    name: str
    labels: dict[str, Label]
    samples: list[Sample]

    def median(self, metric: str) -> float:
        return statistics.median(self.values(metric))

    def values(self, metric: str) -> list[float]:
        return [sample[metric] for sample in self.samples]

    def spread(self, metric: str) -> tuple[float, float]:
        """The lowest and the highest."""
        return min(self.values(metric)), max(self.values(metric))


@dataclass(frozen=True, slots=True)
class Ratio:
    """One contestant's metric over another's, round by round: median, lowest and highest."""

    median: float
    low: float
    high: float


class Results:
    """All series of a question; stands in OUT/NAME.json.

    Attributes:
        timelines: what changed during a run: its name, to columns of equal length.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        self.series: dict[str, Series] = {}
        self.settings: dict[str, Any] = dict(settings or {})
        self.machine: dict[str, Any] = {}
        self.timelines: dict[str, dict[str, list[float]]] = {}

    def __getitem__(self, name: str) -> Series:
        return self.series[name]

    def __contains__(self, name: str) -> bool:
        return name in self.series

    def where(self, **labels: Label) -> list[Series]:
        """Those with these labels, in the order in which they were measured; spaces of a label are underscores here."""
        wanted = {name.replace("_", " "): value for name, value in labels.items()}
        return [each for each in self.series.values() if all(each.labels.get(k) == v for k, v in wanted.items())]

    def ratio(self, of: str, to: str, metric: str) -> Ratio:
        """Pair by pair: what was measured in the same round."""
        pairs = zip(self[of].values(metric), self[to].values(metric), strict=True)
        ratios = [mine / its for mine, its in pairs]
        return Ratio(statistics.median(ratios), min(ratios), max(ratios))

    def save(self, path: Path) -> None:
        document = {
            "format": _FORMAT,
            "machine": self.machine,
            "settings": self.settings,
            "timelines": self.timelines,
            "series": [
                {"name": each.name, "labels": each.labels, "samples": each.samples} for each in self.series.values()
            ],
        }
        path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, path: Path) -> "Results":
        document = json.loads(path.read_text("utf-8"))
        results = cls(document["settings"])
        results.machine = document["machine"]
        results.timelines = document.get("timelines", {})
        for each in document["series"]:
            results.series[each["name"]] = Series(each["name"], each["labels"], each["samples"])
        return results


class Bench:
    """What a question measures with.

    Args:
        quick: a smoke test: small, one round, its numbers mean nothing.
        console: where progress is shown.

    Attributes:
        results: what has been measured so far.
    """

    def __init__(self, *, quick: bool, console: Console) -> None:
        self.quick = quick
        self.results = Results({"quick": quick})
        self.results.machine = describe_machine()
        self._console = console
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def pick(self, full: Any, quick: Any) -> Any:
        """One of two settings: sizes, durations, lists of contestants."""
        return quick if self.quick else full

    def measure(self, title: str, contestants: Sequence[Contestant], *, rounds: int) -> None:
        """Runs each contestant once a round, beginning with another one each time. In quick form one round."""
        rounds = 1 if self.quick else rounds
        for each in contestants:
            assert each.name not in self.results, f"{each.name!r} is measured twice"
            self.results.series[each.name] = Series(each.name, dict(each.labels), [])
        with self._progress() as progress:
            task = progress.add_task(title, total=rounds * len(contestants))
            for number in range(rounds):
                first = number % len(contestants)
                for each in (*contestants[first:], *contestants[:first]):
                    progress.update(task, description=f"{title}: {each.name}")
                    self.results[each.name].samples.append(run_once(each))
                    progress.advance(task)
            progress.update(task, description=title)

    @cached_property
    def redis(self) -> Server:
        """Valkey with `appendonly yes`, `appendfsync everysec`; `.url` is TCP, `.unix_url` a unix socket."""
        server = Server("valkey", appendonly="yes", appendfsync="everysec", auto_aof_rewrite_percentage="0")
        self._stack.callback(server.stop)
        return server

    @cached_property
    def mongod(self) -> Mongod:
        """A replica set of one, so that majority and journaled mean what they say."""
        server = Mongod(replica_set=True)
        self._stack.callback(server.stop)
        return server

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A fresh folder on a real disk."""
        with tempfile.TemporaryDirectory(prefix="asyncwb-bench-") as name:
            yield Path(name)

    def _progress(self) -> Progress:
        return Progress(
            TextColumn("{task.description:60.60}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=self._console,
        )  # fmt: skip


def run_once(contestant: Contestant) -> Sample:
    """A sample, from an event loop of its own; raises AssertionError if it is no measurement."""
    gc.collect()
    with asyncio.Runner(loop_factory=_loop_factory(contestant.loop)) as runner:
        sample = runner.run(_measured(contestant))
    for metric, value in sample.items():
        if not value >= 0:
            raise AssertionError(f"{contestant.name}: {metric} is {value}")
    return sample


async def _measured(contestant: Contestant) -> Sample:
    return await contestant.run()


def _loop_factory(loop: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if loop == "uvloop":
        import uvloop  # noqa: PLC0415 - not everywhere

        return uvloop.new_event_loop
    if loop == "select":
        return lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())
    return asyncio.new_event_loop
