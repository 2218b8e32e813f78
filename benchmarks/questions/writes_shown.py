"""How the answer of `writes` is shown: its figures, tables and pictures."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.harness.rounds import Results, Series
from benchmarks.questions.question import Figure, Plot, at_least
from benchmarks.report.plotting import COLOURS, bars, chart, limit, save, ticks, trace

_COMMAND: Final = "uv run python -m benchmarks writes"
_WRITES: Final = "writes_per_s"
_SAVED: Final = "saved_per_s"
_USUAL: Final[dict[str, str | int]] = {"socket": "TCP", "loop": "asyncio", "bytes": 200}

FAIR: Final = {
    "everything": "the same server (append-only file, fsync every second), the same keys of 13 bytes in no order, and "
    "values that differ; one Python process with redis-py and hiredis. The server is emptied before each run, and "
    "after it everything that was written has to be there.",
    "asyncwb acknowledged": "`flushers=0`: what `set` costs, with nobody flushing. The article's write, the pipelines "
    "and MSET, too, are measured without anybody who saves what they wrote.",
    "asyncwb saving": "the defaults: four flushers save into SQLite (synchronous=FULL) in the same process meanwhile. "
    "Each write has a key of its own, so nothing is coalesced. *Saved* counts until `drain` returns.",
    "article": "its `MULTI SET LPUSH EXEC` for each write, with a connection for each writer, or 50 for all; figures "
    "take the quickest of all numbers of writers.",
    "pipeline, MSET": "a batch that is there already, where asyncwb's writers come one by one and each waits for its "
    "own answer. They keep plain values: no version, no order, no list of what has to be saved. Figures take batches "
    "of 1000 on one connection, as asyncwb has one; the table has other sizes, and two connections.",
    "SET": "one caller that awaits each SET, without a pipeline.",
    "SQLite": "aiosqlite in WAL mode, synchronous=FULL and asyncwb's own pragmas; each write is one statement that "
    "commits by itself, which saves a trip to the connection's thread. Figures take the best number of writers.",
    "Motor": "one upsert a write, majority and journaled; a mongod on the same machine. Figures take the best number "
    "of writers.",
    "SAQ, streaq": "one worker process, started with the queue's own command, that saves each job to SQLite as above; "
    "50 callers enqueue at the same time. No results are kept and no job is logged; the better of two concurrencies "
    "counts. asyncwb is measured the same way: from the first `set` until the last record is in SQLite.",
}


def figures(results: Results) -> list[Figure]:
    many = [_named(results, "asyncwb acknowledged", writers=writers) for writers in (200, 1000)]
    quickest = _best(many, _WRITES)
    saving = _best([_named(results, "asyncwb saving", writers=200)], _WRITES)
    found: list[Figure] = []

    def add(of: Series | None, to: Series | None, metric: str, least: float, what: str) -> None:
        if of is not None and to is not None:
            found.extend(at_least(results, of.name, to.name, metric, least, what=what, command=_COMMAND))

    article = _best([results.where(what="article", **_USUAL)], _WRITES)
    if quickest is not None:
        mine = f"set, {quickest.labels['writers']} writers"
        if article is not None:
            theirs = f"article's write, {article.labels['writers']} writers"
            add(quickest, article, _WRITES, 18, f"{mine} : {theirs}")
        for what, least in (("pipeline", 2.2), ("MSET", 0.55)):
            batch = _best([_batch_of_1000(results, what)], _WRITES)
            add(quickest, batch, _WRITES, least, f"{mine} : redis-py {what} of 1000{' SETs' * (what == 'pipeline')}")
        for place in ({"socket": "unix"}, {"loop": "uvloop"}):
            _figures_of_place(results, place, add)
    for what, least, theirs in (("SQLite", 20, "commit per write in SQLite"), ("Motor", 60, "Motor upsert per write")):
        direct = _best([results.where(what=what)], _WRITES)
        if quickest is not None:
            add(quickest, direct, _WRITES, least, f"set, {quickest.labels['writers']} writers : {theirs}")
    for queue in ("SAQ", "streaq"):
        add(saving, _best([results.where(what=queue)], _SAVED), _SAVED, 15, f"set to saved : {queue} job to saved")
    lone = _best([_named(results, "asyncwb acknowledged", writers=1)], _WRITES)
    add(lone, _best([results.where(what="SET")], _WRITES), _WRITES, 0.8, "one lone writer's set : plain SET")
    # While it saves, what counts is what arrives: acknowledgements that run ahead of the saves only fill the buffer.
    for form, metric, doing in (("acknowledged", _WRITES, "set, nobody flushing"), ("saving", _SAVED, "set to saved")):
        default = _best([results.where(what=f"setting {form}", setting="defaults")], metric)
        others = [each for each in results.where(what=f"setting {form}") if each.labels["setting"] != "defaults"]
        best = _best([others], metric)
        if best is not None:
            what = f"{doing}, 200 writers, defaults : best other settings ({best.labels['setting']})"
            add(default, best, metric, 0.85, what)
    return found


def _figures_of_place(results: Results, place: Mapping[str, str | int], add: Callable[..., None]) -> None:
    """The same against Redis itself, on another socket or another event loop."""
    labels = {**_USUAL, **place}
    mine = _best([results.where(what="asyncwb acknowledged", **labels)], _WRITES)
    if mine is None:
        return
    name = f"{'unix socket' if 'socket' in place else 'uvloop'}: set, {mine.labels['writers']} writers"
    add(mine, _best([results.where(what="article", **labels)], _WRITES), _WRITES, 18, f"{name} : article's write")
    for what, least in (("pipeline", 2.2), ("MSET", 0.55)):
        batch = _best([results.where(what=what, batch=1000, connections=1, **labels)], _WRITES)
        add(mine, batch, _WRITES, least, f"{name} : redis-py {what} of 1000{' SETs' * (what == 'pipeline')}")


def tables(results: Results) -> str:
    return "\n".join(
        [*_by_writers(results), *_by_place(results), *_by_batch(results), *_databases(results), *_settings(results)]
    )


def plots(results: Results, folder: Path) -> list[Plot]:
    return [*_plot_writers(results, folder), *_plot_today(results, folder)]


def _named(results: Results, what: str, **labels: str | int) -> list[Series]:
    return results.where(what=what, **{**_USUAL, **labels})


def _batch_of_1000(results: Results, what: str) -> list[Series]:
    return _named(results, what, batch=1000, connections=1)


def _best(groups: Iterable[Iterable[Series]], metric: str) -> Series | None:
    """The one with the highest median; None if nothing was measured."""
    found = [each for group in groups for each in group]
    return max(found, key=lambda each: each.median(metric), default=None)


def _by_writers(results: Results) -> list[str]:
    columns = sorted({int(each.labels["writers"]) for each in results.where(**_USUAL) if "writers" in each.labels})
    rows = [
        ("asyncwb, acknowledged", "asyncwb acknowledged", _WRITES),
        ("asyncwb, acknowledged while it saves", "asyncwb saving", _WRITES),
        ("asyncwb, set to saved", "asyncwb saving", _SAVED),
        ("article's write", "article", _WRITES),
        ("plain SET", "SET", _WRITES),
        ("SQLite, a commit per write", "SQLite", _WRITES),
        ("Motor, an upsert per write", "Motor", _WRITES),
    ]
    return _table(
        "Writes per second, by concurrent writers",
        ["", *(f"{writers} writer{'s' * (writers > 1)}" for writers in columns)],
        [
            [name, *(_cell(_best([_named(results, what, writers=writers)], metric), metric) for writers in columns)]
            for name, what, metric in rows
        ],
    )


def _by_place(results: Results) -> list[str]:
    places = list(
        dict.fromkeys((each.labels["socket"], each.labels["loop"], each.labels["bytes"]) for each in results.where())
    )
    columns: dict[str, dict[str, str | int]] = {
        "acknowledged, 200 writers": {"what": "asyncwb acknowledged", "writers": 200},
        "1000 writers": {"what": "asyncwb acknowledged", "writers": 1000},
        "acknowledged while it saves, 200 writers": {"what": "asyncwb saving", "writers": 200},
        "1000 writers ": {"what": "asyncwb saving", "writers": 1000},
        "article, 200 writers": {"what": "article", "writers": 200},
        "pipeline of 1000": {"what": "pipeline", "batch": 1000, "connections": 1},
        "MSET of 1000": {"what": "MSET", "batch": 1000, "connections": 1},
    }
    return _table(
        "Writes per second, by socket, event loop and size of the values",
        ["", *columns],
        [
            [
                f"{socket}, {loop}, {size} bytes",
                *(
                    _cell(_best([results.where(socket=socket, loop=loop, bytes=size, **labels)], _WRITES), _WRITES)
                    for labels in columns.values()
                ),
            ]
            for socket, loop, size in places
        ],
    )


def _by_batch(results: Results) -> list[str]:
    columns = sorted({int(each.labels["batch"]) for each in results.where() if "batch" in each.labels})
    return _table(
        "Writes per second of redis-py, by size of the batch",
        ["", *(f"batches of {batch}" for batch in columns)],
        [
            [
                f"{what}, {connections} connection{'s' * (connections > 1)}",
                *(
                    _cell(_best([_named(results, what, batch=batch, connections=connections)], _WRITES), _WRITES)
                    for batch in columns
                ),
            ]
            for what in ("pipeline", "MSET")
            for connections in (1, 2)
        ],
    )


def _databases(results: Results) -> list[str]:
    found = [*_named(results, "asyncwb saving", writers=200)]
    for what in ("SQLite", "Motor", "SAQ", "streaq"):
        found += results.where(what=what)
    return _table(
        "Into a database",
        ["", "acknowledged or enqueued per second", "saved per second"],
        [[each.name, _cell(each, _WRITES), _cell(each, _SAVED)] for each in found],
    )


def _settings(results: Results) -> list[str]:
    names = dict.fromkeys(str(each.labels["setting"]) for each in results.where() if "setting" in each.labels)
    rows: list[list[str]] = []
    for name in names:
        saving = _best([results.where(what="setting saving", setting=name)], _WRITES)
        acknowledged = _best([results.where(what="setting acknowledged", setting=name)], _WRITES)
        rows.append([name, _cell(acknowledged, _WRITES), _cell(saving, _WRITES), _cell(saving, _SAVED)])
    heads = ["200 writers", "acknowledged per second", "acknowledged per second while it saves", "saved per second"]
    return _table("What settings change", heads, rows)


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table with a heading; rows without a number are left out."""
    lines = [f"| {' | '.join(row)} |" for row in rows if any(row[1:])]
    if not lines:
        return []
    return [f"### {title}", "", f"| {' | '.join(heads)} |", "|---" + "|--:" * (len(heads) - 1) + "|", *lines, ""]


