"""The one table that a run of the proofs ends with."""

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.proofs.runner.catalogue import FIGURES, HANGING_SECONDS, RECOVERIES, RECOVERY_SECONDS, Form
from tests.proofs.runner.report import Report
from tests.proofs.runner.running import Run


def total(run: Run) -> Report:
    """All that was done."""
    report = Report()
    for progress in run.progress.values():
        report.add(progress.report)
    return report


def shortfalls(run: Run, form: Form) -> list[str]:
    """What didn't hold, or was not reached. A long run reports what it has reached; it is no failure to be slow."""
    report = total(run)
    problems = list(report.problems)
    for name in ("lost", "stale", "resurrected"):
        if number := getattr(report, name):
            problems.append(f"{number} {name}")
    for figure in FIGURES:
        reached = report.counts[figure.count]
        if form == "ci" and figure.proof in run.progress and reached < figure.ci:
            problems.append(f"{figure.count}: {reached:,} instead of {figure.ci:,}")
    for name, what in RECOVERIES.items():
        recoveries = run.progress[name].report.recoveries if name in run.progress else []
        if (slow := percentile(recoveries, 0.99)) > HANGING_SECONDS:
            problems.append(f"{what}: {slow:.2f} s at the 99th percentile")
    return problems


def percentile(values: Sequence[float], share: float) -> float:
    """0 for none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def _kinds(report: Report) -> dict[str, list[tuple[str, int]]]:
    """What was counted besides the figures: `group: kind`, or what stands alone, under ""."""
    asked = {figure.count for figure in FIGURES}
    groups: dict[str, list[tuple[str, int]]] = {"": []}
    for name, count in sorted(report.counts.items()):
        if name not in asked:
            group, _, kind = name.rpartition(": ")
            groups.setdefault(group, []).append((kind, count))
    return groups


def show(run: Run, form: Form, console: Console) -> None:
    """Prints the table, and what didn't hold."""
    report = total(run)
    table = Table(title=f"Proofs, {form} form, {run.seconds:,.0f} s", title_justify="left")
    for column in ("what", "how many", "asked for", "a unit-second"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for figure in FIGURES:
        if figure.proof in run.progress:
            wanted = figure.target(form)
            busy = run.progress[figure.proof].busy_seconds
            reached = report.counts[figure.count]
            rate = f"{reached / busy:,.1f}" if busy else ""
            table.add_row(figure.count, f"{reached:,}", f"{wanted:,}" if wanted else "", rate)
    table.add_section()
    kinds = _kinds(report)
    for name, count in kinds.pop("", []):
        table.add_row(name, f"{count:,}", "", "")
    table.add_section()
    for name in ("lost", "stale", "resurrected"):
        table.add_row(name, str(getattr(report, name)), "0", "")
    for name, what in RECOVERIES.items():
        if name in run.progress and (recoveries := run.progress[name].report.recoveries):
            median, most, slowest = (f"{percentile(recoveries, share):.2f} s" for share in (0.5, 0.99, 1.0))
            bound = f"99 % in {RECOVERY_SECONDS:g} s" if name == "chaos" else ""
            table.add_row(f"{what}: median, 99 %, slowest", f"{median}, {most}, {slowest}", bound, "")
    console.print(table)
    for group, counted in sorted(kinds.items()):
        told = ", ".join(f"{name} {count:,}" for name, count in counted)
        console.print(f"{group} ({sum(count for _, count in counted):,}): {told}", markup=False, highlight=False)
    problems = shortfalls(run, form)
    for problem in problems[:50]:
        console.print(f"problem: {problem}", markup=False, highlight=False)
    console.print(f"{len(problems)} problem(s)")
