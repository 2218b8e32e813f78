"""Server: how much of the server's time a record takes from its put to its ack, which bounds all processes together."""

from functools import partial
from typing import Final

from benchmarks.harness.rounds import Bench, Contestant, Label, Results
from benchmarks.questions.costs import bare_commands, dirty_record
from benchmarks.questions.question import Question, cell

_STEPS: Final = ("put", "claim", "ack", "record")


def _run(bench: Bench) -> None:
    contestants: list[Contestant] = []
    for records in bench.pick((20_000, 400_000), (2000,)):
        for writers in (1, 4):
            labels: dict[str, Label] = {"records": records, "writers": writers}
            run = partial(dirty_record, records, appendonly=True, writers=writers)
            contestants.append(Contestant(name=_name(records, writers), run=run, labels=labels))
        bare = partial(bare_commands, records)
        contestants.append(Contestant(name=f"bare commands, {records} dirty", run=bare, labels={"records": records}))
    bench.measure("the server's time", contestants, rounds=3)


def _name(records: int, writers: int) -> str:
    return f"asyncwb, {records} dirty, {writers} writer{'s' if writers > 1 else ''}"


def _tables(results: Results) -> str:
    rows = [
        "### Microseconds of the server for each record, with an append-only file", "",
        "| already dirty | by | put | claim and read | ack | together |", "|--:|---|--:|--:|--:|--:|",
    ]  # fmt: skip
    for series in results.where():
        steps = " | ".join(cell(results, series.name, f"{step}_us") for step in _STEPS)
        writers = series.labels.get("writers")
        by = f"asyncwb, {writers} writer{'s' * (writers != 1)}" if writers else "bare commands"
        rows.append(f"| {series.labels['records']} | {by} | {steps} |")
    return "\n".join([*rows, ""])


QUESTION: Final = Question(
    name="server",
    title="The server's time",
    asks="How much of the server's time does a record take, from its put to its ack?",
    run=_run,
    fair={
        "the server's time": "what INFO commandstats says of the scripts, and of the MGET by which a flusher reads "
        "records, for new keys with values of 200 bytes, a thousand at a time.",
        "an earlier commit": "with `--against COMMIT` the same records go through the same steps of that commit.",
    },
    tables=_tables,
)