def _cell(series: Series | None, metric: str) -> str:
    if series is None or metric not in series.samples[0]:
        return ""
    low, high = series.spread(metric)
    return f"{series.median(metric):,.0f} ({low:,.0f} – {high:,.0f})"


def _plot_writers(results: Results, folder: Path) -> list[Plot]:
    mine = _named(results, "asyncwb acknowledged")
    if len(mine) < 2:
        return []
    figure, axes = chart(
        "Writers that wait at the same time share a call: more of them, more writes",
        "concurrent writers",
        "writes acknowledged per second",
        log_x=True,
        log_y=True,
    )
    trace(axes, mine, "writers", _WRITES, label="asyncwb", colour=COLOURS["asyncwb"])
    saving = _named(results, "asyncwb saving")
    trace(axes, saving, "writers", _WRITES, label="asyncwb, saving\nmeanwhile", colour=COLOURS["asyncwb"], dashed=True)
    for what, label, colour in (
        ("article", "article", COLOURS["article"]),
        ("SQLite", "SQLite", COLOURS["baseline"]),
        ("Motor", "MongoDB", COLOURS["other"]),
    ):
        # One of each number of writers: the best number of connections.
        counts = sorted({int(each.labels["writers"]) for each in _named(results, what)})
        best = [_best([_named(results, what, writers=writers)], _WRITES) for writers in counts]
        trace(axes, [each for each in best if each is not None], "writers", _WRITES, label=label, colour=colour)
    for what in ("pipeline", "MSET"):
        batch = _best([_batch_of_1000(results, what)], _WRITES)
        if batch is not None:
            limit(axes, batch.median(_WRITES), f"redis-py, {what} of 1000")
    ticks(axes, [float(each.labels["writers"]) for each in mine])
    save(figure, folder, "writes-writers")
    return [
        Plot(
            name="writes-writers",
            caption="Writes acknowledged per second, by how many writers wait for theirs at the same time. asyncwb "
            "sends the writes of all who wait in one call, and each still returns only when Redis has its value; the "
            "article's algorithm makes a transaction of each write, and a database a commit. Dashed in grey: what "
            "redis-py does with batches of 1000 that are there already.",
        )
    ]


