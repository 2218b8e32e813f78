"""How pictures of the report look: one chart, one statement, lines labelled where they end.

A question draws like this:

    figure, axes = chart("asyncwb keeps up with 1000 writers", "concurrent writers", "writes per second", log_x=True)
    trace(axes, results.where(what="set"), "writers", "writes per second", label="asyncwb", colour=COLOURS["asyncwb"])
    limit(axes, 120_000, "MSET of 1000")
    save(figure, folder, "writes-writers")

`human` makes 12500 "12.5k"; `save` places the labels of lines, and writes the same bytes for the same picture.
"""

import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from benchmarks.harness.rounds import Series

COLOURS: Final = {
    "asyncwb": "#0b66c3",
    "article": "#d9541e",
    "baseline": "#667085",
    "other": "#12906f",
    "limit": "#98a2b3",
}
"""What a contestant is, in every picture alike."""

_WIDTH: Final = 8.4
_INK: Final = "#1d2939"
_QUIET: Final = "#667085"
_GRID: Final = "#e7eaef"
_FONTS: Final = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"
"""What an SVG asks for; it is laid out in DejaVu Sans, which is wider than any of these."""

_STYLE: Final[Any] = {  # a dict; matplotlib types its keys one by one
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": "#cfd4dc",
    "axes.labelcolor": _QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": _QUIET,
    "ytick.color": _QUIET,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": _GRID,
    "grid.linewidth": 1,
    "svg.fonttype": "none",
    "path.simplify_threshold": 0.5,
}


def chart(title: str, x: str, y: str, *, log_x: bool = False, log_y: bool = False) -> tuple[Figure, Axes]:
    """An empty picture. `title` is the one thing that it says; `x` and `y` name what is on the axes, with their units.

    For `bars`, `x` names the values and `y` is empty.
    """
    figure, (axes,) = panels(title, x, y, [""], log_x=log_x, log_y=log_y)
    return figure, axes


def panels(
    title: str,
    x: str,
    y: str,
    names: Sequence[str],
    *,
    log_x: bool = False,
    log_y: bool = False,
    share_y: bool = True,
) -> tuple[Figure, list[Axes]]:
    """Charts side by side, each with a name above it. They share the y axis unless what they show is of unlike size."""
    with rc_context(_STYLE):
        figure = Figure(
            figsize=(_WIDTH, 4.7), layout=ConstrainedLayoutEngine(h_pad=0.09, w_pad=0.09), facecolor="white"
        )
        found = figure.subplots(1, len(names), sharey=share_y, squeeze=False)[0]
        for each, name in zip(found, names, strict=True):
            each.set_xscale("log" if log_x else "linear")
            each.set_yscale("log" if log_y else "linear")
            each.grid(visible=True)
            each.set_xlabel(x)
            for axis, log in ((each.xaxis, log_x), (each.yaxis, log_y)):
                axis.set_major_formatter(FuncFormatter(lambda value, _position: human(value)))
                axis.set_minor_formatter(NullFormatter())
                if log:
                    axis.set_major_locator(LogLocator(numticks=12))
                    axis.set_minor_locator(NullLocator())
                else:
                    axis.set_major_locator(MaxNLocator(6))
            each.set_title(name, fontsize=10.5, color=_INK, fontweight="bold", pad=7)
        # What is on the y axis stands above it, where it can be read without turning one's head.
        found[0].annotate(
            y, (0, 1), (0, 26 if names[0] else 7), xycoords="axes fraction", textcoords="offset points", color=_QUIET
        )
        figure.suptitle(textwrap.fill(title, 68), x=0.012, ha="left", fontsize=13, fontweight="bold")
    return figure, list(found)


