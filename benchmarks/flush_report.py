"""How the answer to "flush" is shown: a picture and a table for each backend, and its lines of the figures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks.harness import Results, Series
from benchmarks.places import PLACES, SQLITE, Place
from benchmarks.plotting import COLOURS, human, limit, panels, save, ticks, trace
from benchmarks.question import Figure, Plot, at_least

METRIC: Final = "records_per_s"
COMMAND: Final = "uv run python -m benchmarks flush"

FAIR: Final = {
    "the article's flusher": (
        "benchmarks/article.py as the article has it, with the number of flushers that suits it best, redis-py with "
        "hiredis, and SQLite with asyncwb's pragmas; its flushers share a connection, so that one's commit also covers "
        "what others have written before it"
    ),
    "the bare limit of SQLite": (
        "the same table, statement, pragmas and batches, rows made beforehand, in a plain thread of a process that "
        "does nothing else; no Redis, no event loop"
    ),
    "the bare limit of MongoDB": (
        "the same operations, made beforehand, with the same driver, majority and journaled, in bulks of the size and "
        "with the number of callers that suit it best; a collection without asyncwb's index of tombstones"
    ),
    "the bare limit of files": (
        "plain files in one folder, without versions and without looking what is there; write, fsync and rename each, "
        "in 1 to 32 threads, and also written, synced and renamed many together, of which the fastest counts"
    ),
    "asyncwb, defaults": (
        "where the defaults are also among the other settings they are measured twice a round; how far the two are "
        "apart is noise, and the best settings are the luckiest of all"
    ),
    "all of them": (
        "the same keys and values, each into a fresh table, collection or folder; what was written before the clock "
        "starts is synced before it starts"
    ),
}


def figures(results: Results) -> Sequence[Figure]:
    found: list[Figure] = []
    for place in PLACES:
        best, bare = best_settings(results, place), bare_limit(results, place)
        if best is None or bare is None:
            continue
        if place is SQLITE:
            article = _best(results.where(backend=place.name, who="article"))
            what = f"flush to SQLite, best settings ({_settings(best)}) : article's flusher"
            found += _ratio(results, best, article, 110, what)
            same = _best(results.where(backend=place.name, who="limit", batch=best.labels["batch"]))
            found += _ratio(results, best, same, 0.6, "flush : bare limit of SQLite, the same batch")
            if same is not bare:
                what = f"flush : bare limit of SQLite, its best batch ({bare.labels['batch']})"
                found += _ratio(results, best, bare, 0.6, what)
        else:
            found += _ratio(results, best, bare, 0.85, f"flush : bare limit of {place.name}")
        defaults = _best(results.where(backend=place.name, who="asyncwb, defaults"))
        found += _ratio(results, defaults, best, 0.85, f"defaults : best settings, flush to {place.name}")
    return found


def _ratio(results: Results, of: Series | None, to: Series | None, least: float, what: str) -> list[Figure]:
    if of is None or to is None:
        return []
    return at_least(results, of.name, to.name, METRIC, least, what=what, command=COMMAND)


def best_settings(results: Results, place: Place) -> Series | None:
    """The fastest of asyncwb's."""
    tuned = results.where(backend=place.name, who="asyncwb")
    # Without any tuned ones, as in quick form, there is nothing to compare with.
    return _best([*tuned, *results.where(backend=place.name, who="asyncwb, defaults")]) if tuned else None


def bare_limit(results: Results, place: Place) -> Series | None:
    """The fastest of the limits, whatever its batch."""
    return _best(results.where(backend=place.name, who="limit"))


def _best(series: Sequence[Series]) -> Series | None:
    return max(series, key=lambda each: each.median(METRIC), default=None)


def _settings(series: Series) -> str:
    return f"{series.labels['flushers']} flushers, batches of {series.labels['batch']}"


# Pictures


def plots(results: Results, folder: Path) -> Sequence[Plot]:
    return [plot for place in PLACES for plot in _plot(results, place, folder)]