def _plot_today(results: Results, folder: Path) -> list[Plot]:
    saving = _best([_named(results, "asyncwb saving", writers=200)], _WRITES)
    if saving is None:
        return []
    found: list[tuple[str, Series | None, str, str]] = [
        ("asyncwb: acknowledged, saved meanwhile", saving, _WRITES, "asyncwb"),
        ("asyncwb: set to saved in SQLite", saving, _SAVED, "asyncwb"),
        ("SQLite, a commit per write", _best([results.where(what="SQLite")], _SAVED), _SAVED, "baseline"),
        ("MongoDB, an upsert per write", _best([results.where(what="Motor")], _SAVED), _SAVED, "baseline"),
        ("SAQ, a job per write, saved in SQLite", _best([results.where(what="SAQ")], _SAVED), _SAVED, "baseline"),
        ("streaq, a job per write, saved in SQLite", _best([results.where(what="streaq")], _SAVED), _SAVED, "baseline"),
        ("only into Redis: article's write", _best([_named(results, "article")], _WRITES), _WRITES, "article"),
        *(
            (f"only into Redis: {what} of 1000", _best([_batch_of_1000(results, what)], _WRITES), _WRITES, "limit")
            for what in ("pipeline", "MSET")
        ),
    ]
    shown = [(name, series, metric, colour) for name, series, metric, colour in found if series is not None]
    others = [series.median(metric) for _, series, metric, colour in shown if colour == "baseline"]
    times = f"{saving.median(_SAVED) / max(others):.0f} times as many writes as" if others else "more than"
    title = f"asyncwb saves {times} a service that saves them one by one"
    # Linear, the batches of MSET would leave nothing to see of what ends in a database.
    figure, axes = chart(title, "writes per second (each line is ten times the one before)", "", log_x=True)
    bars(
        axes,
        [name for name, *_ in shown],
        [series.median(metric) for _, series, metric, _ in shown],
        spreads=[series.spread(metric) for _, series, metric, _ in shown],
        colours=[COLOURS[colour] for *_, colour in shown],
    )
    axes.set_xlim(left=100)
    save(figure, folder, "writes-today")
    return [
        Plot(
            name="writes-today",
            caption="Writes per second of a service on two cores. Blue: asyncwb, with 200 writers and no tuning. Dark "
            "grey: what people do today, each write durable in a database before the next thing happens, or a job that "
            "does so. The rest only reaches Redis, and nobody saves it; the batches of 1000 have to be there already.",
        )
    ]