def line(
    axes: Axes,
    xs: Sequence[float],
    ys: Sequence[float],
    *,
    label: str,
    colour: str,
    spreads: Sequence[tuple[float, float]] | None = None,
    dashed: bool = False,
    dots: bool = True,
) -> None:
    """A line whose label stands at its end.

    Args:
        spreads: lowest and highest of each point, shown as error bars.
        dashed: for what isn't a contestant, or for the lesser of two that share a colour.
        dots: whether each point is marked; better not where there are many.
    """
    if spreads is not None:
        reach = [[max(0, y - low) for y, (low, _) in zip(ys, spreads, strict=True)],
                 [max(0, high - y) for y, (_, high) in zip(ys, spreads, strict=True)]]  # fmt: skip
        axes.errorbar(xs, ys, yerr=reach, fmt="none", ecolor=colour, elinewidth=1, alpha=0.6)
    axes.plot(
        xs, ys, color=colour, linewidth=2 if dots else 1.4, linestyle="--" if dashed else "-",
        marker="o" if dots else "", markersize=4.5, solid_capstyle="round", label=f"_{label}",
    )  # fmt: skip
    if len(xs):
        axes.annotate(
            label, (xs[-1], ys[-1]), (7, 0), textcoords="offset points", color=colour, fontsize=9.5, va="center",
            annotation_clip=False, bbox={"facecolor": "white", "alpha": 0.8, "pad": 0.6, "linewidth": 0},
            label=_LINE_END,
        )  # fmt: skip


def trace(
    axes: Axes, series: Iterable[Series], over: str, metric: str, *, label: str, colour: str, dashed: bool = False
) -> None:
    """A line of the medians of `metric`, over the label `over` of each series, with lowest and highest."""
    found = sorted(series, key=lambda each: float(each.labels[over]))
    line(
        axes,
        [float(each.labels[over]) for each in found],
        [each.median(metric) for each in found],
        label=label,
        colour=colour,
        spreads=[each.spread(metric) for each in found],
        dashed=dashed,
    )


def bars(
    axes: Axes,
    names: Sequence[str],
    values: Sequence[float],
    *,
    spreads: Sequence[tuple[float, float]] | None = None,
    colours: Sequence[str] | None = None,
) -> None:
    """Horizontal bars from top to bottom, each with its number; lowest and highest as error bars."""
    places = range(len(names))
    axes.barh(places, values, height=0.62, color=colours or COLOURS["asyncwb"])
    reached = list(values)
    if spreads is not None:
        reach = [[max(0, value - low) for value, (low, _) in zip(values, spreads, strict=True)],
                 [max(0, high - value) for value, (_, high) in zip(values, spreads, strict=True)]]  # fmt: skip
        axes.errorbar(values, places, xerr=reach, fmt="none", ecolor=_INK, elinewidth=1, alpha=0.7)
        reached = [max(value, high) for value, (_, high) in zip(values, spreads, strict=True)]
    for place, value, end in zip(places, values, reached, strict=True):
        axes.annotate(human(value), (end, place), (6, 0), textcoords="offset points", va="center", fontsize=9.5)
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.set_size_inches(_WIDTH, 1.3 + 0.45 * len(names))
    axes.set_yticks(places, names, color=_INK)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")


def limit(axes: Axes, y: float, label: str) -> None:
    """A horizontal line that something can't pass, or has to."""
    axes.axhline(y, color=COLOURS["limit"], linewidth=1.4, linestyle=(0, (4, 3)))
    axes.annotate(
        label, (0, y), (4, 3), xycoords=("axes fraction", "data"), textcoords="offset points", color=_QUIET, fontsize=9
    )


def ticks(axes: Axes, xs: Iterable[float]) -> None:
    """Marks on the x axis exactly where something was measured."""
    places = sorted(set(xs))
    if len(places) == 1:
        axes.set_autoscalex_on(False)
        axes.set_xlim(places[0] / 2, places[0] * 2)
    axes.set_xticks(places, [f"{each:g}" if each < 10_000 else human(each) for each in places])


