"""One report of all questions that were measured: Markdown for GitHub, and the same as one page of HTML."""

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from markdown_it import MarkdownIt

from benchmarks.harness.rounds import Results
from benchmarks.questions.question import Figure, Question

Answered = Sequence[tuple[Question, Results]]

TITLE: Final = "Benchmarks of asyncwb"
_INTRODUCTION: Final = (
    "Every figure is a median of several rounds, with the lowest and the highest in brackets. asyncwb and what it is "
    "compared with were measured in turn, in the same run on the same machine; a ratio (×) is taken round by round. "
    "Figures of different machines can't be compared, ratios mostly can."
)
_QUICK: Final = (
    "> **These are results of a smoke test** (`--quick`): small sizes, one round, on whatever machine there was. "
    "The numbers mean nothing."
)


def write_report(answered: Answered, out: Path) -> Path:
    """Draws the plots and writes OUT/README.md and OUT/report.html; returns the path of the first."""
    text = markdown(answered, out)
    path = out / "README.md"
    path.write_text(text, "utf-8")
    (out / "report.html").write_text(page(text, out), "utf-8")
    return path


def markdown(answered: Answered, out: Path) -> str:
    """The report; its pictures are drawn into `out`."""
    parts = [f"# {TITLE}", _INTRODUCTION]
    if any(results.settings.get("quick") for _, results in answered):
        parts += [_QUICK]
    parts += [_contents(answered)]
    if figures := [figure for question, results in answered for figure in question.figures(results)]:
        parts += ["## Figures", _figure_table(figures)]
    for question, results in answered:
        parts += _chapter(question, results, out)
    parts += ["## Machine, versions and settings", *_origin(answered)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _contents(answered: Answered) -> str:
    return " · ".join(f"[{question.title}](#{_slug(question.title)})" for question, _ in answered)


def _figure_table(figures: Sequence[Figure]) -> str:
    rows = ["| what | target | measured | reached | command |", "|---|---|---|:-:|---|"]
    rows += [
        f"| {each.what} | {each.target} | {each.measured} | {'✓' if each.reached else '✗'} | `{each.command}` |"
        for each in figures
    ]
    return "\n".join(rows)


def _chapter(question: Question, results: Results, out: Path) -> list[str]:
    parts = [f"## {question.title}", question.asks]
    for plot in question.plots(results, out):
        parts += [f"![{plot.caption}]({plot.name}.svg)", plot.caption]
    if tables := question.tables(results):
        parts += [tables]
    if question.fair:
        parts += ["### Why this is fair", "\n".join(f"- **{name}**: {why}" for name, why in question.fair.items())]
    parts += [f"Raw results: [{question.name}.json]({question.name}.json)."]
    return parts


def _origin(answered: Answered) -> list[str]:
    """What all results share, once; and for each question what they don't."""
    origins = [_flat(results.machine) for _, results in answered]
    names = list(dict.fromkeys(name for origin in origins for name in origin))
    own = [name for name in names if name in _ALWAYS_OWN or len({str(origin.get(name, "–")) for origin in origins}) > 1]
    shared = [f"| {name} | {_cell(origins[0][name])} |" for name in names if name not in own]
    parts = ["\n".join(["| | |", "|---|---|", *shared])] if shared else []
    rows = [f"| question | {' | '.join(own)} | settings |", f"|---|{'---|' * len(own)}---|"]
    for (question, results), origin in zip(answered, origins, strict=True):
        settings = ", ".join(f"{name}: {_cell(value)}" for name, value in results.settings.items())
        rows.append(f"| {question.name} | {' | '.join(_cell(origin.get(name, '–')) for name in own)} | {settings} |")
    return [*parts, "\n".join(rows)]


_ALWAYS_OWN: Final = ("date", "commit", "command")


def _flat(machine: Mapping[str, Any]) -> dict[str, Any]:
    """A line for each package, too."""
    flat = {name.replace("_", " "): value for name, value in machine.items() if name != "packages"}
    return flat | dict(machine.get("packages", {}))


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|")


def _slug(title: str) -> str:
    """How GitHub names the anchor of a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


# The same as a page


def page(text: str, out: Path) -> str:
    """The Markdown as HTML that needs nothing else: its pictures, which are in `out`, are within."""
    body = str(MarkdownIt("commonmark", {"html": False}).enable("table").render(text))
    body = re.sub(
        r'<p><img src="([^"]+)\.svg" alt="[^"]*" /></p>\n<p>(.*?)</p>',
        lambda found: f"<figure>{_inline(out, found[1])}<figcaption>{found[2]}</figcaption></figure>",
        body,
        flags=re.DOTALL,
    )
    body = re.sub("<h2>(.*?)</h2>", lambda found: f'<h2 id="{_slug(html.unescape(found[1]))}">{found[1]}</h2>', body)
    body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    body = body.replace('">✓</td>', '" class="yes">✓</td>').replace('">✗</td>', '" class="no">✗</td>')
    return _PAGE.format(title=TITLE, style=_STYLE, body=body)


def _inline(out: Path, name: str) -> str:
    """An SVG within HTML: without its prologue, and with ids that no other picture has."""
    svg = (out / f"{name}.svg").read_text("utf-8")
    svg = re.sub("<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    return re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg)).strip()


_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}</main>
</body>
</html>
"""

_STYLE: Final = """
:root { --ink: #1d2939; --quiet: #5b6675; --line: #e4e7ec; --paper: #fff; --shade: #f7f8fa; --link: #0b66c3;
  --yes: #12805c; --no: #c4320a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --quiet: #a3adba; --line: #323a46; --paper: #14181f; --shade: #1c222b; --link: #6db3ff;
    --yes: #4cc99a; --no: #ff8a65; }
}
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 17px/1.6 system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; }
main { max-width: 56rem; margin: 0 auto; padding: 3rem 1.25rem 6rem; }
h1 { font-size: 2.3rem; line-height: 1.15; letter-spacing: -0.02em; margin: 0 0 1rem; }
h2 { font-size: 1.55rem; line-height: 1.25; letter-spacing: -0.01em; margin: 4rem 0 0.75rem; padding-top: 1.25rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.1rem; margin: 2.25rem 0 0.5rem; }
h2 + p { color: var(--quiet); font-size: 1.1rem; }
a { color: var(--link); text-decoration-thickness: 1px; text-underline-offset: 0.2em; }
blockquote { margin: 1.5rem 0; padding: 0.25rem 1.1rem; border-left: 4px solid var(--no); background: var(--shade); }
code { font: 0.86em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; background: var(--shade);
  padding: 0.1em 0.3em; border-radius: 4px; }
figure { margin: 2rem 0; }
figure svg { display: block; width: 100%; height: auto; background: #fff; border-radius: 10px;
  box-shadow: 0 0 0 1px var(--line); }
figcaption { color: var(--quiet); font-size: 0.92rem; margin: 0.6rem 0.25rem 0; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 0.88rem; font-variant-numeric: tabular-nums; min-width: 100%; }
th, td { text-align: left; padding: 0.45rem 0.75rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--quiet); font-weight: 600; }
tbody tr:hover { background: var(--shade); }
td code { white-space: nowrap; }
.yes { color: var(--yes); font-weight: 700; }
.no { color: var(--no); font-weight: 700; }
"""