def _plot(results: Results, place: Place, folder: Path) -> Iterator[Plot]:
    best, bare = best_settings(results, place), bare_limit(results, place)
    if best is None or bare is None:
        return
    share = results.ratio(best.name, bare.name, METRIC).median
    tuned = results.where(backend=place.name, who="asyncwb")
    usual_flushers = results.where(backend=place.name, who="asyncwb, defaults")[0].labels["flushers"]
    figure, (by_flushers, by_batch) = panels(
        f"Flushing to {place.name}: {human(best.median(METRIC))} records a second, {share:.0%} of the bare limit",
        "flushers",
        "records per second",
        [f"over flushers, batches of {place.usual}", f"over batch size, {usual_flushers} flushers"],
        log_x=True,
    )
    by_batch.set_xlabel("records per batch")
    over_flushers = [each for each in tuned if each.labels["batch"] == place.usual]
    over_batch = [each for each in tuned if each.labels["flushers"] == usual_flushers]
    for axes, series, over in ((by_flushers, over_flushers, "flushers"), (by_batch, over_batch, "batch")):
        trace(axes, series, over, METRIC, label="asyncwb", colour=COLOURS["asyncwb"])
        measured = [float(each.labels[over]) for each in series]
        ticks(axes, [x for x in measured if over == "flushers" or not any(x / 3 < y < x for y in measured)])
    limit(by_flushers, bare.median(METRIC), "bare limit")
    bare_too = limits_by_batch(results, place)
    trace(by_batch, bare_too, "batch", METRIC, label="bare limit", colour=COLOURS["limit"], dashed=True)
    article = _best(results.where(backend=place.name, who="article"))
    if article is not None:
        limit(by_flushers, article.median(METRIC), "the article")
    name = f"flush-{place.name.lower()}"
    save(figure, folder, name)
    yield Plot(
        name=name,
        caption=f"How many records a second get from a full Redis into {place.name}, with more flushers (left) and "
        "with larger batches (right); error bars are the lowest and the highest of all rounds. Dashed is what the "
        "backend takes where the same records are at hand already and nothing else has to be done: "
        f"{bare.labels['way']} at best.",
    )


def limits_by_batch(results: Results, place: Place) -> list[Series]:
    """The fastest limit of each batch size that asyncwb was measured with."""
    found = []
    for batch in place.counts:
        fastest = _best(results.where(backend=place.name, who="limit", batch=batch))
        if fastest is not None:
            found.append(fastest)
    return found


# Tables


def tables(results: Results) -> str:
    return "\n\n".join(part for place in PLACES for part in _tables(results, place))


def _tables(results: Results, place: Place) -> Iterator[str]:
    bare = bare_limit(results, place)
    if bare is None:
        return
    yield f"### {place.name}"
    rows = ["| asyncwb | records | records per second | of the bare limit |", "|---|--:|--:|--:|"]
    asyncwb = [each for each in results.where(backend=place.name) if str(each.labels["who"]).startswith("asyncwb")]
    for each in asyncwb:
        who = str(each.labels["who"]).removeprefix("asyncwb").removeprefix(", ") or "inserts"
        to = _best(results.where(backend=place.name, who="limit, updates")) if who == "updates" else bare
        share = f"{results.ratio(each.name, to.name, METRIC).median:.0%}" if to is not None else ""
        rows.append(f"| {who}: {_settings(each)} | {each.labels['records']:,} | {_shown(each)} | {share} |")
    yield "\n".join(rows)
    rows = ["| compared with | records | records per second |", "|---|--:|--:|"]
    for each in results.where(backend=place.name):
        if each not in asyncwb:
            name = each.name.removeprefix(f"{place.name}: ")
            rows.append(f"| {name} | {each.labels['records']:,} | {_shown(each)} |")
    yield "\n".join(rows)


def _shown(series: Series) -> str:
    low, high = series.spread(METRIC)
    return f"{series.median(METRIC):,.0f} ({low:,.0f} – {high:,.0f})"
