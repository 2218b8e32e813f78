"""The benchmark suite's pictures and report, drawn from made-up results."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.axes import Axes

from benchmarks.harness.machine import command_of
from benchmarks.harness.places import SQLITE
from benchmarks.harness.rounds import Contestant, Label, Results, Sample, Series
from benchmarks.questions import flush_report
from benchmarks.questions.question import Figure, Plot, Question
from benchmarks.report.plotting import COLOURS, bars, chart, duration, human, limit, line, panels, save, ticks, trace
from benchmarks.report.report import write_report

# Pictures


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (0.04, "0.04"),
        (1, "1"),
        (12.5, "12.5"),
        (999.9, "1k"),
        (12_500, "12.5k"),
        (999_999, "1M"),
        (3e6, "3M"),
    ],
)
def test_numbers_have_three_digits_at_most(number: float, shown: str) -> None:
    assert human(number) == shown


def test_durations_have_the_unit_that_fits() -> None:
    assert [duration(each) for each in (1.25, 0.0125, 0.00085)] == ["1.25 s", "12.5 ms", "850 µs"]


def draw(folder: Path, name: str = "picture") -> Axes:
    figure, axes = chart("Two lines", "writers", "writes per second", log_x=True)
    series = [Series(str(n), {"writers": n}, [{"x": n}, {"x": 2 * n}]) for n in (1, 10, 100)]
    trace(axes, series, "writers", "x", label="asyncwb", colour=COLOURS["asyncwb"])
    line(axes, [1, 10, 100], [2, 15, 151], label="article", colour=COLOURS["article"], dashed=True)
    limit(axes, 200, "limit")
    ticks(axes, [1, 10, 100])
    save(figure, folder, name)
    return axes


def test_labels_of_lines_that_meet_stand_apart(tmp_path: Path) -> None:
    axes = draw(tmp_path)
    labels = [each.get_window_extent() for each in axes.texts if each.get_text() in ("asyncwb", "article")]
    middles = sorted((each.y0 + each.y1) / 2 for each in labels)
    assert middles[1] - middles[0] > 14  # pixels; the lines end in the same place


def test_the_same_picture_is_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        draw(tmp_path / folder)
    for suffix in ("svg", "png"):
        first, second = ((tmp_path / folder / f"picture.{suffix}").read_bytes() for folder in ("a", "b"))
        assert first == second
    assert len((tmp_path / "a/picture.svg").read_bytes()) < 30_000


def test_bars_and_panels_are_drawn(tmp_path: Path) -> None:
    figure, axes = chart("Bars", "records per second", "")
    bars(axes, ["one", "two"], [1000, 2000], spreads=[(900, 1100), (1900, 2200)])
    save(figure, tmp_path, "bars")
    figure, parts = panels("Panels", "keys", "errors", ["watch", "script"])
    for axes in parts:
        line(axes, [1, 2], [3, 4], label="asyncwb", colour=COLOURS["asyncwb"])
    save(figure, tmp_path, "panels")
    assert "2k" in (tmp_path / "bars.svg").read_text()
    assert "watch" in (tmp_path / "panels.svg").read_text()


# The report


def question(name: str = "one", *, reached: bool = True) -> Question:
    def plots(_results: Results, folder: Path) -> list[Plot]:
        draw(folder, f"{name}-picture")
        return [Plot(name=f"{name}-picture", caption=f"What `{name}` shows.")]

    figure = Figure(
        what=f"{name} : baseline", target="at least 2", measured="3 (2 to 4)", reached=reached, command=f"run {name}"
    )
    return Question(
        name=name, title=f"Question {name}: how fast?", asks=f"How fast is {name}?", run=lambda _bench: None,
        fair={"baseline": "has its best settings"}, plots=plots, figures=lambda _results: [figure],
        tables=lambda _results: "### Table\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n",
    )  # fmt: skip


def answered(*names: str, **settings: bool) -> list[tuple[Question, Results]]:
    found = []
    for name in names:
        results = Results({"quick": False, **settings})
        results.machine = {"commit": f"c-{name}", "date": "2030-01-01", "cores": 2, "packages": {"redis": "8.1"}}
        found.append((question(name, reached=name == "one"), results))
    return found


Attributes = list[tuple[str, str | None]]


class Page(HTMLParser):
    """Collects the open tags, the references and the ids of a page."""

    VOID = frozenset({"meta", "br", "hr", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str | None] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.handle_startendtag(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: Attributes) -> None:
        for name, value in attrs:
            self.ids += [value] if name == "id" else []
            self.links += [value or ""] if name in ("href", "src", "xlink:href") else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_report_has_figures_chapters_and_origins(tmp_path: Path) -> None:
    path = write_report(answered("one", "two"), tmp_path)
    text = path.read_text("utf-8")
    assert path == tmp_path / "README.md"
    assert "| one : baseline | at least 2 | 3 (2 to 4) | ✓ | `run one` |" in text
    assert "| two : baseline | at least 2 | 3 (2 to 4) | ✗ | `run two` |" in text
    for name in ("one", "two"):
        for part in (
            f"](#question-{name}-how-fast)", f"## Question {name}: how fast?", f"({name}-picture.svg)",
            f"[{name}.json]({name}.json)", f"c-{name}",
        ):  # fmt: skip
            assert part in text
    assert "- **baseline**: has its best settings" in text
    # What all questions share stands there once; their commits differ.
    assert text.count("| redis | 8.1 |") == 1
    assert "mean nothing" not in text


def test_report_says_that_quick_results_mean_nothing(tmp_path: Path) -> None:
    assert "mean nothing" in write_report(answered("one", quick=True), tmp_path).read_text("utf-8")
    assert "mean nothing" in (tmp_path / "report.html").read_text("utf-8")


def test_page_needs_nothing_else(tmp_path: Path) -> None:
    write_report(answered("one", "two"), tmp_path)
    text = (tmp_path / "report.html").read_text("utf-8")
    page = Page(text)
    assert page.open == []
    assert (text.count("<svg"), text.count("<img")) == (2, 0)
    # Links lead into the page or to the raw results.
    anchors = {each.removeprefix("#") for each in page.links if each.startswith("#")}
    assert anchors <= set(page.ids)
    assert {each for each in page.links if not each.startswith("#")} == {"one.json", "two.json"}
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r"url\((?!#)|@import|<script", text)


def test_report_without_questions_is_empty_but_there(tmp_path: Path) -> None:
    assert write_report([], tmp_path).read_text("utf-8").startswith("# Benchmarks")


def test_figures_of_flush_are_of_what_was_measured_again() -> None:
    """The best of several settings was chosen partly by luck, so the luck in that choice must not count."""
    results = Results()

    def add(who: str, number: float, *, is_again: bool = False, **labels: Label) -> None:
        async def run() -> Sample:
            raise NotImplementedError

        name = f"SQLite: {who} {labels}"
        one = Contestant(name=name, run=run, labels={"backend": "SQLite", "who": who, **labels})
        one = flush_report.again(one) if is_again else one
        results.series[one.name] = Series(one.name, dict(one.labels), [{flush_report.METRIC: number}])

    for is_again, factor in ((False, 1.0), (True, 0.5)):
        add("asyncwb, defaults", 900.0, flushers=4, batch=1000, is_again=is_again)
        add("asyncwb", 1000.0 * factor, flushers=8, batch=1000, is_again=is_again)
        add("limit", 2000.0, batch=1000, is_again=is_again)
        add("article", 2.0, flushers=1, batch=1, is_again=is_again)
        add("article", 5.0, flushers=32, batch=1, is_again=is_again)
    add("asyncwb", 800.0, flushers=16, batch=1000)  # wasn't the best
    shown = {figure.what: figure.measured.split()[0] for figure in flush_report.figures(results)}
    ratios = {what.partition(" : ")[2]: ratio for what, ratio in shown.items()}
    assert ratios["article's flusher, one, which is safe"] == "250"
    assert ratios["article's flusher, 32 that share commits, and lose writes"] == "100"
    assert ratios["bare limit of SQLite, the same batch"] == "0.25"
    assert ratios["best settings, flush to SQLite"] == "1.8"
    assert len(flush_report.finalists(results, SQLITE)) == 5


def test_results_name_their_command_and_no_folder() -> None:
    assert command_of(["flush", "--out", "/some/where", "--quick"]) == "python -m benchmarks flush --quick"
    assert command_of(["--out=/some/where"]) == "python -m benchmarks"
