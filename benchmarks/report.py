"""One report of all questions that were measured: Markdown, with its pictures beside it."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Results
from benchmarks.question import Figure, Question


def write_report(answered: Sequence[tuple[Question, Results]], out: Path) -> Path:
    """Draws the plots and writes OUT/README.md; returns its path."""
    figures: list[Figure] = []
    chapters: list[str] = []
    for question, results in answered:
        figures += question.figures(results)
        chapters += [f"## {question.title}", question.asks, ""]
        for plot in question.plots(results, out):
            chapters += [f"![{plot.caption}]({plot.name}.svg)", "", plot.caption, ""]
        chapters += [question.tables(results)]
        chapters += [f"- **{name}**: {why}" for name, why in question.fair.items()]
    table = ["| what | target | measured | |", "|---|---|---|---|"]
    table += [f"| {each.what} | {each.target} | {each.measured} | {'✓' if each.reached else '✗'} |" for each in figures]
    path = out / "README.md"
    path.write_text("\n".join([*table, "", *chapters]) + "\n", "utf-8")
    return path
