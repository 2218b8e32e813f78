"""How the answer to "contention" is shown: the picture that explains the default, and a table for each axis."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.ticker import PercentFormatter

from benchmarks.harness.rounds import Results, Series
from benchmarks.questions.contenders import SLOW_SECONDS, Scene
from benchmarks.questions.question import Plot
from benchmarks.report.plotting import COLOURS, line, panels, save

FAIR: Final = {
    "all three": "the same 50 writers, keys, order, rate and backend, in one process with its flushers. Each writer "
    "waits for its answer; together they offer 2000 writes a second at most, what is late isn't made up for.",
    "the slow backend": f"memory behind a pause of {SLOW_SECONDS[0] * 1000:.0f} to {SLOW_SECONDS[1] * 1000:.0f} ms for "
    "each save, however many records are in it, like a database that is busy or far away; saves may overlap.",
    "the fast backend": "SQLite (synchronous=FULL); for the article a commit also covers what its other flushers have "
    "written.",
    "what is counted": "outside of all three, from numbers that stand in the values: a write is at rest when the "
    "backend has had it or a newer one of its key. A WatchError is an EXEC that did nothing because the key was "
    "written meanwhile. The script has none: it leaves such a record dirty, which is a superseded save as well.",
    "lost keys": "after the writers have stopped, each key is read as a user reads it, and has to have its last value. "
    "For asyncwb a lost one would end the benchmark.",
}

_HOT: Final = (1, 4, 64, 1024, 65_536)
_COLOURS: Final = {
    "script": COLOURS["asyncwb"],
    "watch": COLOURS["other"],
    "article": COLOURS["article"],
}
_USUAL: Final = Scene()


def plots(results: Results, folder: Path) -> Sequence[Plot]:
    if not _series(results, "script", keys=1):
        return []
    figure, (errors, rest) = panels(
        "asyncwb's script keeps up with any number of hot keys, WATCH doesn't",
        "hot keys",
        "",
        ["saves that end in a WatchError", f"writes that get to the backend, of {_USUAL.rate:,}/s"],
    )
    for axes, metric, whole in ((errors, "watch_errors_per_save", 1.0), (rest, "at_rest_per_s", float(_USUAL.rate))):
        for algorithm, colour in _COLOURS.items():
            hot = [_series(results, algorithm, keys=keys) for keys in _HOT]
            found = [each for each in hot if each is not None]
            line(
                axes,
                range(len(found)),
                [each.median(metric) / whole for each in found],
                label="",
                colour=colour,
                spreads=[(each.spread(metric)[0] / whole, each.spread(metric)[1] / whole) for each in found],
            )
            zipf = _series(results, algorithm, keys="Zipf")
            if zipf is not None:
                line(axes, [len(_HOT)], [zipf.median(metric) / whole], label=algorithm, colour=colour)
        axes.set_xticks(range(len(_HOT) + 1), [*map(str, _HOT), "Zipf"])
        axes.set_ylim(-0.08, 1.08)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    save(figure, folder, "contention-watch")
    return [
        Plot(
            name="contention-watch",
            caption="Left: with WATCH, as in the article and in asyncwb's `watch`, a write that comes while its key is "
            "being saved makes that save's transaction fail, and it has to be done again; the `script` compares "
            "versions afterwards instead, so nothing fails. Right: a WATCH needs a save of its own for each key, so "
            "with many keys most writes never reach a backend that takes 20 ms a save, while the `script` saves a "
            "whole batch at once and keeps up with any number of them.",
        )
    ]


def _series(results: Results, algorithm: str, **varied: Any) -> Series | None:
    scene = {"keys": _USUAL.keys, "flushers": _USUAL.flushers, "batch": _USUAL.batch, "backend": _USUAL.backend}
    found = results.where(algorithm=algorithm, **{**scene, **varied})
    return found[0] if found else None


# Tables

_COLUMNS: Final = (
    ("WatchErrors per save", "watch_errors_per_save", "{:.0%}"),
    ("superseded saves", "superseded_share", "{:.0%}"),
    ("saves/s", "saves_per_s", "{:,.0f}"),
    ("writes/s", "writes_per_s", "{:,.0f}"),
    ("writes at rest/s", "at_rest_per_s", "{:,.0f}"),
    ("oldest unsaved, median", "oldest_median_s", "{:.2f} s"),
    ("oldest unsaved, most", "oldest_max_s", "{:.2f} s"),
    ("went back", "went_back", "{:.0f}"),
    ("lost keys", "lost_keys", "{:.0f}"),
)

_EXPLAINED: Final = (
    "One thing is varied at a time, around {usual}. *Superseded* saves were not the newest any more when they were to "
    "be settled; *oldest unsaved* is the age of the oldest acknowledged write that isn't in the backend, in runs of "
    "2.4 s; *went back* counts saves that put an older value in the place of a newer one. In *bursts* each key is "
    "written three times within 20 ms and never again, at a rate that the article can follow: what it loses there "
    "stays lost."
)


def tables(results: Results) -> str:
    usual = f"{_USUAL.keys} keys, {_USUAL.flushers} flushers, batches of {_USUAL.batch}, slow backend"
    axes: list[tuple[str, str, Sequence[Any]]] = [
        ("keys", "hot keys", (*_HOT, "Zipf", "bursts")),
        ("flushers", "flushers", (1, 4, 16)),
        ("batch", "batch", (1, 100, 1000)),
        ("backend", "backend", ("slow", "fast")),
    ]
    parts = [_EXPLAINED.format(usual=usual)]
    for axis, name, values in axes:
        rows = [f"| {name} | | {' | '.join(title for title, _, _ in _COLUMNS)} |", "|--:|---|" + "--:|" * len(_COLUMNS)]
        for value in values:
            for algorithm in _COLOURS:
                series = _series(results, algorithm, **{axis: value})
                if series is not None:
                    shown = f"{value:,}" if isinstance(value, int) else value
                    rows.append(f"| {shown} | {algorithm} | {' | '.join(_cells(series))} |")
        if len(rows) > 2:
            parts += [f"### By {name}", "\n".join(rows)]
    return "\n\n".join(parts)


def _cells(series: Series) -> list[str]:
    cells = []
    for _, metric, form in _COLUMNS:
        low, high = series.spread(metric)
        cell = form.format(series.median(metric))
        cells.append(
            cell if form.format(low) == form.format(high) else f"{cell} ({form.format(low)} – {form.format(high)})"
        )
    return cells
