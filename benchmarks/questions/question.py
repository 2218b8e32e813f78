"""What a script of this folder is: a question, how it is measured, and how its answer is shown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness.rounds import Bench, Ratio, Results
from benchmarks.report.plotting import human


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table of figures.

    Attributes:
        what: "set, 200 writers : article's write".
        target: as a reader sees it, "at least 18 ×".
        measured: the same way, with its spread: "21.3 × (20.1 – 22.0)".
        reached: whether it holds.
        command: what measures it.
    """

    what: str
    target: str
    measured: str
    reached: bool
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A picture in OUT, as SVG and PNG, and what it says.

    Attributes:
        name: of its files, without a suffix; begins with the question's name.
        caption: one or two sentences that a newcomer understands.
    """

    name: str
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One script of the suite.

    Attributes:
        name: on the command line.
        title: of its chapter.
        asks: the question, in a sentence.
        fair: each baseline, and why the comparison is fair.
        run: measures into `bench.results`.
        plots: draws into a folder.
        tables: Markdown tables of the report, with headings of their own.
        figures: its lines of the table of figures.
    """

    name: str
    title: str
    asks: str
    run: Callable[[Bench], None]
    fair: Mapping[str, str] = field(default_factory=dict)
    plots: Callable[[Results, Path], Sequence[Plot]] = lambda _results, _folder: ()
    tables: Callable[[Results], str] = lambda _results: ""
    figures: Callable[[Results], Sequence[Figure]] = lambda _results: ()


def at_least(results: Results, of: str, to: str, metric: str, least: float, *, what: str, command: str) -> list[Figure]:
    """A ratio that has to reach a number; nothing where one of the two wasn't measured, as in quick form."""
    if of not in results or to not in results:
        return []
    ratio = results.ratio(of, to, metric)
    return [
        Figure(
            what=what, target=f"at least {least:g} ×", measured=_shown(ratio, least), reached=ratio.median >= least,
            command=command,
        )
    ]  # fmt: skip


def at_most(results: Results, of: str, to: str, metric: str, most: float, *, what: str, command: str) -> list[Figure]:
    """A ratio that must not pass a number; as `at_least`."""
    if of not in results or to not in results:
        return []
    ratio = results.ratio(of, to, metric)
    return [
        Figure(
            what=what, target=f"at most {most:g} ×", measured=_shown(ratio, most), reached=ratio.median <= most,
            command=command,
        )
    ]  # fmt: skip


def under(
    results: Results, of: str, metric: str, limit: float, *, unit: str, what: str, command: str, note: str = ""
) -> list[Figure]:
    """A number that has to stay below a limit, both in `unit`; `note` says more about what was measured."""
    if of not in results:
        return []
    median, (low, high) = results[of].median(metric), results[of].spread(metric)
    measured = f"{median:.3g} {unit} ({low:.3g} – {high:.3g}){note}"
    return [
        Figure(what=what, target=f"under {limit:g} {unit}", measured=measured, reached=median < limit, command=command)
    ]


def cell(results: Results, name: str, metric: str) -> str:
    """A number of a table: median, lowest and highest."""
    low, high = results[name].spread(metric)
    return f"{human(results[name].median(metric))} ({human(low)} – {human(high)})"


def _shown(ratio: Ratio, target: float) -> str:
    digits = 4 if abs(ratio.median - target) < 0.01 * target else 3  # on which side it is has to be seen
    return f"{ratio.median:.{digits}g} × ({ratio.low:.{digits}g} – {ratio.high:.{digits}g})"