def shades(colour: str, count: int) -> list[str]:
    """Variants of a colour, from itself to a pale one: for lines of one contestant with several settings."""
    red, green, blue = to_rgb(colour)
    pale = [0.6 * number / max(1, count - 1) for number in range(count)]
    return [to_hex((red + (1 - red) * by, green + (1 - green) * by, blue + (1 - blue) * by)) for by in pale]


def human(number: float) -> str:
    """Three digits at most that mean something: 950, 12.5k, 1M, 0.04."""
    if number == 0:
        return "0"
    if abs(number) < 1:
        return f"{number:.2g}" if abs(number) >= 1e-4 else f"{number:.0e}"
    # To three digits first, so that 999,999 is 1M.
    number = round(number, 2 - math.floor(math.log10(abs(number))))
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1)):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def duration(seconds: float) -> str:
    """As `human`, with the unit that fits: 850 µs, 12.5 ms, 1.2 s."""
    for unit, size in (("s", 1), ("ms", 1e-3)):
        if seconds >= size:
            return f"{human(seconds / size)} {unit}"
    return f"{human(seconds * 1e6)} µs"


def durations(axes: Axes) -> None:
    """Says what is on the y axis, which counts seconds, with the units that fit."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _position: duration(value)))


def save(figure: Figure, folder: Path, name: str) -> None:
    """Writes NAME.svg and NAME.png into the folder, after it has put labels of lines where they don't overlap."""
    for axes in figure.axes:
        if axes.get_yscale() == "linear" and axes.get_ylim()[0] > 0 and not axes.yaxis_inverted():
            axes.set_ylim(bottom=0)
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            if isinstance(axis.get_major_locator(), LogLocator) and high < 200 * low:
                # Powers of ten alone would be one or two marks.
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    figure.draw_without_rendering()  # only now it is known where things stand
    for axes in figure.axes:
        _spread_labels([each for each in axes.texts if isinstance(each, Annotation) and each.get_label() == _LINE_END])
    # The ids within an SVG are drawn from the salt: two pictures on one page must not share theirs.
    with rc_context({**_STYLE, "svg.hashsalt": name}):
        svg = folder / f"{name}.svg"
        figure.savefig(svg, metadata={"Date": None, "Creator": None})
        text = re.sub('font-family: [^;"]*', f"font-family: {_FONTS}", svg.read_text("utf-8"))
        svg.write_text("\n".join(row.rstrip() for row in text.splitlines()) + "\n", "utf-8")
        figure.savefig(folder / f"{name}.png", dpi=120, metadata={"Software": None})


_LINE_END: Final = "line-end"


def _spread_labels(labels: Sequence[Annotation], apart: float = 12.5) -> None:
    """Moves labels up and down until they are `apart` points from each other, from the lowest to the highest."""
    if not labels:
        return
    figure = labels[0].get_figure(root=True)
    assert figure is not None
    point = figure.dpi / 72
    heights = [each.get_window_extent() for each in labels]
    wanted = [(box.y0 + box.y1) / 2 / point for box in heights]
    order = sorted(range(len(labels)), key=lambda index: wanted[index])
    # Groups of labels that touch are centred on where they want to be.
    groups: list[list[int]] = []
    for index in order:
        groups.append([index])
        while len(groups) > 1 and _top(groups[-2], wanted, apart) + apart > _bottom(groups[-1], wanted, apart):
            last = groups.pop()
            groups[-1] += last
    for group in groups:
        for place, index in enumerate(group):
            height = _bottom(group, wanted, apart) + place * apart
            labels[index].xyann = (7, height - wanted[index])


def _bottom(group: Sequence[int], wanted: Sequence[float], apart: float) -> float:
    return sum(wanted[index] for index in group) / len(group) - (len(group) - 1) * apart / 2


def _top(group: Sequence[int], wanted: Sequence[float], apart: float) -> float:
    return _bottom(group, wanted, apart) + (len(group) - 1) * apart
